package token_test

import (
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/complianced/complianced/graph"
	"github.com/complianced/complianced/graph/token"
	"github.com/complianced/complianced/graph/token/tokentest"
)

func TestATokenOfTheIssuerIsGrantedItsScopes(t *testing.T) {
	issuer := tokentest.NewIssuer(t)
	o := newOIDC(t, issuer)
	for _, c := range []struct {
		name   string
		change map[string]any
		want   graph.Grant
	}{
		{"a writing scope", nil, writes},
		{"a reading scope", map[string]any{"scp": graph.ScopeRead}, reads},
		{"a text of several", map[string]any{"scp": "openid  " + graph.ScopeRead + " User.Read"}, reads},
		{"a list", map[string]any{"scp": []string{"openid", graph.ScopeReadWrite}}, writes},
		{"no scope", map[string]any{"scp": nil}, graph.Grant{}},
		{"an empty scope", map[string]any{"scp": ""}, graph.Grant{}},
		{"null", map[string]any{"scp": json.RawMessage("null"), "roles": json.RawMessage("null")}, graph.Grant{}},
		{"other scopes only", map[string]any{"scp": strings.ToLower(graph.ScopeRead) + " x" + graph.ScopeRead, "roles": []string{graph.ScopeRead + " " + graph.ScopeReadWrite}}, graph.Grant{}},
		{"a scope in another claim", map[string]any{"scp": nil, "scope": graph.ScopeReadWrite, "SCP": graph.ScopeReadWrite, "groups": []string{graph.ScopeReadWrite}}, graph.Grant{}},
		{"a role", map[string]any{"scp": nil, "roles": []string{graph.ScopeRead}}, reads},
		{"a role that is a text", map[string]any{"scp": nil, "roles": graph.ScopeReadWrite}, writes},
		{"a reading scope and a writing role", map[string]any{"scp": graph.ScopeRead, "roles": []string{graph.ScopeReadWrite}}, writes},
		{"several audiences", map[string]any{"aud": []string{"other", tokentest.Audience}}, writes},
		{"the other audience", map[string]any{"aud": "another"}, writes},
		{"neither nbf nor iat", map[string]any{"nbf": nil, "iat": nil}, writes},
	} {
		t.Run(c.name, func(t *testing.T) {
			wantGrant(t, o, issuer.Sign(c.change), c.want)
		})
	}
	if got := issuer.Fetches(); got != 1 {
		t.Errorf("the keys were fetched %d times, want once", got)
	}
}

func TestEveryAllowedAlgorithmVerifies(t *testing.T) {
	issuer := tokentest.NewIssuer(t)
	o := newOIDC(t, issuer)
	for _, algorithm := range []jose.SignatureAlgorithm{
		jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512,
	} {
		wantGrant(t, o, tokentest.Sign(t, algorithm, issuer.Key(algorithm), issuer.Claims(nil)), writes)
	}
}

// raw returns a token of any parts.
func raw(header, payload, signature string) string {
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(header)) + "." + encode([]byte(payload)) + "." + encode([]byte(signature))
}

