package token

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/graph"
)

// prefix begins every token that [New] makes, so that it is seen to be one where it
// should not be.
const prefix = "cpl_"

// Entry is a token in a file, without the token. It is written as YAML.
type Entry struct {
	// Name is the operator's label: as an id, and once in a file.
	Name string `yaml:"name"`
	// SHA256 is the hash of the token, as 64 lower-case hexadecimal digits.
	SHA256 string `yaml:"sha256"`
	// Scopes are [graph.ScopeRead] or [graph.ScopeReadWrite], at least one.
	Scopes []string `yaml:"scopes"`
	// Device, where not empty, is the only one whose records the token is for.
	Device string `yaml:"device,omitempty"`
	// Expires, where not empty, is the instant from which the token is not valid any more,
	// as RFC 3339 writes it.
	Expires string `yaml:"expires,omitempty"`
}

// New makes a token of 256 random bits for an entry, and returns it with the entry that
// has its hash. The error says what is wrong with the entry.
func New(entry Entry) (string, Entry, error) {
	random := make([]byte, 32)
	rand.Read(random)
	token := prefix + base64.RawURLEncoding.EncodeToString(random)
	hash := sha256.Sum256([]byte(token))
	entry.SHA256 = hex.EncodeToString(hash[:])
	if _, err := entry.read(); err != nil {
		return "", Entry{}, err
	}
	return token, entry, nil
}

// Grant returns what the token of an entry allows while it is valid.
func (e Entry) Grant() graph.Grant {
	grant := graph.GrantOf(e.Scopes)
	grant.Device = e.Device
	return grant
}

// held is an entry that was read.
type held struct {
	hash    [sha256.Size]byte
	grant   graph.Grant
	expires time.Time // Zero where it does not.
}

// What is wrong with an entry. None has a value of the entry, which may be a token at the
// wrong place.
var (
	errName    = errors.New("name must be a label of 1 to 128 characters of A-Z a-z 0-9 _ -, which is not the token")
	errSHA256  = errors.New("sha256 must be the SHA-256 of the token, not the token, in 64 lower-case hexadecimal digits")
	errScopes  = errors.New("scopes must be a list of " + graph.ScopeRead + " or " + graph.ScopeReadWrite)
	errDevice  = errors.New("device must be an id of 1 to 128 characters of A-Z a-z 0-9 _ -")
	errExpires = errors.New("expires must be a date and time as RFC 3339 writes it, such as 2030-01-31T12:00:00Z")
)

// validName reports whether a name may be shown: it is none where the token stands there.
func validName(name string) bool {
	return compliance.ValidID(name) && !strings.HasPrefix(name, prefix)
}

func (e Entry) read() (held, error) {
	if !validName(e.Name) {
		return held{}, errName
	}
	h := held{grant: e.Grant()}
	hash, err := hex.DecodeString(e.SHA256)
	if err != nil || len(hash) != len(h.hash) || e.SHA256 != strings.ToLower(e.SHA256) {
		return held{}, errSHA256
	}
	copy(h.hash[:], hash)
	isUnknown := func(scope string) bool { return scope != graph.ScopeRead && scope != graph.ScopeReadWrite }
	if len(e.Scopes) == 0 || slices.ContainsFunc(e.Scopes, isUnknown) {
		return held{}, errScopes
	}
	if e.Device != "" && !compliance.ValidID(e.Device) {
		return held{}, errDevice
	}
	if e.Expires == "" {
		return h, nil
	}
	h.expires, err = time.Parse(time.RFC3339, e.Expires)
	if err != nil {
		return held{}, errExpires
	}
	return h, nil
}
