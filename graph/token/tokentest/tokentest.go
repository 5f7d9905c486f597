// Package tokentest runs an OpenID Connect issuer for tests.
package tokentest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/complianced/complianced/graph"
)

// Audience is whom the tokens of [Issuer.Sign] are for.
const Audience = "api://complianced"

// Issuer is an OpenID Connect issuer on loopback: it answers for its metadata and its
// keys. Its metadata allows algorithms that nobody should accept.
type Issuer struct {
	// URL is its name and address, which it keeps when it is started again.
	URL string

	tb      testing.TB
	address string
	server  *http.Server
	done    chan struct{}

	mutex     sync.Mutex
	rotations int
	keys      map[jose.SignatureAlgorithm]jose.JSONWebKey // Private.
	others    []jose.JSONWebKey
	fetches   int
}

// NewIssuer starts an issuer, which is stopped at the end of the test.
func NewIssuer(tb testing.TB) *Issuer {
	tb.Helper()
	i := &Issuer{tb: tb, address: "127.0.0.1:0"}
	i.Rotate()
	i.Start()
	tb.Cleanup(i.Stop)
	return i
}

// Start starts the issuer again where it was.
func (i *Issuer) Start() {
	i.tb.Helper()
	listener, err := new(net.ListenConfig).Listen(i.tb.Context(), "tcp", i.address)
	if err != nil {
		i.tb.Fatal(err)
	}
	i.address = listener.Addr().String()
	i.URL = "http://" + i.address
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", i.metadata)
	mux.HandleFunc("GET /keys", i.set)
	i.server = &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	i.done = make(chan struct{})
	go func(server *http.Server, done chan struct{}) {
		defer close(done)
		_ = server.Serve(listener) // It ends when the server is closed.
	}(i.server, i.done)
}

// Stop makes the issuer one that cannot be reached.
func (i *Issuer) Stop() {
	_ = i.server.Close() // Its listener and connections are of no use to anyone.
	<-i.done
}

// Rotate gives the issuer new keys of all kinds and withdraws the old ones.
func (i *Issuer) Rotate() {
	i.tb.Helper()
	i.mutex.Lock()
	defer i.mutex.Unlock()
	i.rotations++
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		i.tb.Fatal(err)
	}
	i.keys = make(map[jose.SignatureAlgorithm]jose.JSONWebKey)
	for _, algorithm := range []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512} {
		i.keys[algorithm] = jose.JSONWebKey{Key: private, KeyID: i.kid("rsa"), Use: "sig"}
	}
	for algorithm, curve := range map[jose.SignatureAlgorithm]elliptic.Curve{
		jose.ES256: elliptic.P256(), jose.ES384: elliptic.P384(), jose.ES512: elliptic.P521(),
	} {
		private, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			i.tb.Fatal(err)
		}
		i.keys[algorithm] = jose.JSONWebKey{Key: private, KeyID: i.kid(string(algorithm)), Use: "sig", Algorithm: string(algorithm)}
	}
}

func (i *Issuer) kid(kind string) string {
	return kind + "-" + strconv.Itoa(i.rotations)
}

// Publish puts other keys beside its own, in place of those that were.
func (i *Issuer) Publish(keys ...jose.JSONWebKey) {
	i.mutex.Lock()
	defer i.mutex.Unlock()
	i.others = keys
}

// Key returns the private key with which the issuer signs.
func (i *Issuer) Key(algorithm jose.SignatureAlgorithm) jose.JSONWebKey {
	i.mutex.Lock()
	defer i.mutex.Unlock()
	return i.keys[algorithm]
}

// Fetches returns how often its keys were asked for.
func (i *Issuer) Fetches() int {
	i.mutex.Lock()
	defer i.mutex.Unlock()
	return i.fetches
}

// Claims returns those of a token of this issuer for [Audience] that may write and is
// valid for an hour, with some changed. One that is changed to nil is left out.
func (i *Issuer) Claims(change map[string]any) map[string]any {
	now := time.Now()
	claims := map[string]any{
		"iss": i.URL, "aud": Audience, "sub": "someone", "scp": graph.ScopeReadWrite,
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	}
	for name, value := range change {
		claims[name] = value
		if value == nil {
			delete(claims, name)
		}
	}
	return claims
}

// Sign returns a token with [Issuer.Claims], signed with RS256.
func (i *Issuer) Sign(change map[string]any) string {
	i.tb.Helper()
	return Sign(i.tb, jose.RS256, i.Key(jose.RS256), i.Claims(change))
}

// Sign returns a token with claims, signed with a key of any kind.
func Sign(tb testing.TB, algorithm jose.SignatureAlgorithm, key any, claims map[string]any) string {
	tb.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, new(jose.SignerOptions).WithType("JWT"))
	if err != nil {
		tb.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		tb.Fatal(err)
	}
	return token
}

func (i *Issuer) metadata(w http.ResponseWriter, _ *http.Request) {
	i.answer(w, map[string]any{
		"issuer": i.URL, "jwks_uri": i.URL + "/keys",
		"id_token_signing_alg_values_supported": []string{"none", "HS256", "RS256", "ES256"},
	})
}

func (i *Issuer) set(w http.ResponseWriter, _ *http.Request) {
	i.mutex.Lock()
	defer i.mutex.Unlock()
	i.fetches++
	// One of a kind that nobody knows comes first: it must not hide the others.
	keys := []any{map[string]any{"kty": "LATTICE", "kid": "unknown-kind"}}
	for _, algorithm := range []jose.SignatureAlgorithm{jose.RS256, jose.ES256, jose.ES384, jose.ES512} {
		key := i.keys[algorithm]
		keys = append(keys, key.Public())
	}
	for _, key := range i.others {
		keys = append(keys, key)
	}
	i.answer(w, map[string]any{"keys": keys})
}

func (i *Issuer) answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(value); err != nil {
		i.tb.Error(err)
	}
}
