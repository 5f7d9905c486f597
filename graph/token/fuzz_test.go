package token_test

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/graph"
	"github.com/complianced/complianced/graph/token"
	"github.com/complianced/complianced/graph/token/tokentest"
)

// Authorize never panics, always knows while there are keys, and grants nothing that the
// issuer did not sign. What is signed is decided here by the standard library alone.
func FuzzOIDC(f *testing.F) {
	issuer := tokentest.NewIssuer(f)
	clock := newClock() // The keys never become old, so that they are fetched twice at most.
	o := newOIDC(f, issuer, func(o *token.OIDCOptions) { o.Now = clock.Now })
	good := issuer.Sign(nil)
	public := &issuer.Key(jose.RS256).Key.(*rsa.PrivateKey).PublicKey
	parts := strings.Split(good, ".")
	f.Add(good)
	f.Add(issuer.Sign(map[string]any{"scp": graph.ScopeRead, "roles": []string{"x"}}))
	f.Add(issuer.Sign(map[string]any{"aud": []string{"x", tokentest.Audience}}))
	f.Add(issuer.Sign(map[string]any{"exp": clock.Now().Add(-time.Hour).Unix()}))
	f.Add(tokentest.Sign(f, jose.HS256, []byte("0123456789abcdef0123456789abcdef"), issuer.Claims(nil)))
	f.Add(raw(`{"alg":"none"}`, `{}`, ""))
	f.Add(raw(`{"alg":"none"}`, "", "") + parts[1] + ".")
	f.Add(parts[0] + "." + parts[1] + ".")
	f.Add(parts[0] + ".." + parts[2])
	f.Add(good + "." + parts[2])
	f.Add("cpl_0123456789")
	f.Fuzz(func(t *testing.T, text string) {
		grant, err := o.Authorize(t.Context(), text)
		if err != nil {
			if !errors.Is(err, graph.ErrToken) || grant != (graph.Grant{}) {
				t.Fatalf("got %+v and %v", grant, err)
			}
			return
		}
		if !isSigned(public, text) {
			t.Fatalf("%+v for a token that is not signed", grant)
		}
	})
}

// isSigned reports whether a text is signed with RS256 and the key.
func isSigned(public *rsa.PublicKey, text string) bool {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return false
	}
	decoded := make([][]byte, len(parts))
	for i, part := range parts {
		var err error
		if decoded[i], err = base64.RawURLEncoding.DecodeString(part); err != nil {
			return false
		}
	}
	var header struct {
		Algorithm string `json:"alg"`
	}
	if json.Unmarshal(decoded[0], &header) != nil || header.Algorithm != "RS256" {
		return false
	}
	encode := base64.RawURLEncoding.EncodeToString
	hash := sha256.Sum256([]byte(encode(decoded[0]) + "." + encode(decoded[1])))
	return rsa.VerifyPKCS1v15(public, crypto.SHA256, hash[:], decoded[2]) == nil
}

// OpenFile never panics, and its error has no token that is in the file by mistake.
func FuzzFile(f *testing.F) {
	entry := "- {name: first, sha256: " + strings.Repeat("5", 64) + ", scopes: [" + graph.ScopeRead + "]"
	f.Add("[]")
	f.Add(entry + "}")
	f.Add(entry + ", device: device-1, expires: 2030-01-31T12:00:00Z}\n" + strings.NewReplacer("first", "second", "5", "6").Replace(entry) + "}")
	f.Add(entry + ", device: }")
	f.Add("- &a {name: first, sha256: x, scopes: [x]}\n- {<<: *a, name: second}")
	f.Add("- cpl_0123456789")
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "tokens.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := token.OpenFile(path, token.FileOptions{})
		if err == nil {
			return
		}
		reason := strings.TrimPrefix(err.Error(), "token file "+path+": ")
		for part := range strings.FieldsFuncSeq(text, func(r rune) bool { return !compliance.ValidID(string(r)) }) {
			if strings.HasPrefix(part, "cpl_") && strings.Contains(reason, part) {
				t.Fatalf("the error has a token: %q", err)
			}
		}
	})
}