func claimsText(t *testing.T, claims map[string]any) string {
	t.Helper()
	text, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What is wrong with a token besides its signature is found without the issuer.
func TestAWrongTokenIsRefusedWithoutAskingTheIssuer(t *testing.T) {
	issuer := tokentest.NewIssuer(t)
	clock := newClock()
	o := newOIDC(t, issuer, func(o *token.OIDCOptions) { o.Now = clock.Now })
	good := issuer.Sign(nil)
	parts := strings.Split(good, ".")
	valid := claimsText(t, issuer.Claims(nil))
	at := func(d time.Duration) int64 { return clock.Now().Add(d).Unix() }
	key := issuer.Key(jose.RS256)
	public := key.Key.(*rsa.PrivateKey).Public().(*rsa.PublicKey)
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	jwk, err := json.Marshal(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	hmac := func(secret []byte) string {
		return tokentest.Sign(t, jose.HS256, jose.JSONWebKey{Key: secret, KeyID: key.KeyID}, issuer.Claims(nil))
	}
	wrong := map[string]string{
		"empty":                          "",
		"no token":                       "x",
		"a static token":                 "cpl_0123456789",
		"dots":                           "..",
		"two parts":                      parts[0] + "." + parts[1],
		"four parts":                     good + "." + parts[2],
		"no signature":                   parts[0] + "." + parts[1] + ".",
		"JSON serialization":             `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
		"five parts":                     good + ".a.b",
		"oversized":                      issuer.Sign(map[string]any{"padding": strings.Repeat("x", 8<<10)}),
		"none":                           raw(`{"alg":"none"}`, valid, ""),
		"None":                           raw(`{"alg":"None","typ":"JWT"}`, valid, "x"),
		"no algorithm":                   raw(`{}`, valid, "x"),
		"HS256 with the public PEM":      hmac(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})),
		"HS256 with the public DER":      hmac(der),
		"HS256 with the public PKCS1":    hmac(x509.MarshalPKCS1PublicKey(public)),
		"HS256 with the public JWK":      hmac(jwk),
		"HS256 with the modulus":         hmac(public.N.Bytes()),
		"EdDSA":                          raw(`{"alg":"EdDSA"}`, valid, "x"),
		"claims that are no object":      raw(`{"alg":"RS256"}`, `[]`, "x"),
		"claims that are no JSON":        raw(`{"alg":"RS256"}`, `{`, "x"),
		"a claim twice":                  raw(`{"alg":"RS256"}`, strings.Replace(valid, "{", `{"scp":"x",`, 1), "x"),
		"another issuer":                 issuer.Sign(map[string]any{"iss": "https://example.com"}),
		"the issuer with a slash":        issuer.Sign(map[string]any{"iss": issuer.URL + "/"}),
		"no issuer":                      issuer.Sign(map[string]any{"iss": nil}),
		"another audience":               issuer.Sign(map[string]any{"aud": "api://other"}),
		"an audience in upper case":      issuer.Sign(map[string]any{"aud": strings.ToUpper(tokentest.Audience)}),
		"no audience":                    issuer.Sign(map[string]any{"aud": nil}),
		"an empty list of audiences":     issuer.Sign(map[string]any{"aud": []string{}}),
		"audiences that are no texts":    issuer.Sign(map[string]any{"aud": []int{1}}),
		"expired":                        issuer.Sign(map[string]any{"exp": at(-time.Minute - 2*time.Second)}),
		"no expiry":                      issuer.Sign(map[string]any{"exp": nil}),
		"an expiry that is null":         issuer.Sign(map[string]any{"exp": json.RawMessage("null")}),
		"an expiry that is a text":       issuer.Sign(map[string]any{"exp": "tomorrow"}),
		"an expiry beyond all":           issuer.Sign(map[string]any{"exp": 1e300}),
		"not yet valid":                  issuer.Sign(map[string]any{"nbf": at(time.Minute + 2*time.Second)}),
		"issued in the future":           issuer.Sign(map[string]any{"iat": at(time.Minute + 2*time.Second)}),
		"scopes that are a number":       issuer.Sign(map[string]any{"scp": 1}),
		"roles that are an object":       issuer.Sign(map[string]any{"roles": map[string]any{graph.ScopeRead: true}}),
		"roles with one that is no text": issuer.Sign(map[string]any{"roles": []any{graph.ScopeRead, 1}}),
	}
	refuseAll := func(t *testing.T) {
		t.Helper()
		for name, text := range wrong {
			t.Run(name, func(t *testing.T) { wantRefused(t, o, text) })
		}
	}
	refuseAll(t)
	issuer.Stop()
	t.Run("while the issuer is down", refuseAll)
	issuer.Start()
	if got := issuer.Fetches(); got != 0 {
		t.Errorf("the keys were fetched %d times", got)
	}
	wantGrant(t, o, good, writes) // The issuer was not asked in vain before, either.
}

func TestTheClockOfTheIssuerMayBeAMinuteFromOurs(t *testing.T) {
	issuer := tokentest.NewIssuer(t)
	clock := &clock{at: time.Now().Truncate(time.Second)}
	o := newOIDC(t, issuer, func(o *token.OIDCOptions) { o.Now = clock.Now })
	at := func(d time.Duration) int64 { return clock.Now().Add(d).Unix() }
	wantGrant(t, o, issuer.Sign(map[string]any{"exp": at(-time.Minute)}), writes)
	wantGrant(t, o, issuer.Sign(map[string]any{"nbf": at(time.Minute), "iat": at(time.Minute)}), writes)
	text := issuer.Sign(map[string]any{"exp": at(time.Hour)})
	wantGrant(t, o, text, writes)
	clock.Add(time.Hour + time.Minute)
	wantGrant(t, o, text, writes)
	clock.Add(1)
	wantRefused(t, o, text)
}

func TestATokenThatTheIssuerDidNotSignIsRefused(t *testing.T) {
	issuer := tokentest.NewIssuer(t)
	o := newOIDC(t, issuer)
	good := issuer.Sign(nil)
	wantGrant(t, o, good, writes)
	parts := strings.Split(good, ".")
	otherParts := strings.Split(issuer.Sign(map[string]any{"scp": graph.ScopeRead}), ".")
	foreign, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	kid := issuer.Key(jose.RS256).KeyID
	public := &issuer.Key(jose.RS256).Key.(*rsa.PrivateKey).PublicKey
	encode := base64.RawURLEncoding.EncodeToString
	for name, text := range map[string]string{
		"the signature of another token": otherParts[0] + "." + otherParts[1] + "." + parts[2],
		"the header of another token":    encode([]byte(`{"alg":"RS256","kid":"`+kid+`","typ":"JWT","x":1}`)) + "." + parts[1] + "." + parts[2],
		"a foreign key of its name":      tokentest.Sign(t, jose.RS256, jose.JSONWebKey{Key: foreign, KeyID: kid}, issuer.Claims(nil)),
		"a foreign key without a name":   tokentest.Sign(t, jose.RS256, foreign, issuer.Claims(nil)),
		"an unknown name":                tokentest.Sign(t, jose.RS256, jose.JSONWebKey{Key: foreign, KeyID: "unknown"}, issuer.Claims(nil)),
		"its own key of another name":    tokentest.Sign(t, jose.RS256, jose.JSONWebKey{Key: issuer.Key(jose.RS256).Key, KeyID: "unknown"}, issuer.Claims(nil)),
		"RS256 with the name of an EC key": tokentest.Sign(t, jose.RS256,
			jose.JSONWebKey{Key: issuer.Key(jose.RS256).Key, KeyID: issuer.Key(jose.ES256).KeyID}, issuer.Claims(nil)),
		"a key that the token brings along": encode([]byte(`{"alg":"RS256","jwk":{"kty":"RSA","e":"AQAB","n":"`+encode(foreign.N.Bytes())+`"}}`)) + "." + parts[1] + "." +
			strings.Split(tokentest.Sign(t, jose.RS256, foreign, issuer.Claims(nil)), ".")[2],
		"the modulus as the signature": parts[0] + "." + parts[1] + "." + encode(public.N.Bytes()),
		"an empty ES256 signature":     raw(`{"alg":"ES256","kid":"`+issuer.Key(jose.ES256).KeyID+`"}`, claimsText(t, issuer.Claims(nil)), strings.Repeat("\x00", 2*elliptic.P256().Params().BitSize/8)),
		"an extension that must be understood": func() string {
			signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: issuer.Key(jose.RS256)}, new(jose.SignerOptions).WithHeader("crit", []string{"x"}).WithHeader("x", 1))
			if err != nil {
				t.Fatal(err)
			}
			signed, err := signer.Sign([]byte(claimsText(t, issuer.Claims(nil))))
			if err != nil {
				t.Fatal(err)
			}
			text, err := signed.CompactSerialize()
			if err != nil {
				t.Fatal(err)
			}
			return text
		}(),
	} {
		t.Run(name, func(t *testing.T) { wantRefused(t, o, text) })
	}
	wantGrant(t, o, tokentest.Sign(t, jose.RS256, issuer.Key(jose.RS256).Key, issuer.Claims(nil)), writes) // A token need not name its key.
}

func TestOptionsThatAreWrongAreRefused(t *testing.T) {
	audiences := []string{tokentest.Audience}
	for _, c := range []struct {
		issuer    string
		audiences []string
		want      bool
	}{
		{"https://login.example.com/tenant/v2.0", audiences, true},
		{"http://127.0.0.1:8080", audiences, true},
		{"http://[::1]:8080/realm", audiences, true},
		{"http://localhost:8080", audiences, true},
		{"", audiences, false},
		{"login.example.com", audiences, false},
		{"https://", audiences, false},
		{"http://login.example.com", audiences, false},
		{"http://localhost.example.com", audiences, false},
		{"ftp://127.0.0.1", audiences, false},
		{"https://login.example.com?x=1", audiences, false},
		{"https://login.example.com#x", audiences, false},
		{"https://someone:secret@login.example.com", audiences, false},
		{"https://login.example.com\x00", audiences, false},
		{"https://login.example.com", nil, false},
		{"https://login.example.com", []string{""}, false},
	} {
		_, err := token.NewOIDC(token.OIDCOptions{Issuer: c.issuer, Audiences: c.audiences})
		if (err == nil) != c.want {
			t.Errorf("%q for %q: %v", c.issuer, c.audiences, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error has a secret: %v", err)
		}
	}
}
