package main_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/complianced/complianced/graph"
	"github.com/complianced/complianced/graph/token/tokentest"
)

// as sends a request with a token of its own.
func (s *serving) as(token, method, path, body string) response {
	s.Helper()
	return s.call(method, policies+path, body, "Authorization", "Bearer "+token)
}

// newToken makes a token for a file of --api-tokens.
func newToken(t *testing.T, file string, args ...string) string {
	t.Helper()
	entry, token, status := command(t, "", append([]string{"token", "--new"}, args...)...)
	if status != 0 {
		t.Fatal(token)
	}
	if strings.Contains(entry, strings.TrimSpace(token)) {
		t.Error("the entry holds the token")
	}
	list, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer list.Close()
	if _, err := list.WriteString(entry); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(token)
}

func TestATokenAllowsWhatItSays(t *testing.T) {
	issuer := tokentest.NewIssuer(t)
	file := filepath.Join(t.TempDir(), "tokens.yaml")
	writer := newToken(t, file, "--name", "writer", "--scope", graph.ScopeReadWrite)
	reader := newToken(t, file, "--name", "reader", "--scope", graph.ScopeRead)
	bound := newToken(t, file, "--name", "bound", "--scope", graph.ScopeReadWrite, "--device", "laptop-7")
	s := serve(t, "--api-tokens", file, "--oidc-issuer", issuer.URL, "--oidc-audience", tokentest.Audience)
	if s.Token != "" {
		t.Error("the serve made a token although its settings say who may use the API")
	}
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	key := issuer.Key(jose.RS256)
	public, err := x509.MarshalPKIXPublicKey(key.Public().Key)
	if err != nil {
		t.Fatal(err)
	}
	asPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})
	claims := issuer.Claims(nil)
	unsigned := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + strings.Split(issuer.Sign(nil), ".")[1] + "."
	withKID := func(kid string) string {
		return tokentest.Sign(t, jose.RS256, jose.JSONWebKey{Key: other, KeyID: kid}, claims)
	}
	const record = "p/deviceStatuses/laptop-7"
	for name, wrong := range map[string]string{
		"wrong":                          writer + "x",
		"expired":                        issuer.Sign(map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}),
		"without an end":                 issuer.Sign(map[string]any{"exp": nil}),
		"not yet valid":                  issuer.Sign(map[string]any{"nbf": time.Now().Add(time.Hour).Unix()}),
		"for others":                     issuer.Sign(map[string]any{"aud": "api://another"}),
		"of another issuer":              issuer.Sign(map[string]any{"iss": "https://issuer.example"}),
		"alg none":                       unsigned,
		"HS256 with the public key, DER": tokentest.Sign(t, jose.HS256, public, claims),
		"HS256 with the public key, PEM": tokentest.Sign(t, jose.HS256, asPEM, claims),
		"an unknown kid":                 withKID("unknown"),
		"the kid of another key":         withKID(key.KeyID),
		"no token at all":                "..",
		"large":                          strings.Repeat("x", 12<<10),
	} {
		for _, method := range []string{http.MethodGet, http.MethodPatch, http.MethodDelete} {
			r := s.as(wrong, method, record, `{"status":"error"}`)
			r.fault(http.StatusUnauthorized, "InvalidAuthenticationToken")
			if r.header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s: no WWW-Authenticate", name)
			}
			if strings.Contains(r.body, wrong) {
				t.Errorf("%s: the error holds the token", name)
			}
		}
	}
	for name, c := range map[string]struct{ token, method, path, body string }{
		"read scope on PATCH":         {reader, http.MethodPatch, record, `{}`},
		"read scope on DELETE":        {reader, http.MethodDelete, record, ``},
		"read role on PATCH":          {issuer.Sign(map[string]any{"scp": nil, "roles": []string{graph.ScopeRead}}), http.MethodPatch, record, `{}`},
		"no scope":                    {issuer.Sign(map[string]any{"scp": "User.Read", "roles": nil}), http.MethodGet, record, ``},
		"another device":              {bound, http.MethodPatch, "p/deviceStatuses/laptop-8", `{}`},
		"another device's record":     {bound, http.MethodGet, "p/deviceStatuses/laptop-8", ``},
		"another device to delete":    {bound, http.MethodDelete, "p/deviceStatuses/laptop-8", ``},
		"another device in the body":  {bound, http.MethodPatch, "p/deviceStatuses", `{"id":"laptop-8"}`},
		"another device in a delta":   {bound, http.MethodPatch, "p/deviceStatuses", `{"value":[{"id":"laptop-7"},{"id":"laptop-8"}]}`},
		"all devices for one device":  {bound, http.MethodGet, "p/deviceStatuses", ``},
		"the overview for one device": {bound, http.MethodGet, "p/deviceStatusOverview", ``},
	} {
		if r := s.as(c.token, c.method, c.path, c.body); r.status != http.StatusForbidden {
			t.Errorf("%s: %d %s", name, r.status, r.body)
		} else {
			r.fault(http.StatusForbidden, "Authorization_RequestDenied")
		}
	}
	if n := s.stored(); n != 0 {
		t.Fatalf("%d reports are stored", n)
	}
	for i, right := range []string{writer, bound, issuer.Sign(nil), issuer.Sign(map[string]any{"scp": nil, "roles": []string{graph.ScopeReadWrite}})} {
		name := fmt.Sprint("name ", i)
		if have := s.as(right, http.MethodPatch, record, fmt.Sprintf(`{"userName":%q}`, name)).want(http.StatusOK).object(); have["userName"] != name {
			t.Errorf("record %v", have)
		}
	}
	// A token that is for one device may leave the id out.
	if have := s.as(bound, http.MethodPatch, "p/deviceStatuses", `{"userName":"own"}`).want(http.StatusOK).object(); have["id"] != "laptop-7" {
		t.Errorf("record %v", have)
	}
	if have := s.as(reader, http.MethodGet, record, "").want(http.StatusOK).object(); have["userName"] != "own" {
		t.Errorf("record %v", have)
	}
	// An issuer that is away takes away nothing that is known.
	issuer.Stop()
	s.as(issuer.Sign(nil), http.MethodGet, record, "").want(http.StatusOK)
	s.as(withKID("unknown"), http.MethodGet, record, "").want(http.StatusUnauthorized)

	log, err := os.ReadFile(s.log.Name())
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{writer, reader, bound, "laptop-7", "eyJ"} {
		if strings.Contains(string(log), secret) {
			t.Errorf("the log holds %s", secret)
		}
	}
}

func TestTheTokenOfAServeIsInItsFolderAlone(t *testing.T) {
	s := serve(t, "--log-level", "debug")
	if have := strings.TrimSpace(s.run("", "token")); have == "" || have != s.Token {
		t.Errorf("token prints %q, serve.json has %q", have, s.Token)
	}
	s.patch("p/deviceStatuses/laptop-7", `{"userName":"ann"}`, "client-request-id", "my-request").want(http.StatusOK)
	s.patch("p/deviceStatuses/laptop-7", `{"userName":7}`).want(http.StatusBadRequest)
	log, err := os.ReadFile(s.log.Name())
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{s.Token, "laptop-7", "ann"} {
		if strings.Contains(string(log), secret) {
			t.Errorf("the log holds %s", secret)
		}
	}
	if !strings.Contains(string(log), "client_request_id=my-request") || !strings.Contains(string(log), "operation=update status=400") {
		t.Errorf("the log lacks the requests: %s", log)
	}
	info, err := os.Stat(filepath.Join(s.dir, "serve.json"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("serve.json: %v, %v", info.Mode(), err)
	}
	without := serve(t, "--roles", "state")
	if _, stderr, status := command(t, "", "token", "--data-dir", without.dir); status != 1 || !strings.Contains(stderr, "--roles") {
		t.Errorf("token of a serve without an API: %d %s", status, stderr)
	}
}

func TestSettingsOfTheAPIThatAreWrong(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--http-listen", "nowhere"}, "--http-listen"},
		{[]string{"--http-listen", ":8080"}, "--insecure-http"},
		{[]string{"--http-listen", "10.0.0.1:8080"}, "--http-tls-cert"},
		{[]string{"--http-tls-cert", file}, "--http-tls-key"},
		{[]string{"--http-tls-cert", file, "--http-tls-key", file}, "--http-tls-cert"},
		{[]string{"--http-base-url", "example.com"}, "--http-base-url"},
		{[]string{"--api-wait", "0s"}, "--api-wait"},
		{[]string{"--api-wait", "31s"}, "--api-wait"},
		{[]string{"--api-concurrency", "0"}, "--api-concurrency"},
		{[]string{"--api-link-key-file", file}, "32 bytes"},
		{[]string{"--api-link-key-file", file + "x"}, "--api-link-key-file"},
		{[]string{"--api-tokens", file}, "--api-tokens"},
		{[]string{"--oidc-issuer", "https://issuer.example"}, "--oidc-audience"},
		{[]string{"--oidc-issuer", "http://issuer.example", "--oidc-audience", "x"}, "https"},
	} {
		_, stderr, status := command(t, "", append([]string{"serve", "--data-dir", t.TempDir()}, c.args...)...)
		if status != 2 || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("serve %v: status %d: %s", c.args, status, stderr)
		}
	}
	// Where the role is left out, its settings do not count.
	serve(t, "--roles", "state", "--http-listen", ":8080")
}

func TestTheAPIWithTLS(t *testing.T) {
	dir := t.TempDir()
	certificate, key := selfSigned(t, dir)
	s := serve(t, "--http-tls-cert", certificate, "--http-tls-key", key, "--http-listen", ":0")
	if !strings.HasPrefix(s.HTTP, "https://") {
		t.Fatalf("the API is at %s", s.HTTP)
	}
	answer := s.secure(certificate, policies+"p/deviceStatuses")
	if want := `{"@odata.context":"https://localhost:`; !strings.HasPrefix(answer, want) {
		t.Errorf("the answer is %s, want %s", answer, want)
	}
}

// selfSigned writes a certificate for localhost and its key.
func selfSigned(t *testing.T, dir string) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true,
	}, &x509.Certificate{}, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	certificate, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{certificate: {Type: "CERTIFICATE", Bytes: text}, key: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certificate, key
}

// secure reads a path of an API that has TLS with a certificate for localhost.
func (s *serving) secure(certificate, path string) string {
	s.Helper()
	text, err := os.ReadFile(certificate)
	if err != nil {
		s.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	_, port, err := net.SplitHostPort(strings.TrimPrefix(s.HTTP, "https://"))
	if err != nil {
		s.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(s.Context(), http.MethodGet, "https://localhost:"+port+path, http.NoBody)
	if err != nil {
		s.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+s.Token)
	answer, err := client.Do(request)
	if err != nil {
		s.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		s.Fatal(err)
	}
	return string(body)
}
