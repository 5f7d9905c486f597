package token_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/complianced/complianced/graph/token"
	"github.com/complianced/complianced/graph/token/tokentest"
)

const interval = 10 * time.Second // The default of OIDCOptions.KeyInterval.

func newRSA(t *testing.T, bits int) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestManyUnknownKeysAskTheIssuerOnceInAnInterval(t *testing.T) {
	issuer := tokentest.NewIssuer(t)
	clock := newClock()
	o := newOIDC(t, issuer, func(o *token.OIDCOptions) { o.Now = clock.Now })
	wantGrant(t, o, issuer.Sign(nil), writes)
	foreign := newRSA(t, 2048)
	for round := 1; round <= 3; round++ {
		clock.Add(interval - 1)
		refuseMany(t, o, issuer, foreign)
		if got := issuer.Fetches(); got != round {
			t.Fatalf("in round %d, too early, the keys were fetched %d times", round, got)
		}
		clock.Add(1)
		refuseMany(t, o, issuer, foreign)
		if got := issuer.Fetches(); got != round+1 {
			t.Fatalf("in round %d the keys were fetched %d times", round, got)
		}
	}
}

// refuseMany has many tokens at once refused, each with a key of another name, and half of
// them with a name that is known.
func refuseMany(t *testing.T, o *token.OIDC, issuer *tokentest.Issuer, foreign *rsa.PrivateKey) {
	t.Helper()
	good := issuer.Sign(nil)
	var group sync.WaitGroup
	for n := range 20 {
		kid := fmt.Sprint("unknown-", n)
		if n%2 == 0 {
			kid = issuer.Key(jose.RS256).KeyID
		}
		text := tokentest.Sign(t, jose.RS256, jose.JSONWebKey{Key: foreign, KeyID: kid}, issuer.Claims(nil))
		group.Go(func() {
			if grant, err := o.Authorize(t.Context(), text); err == nil {
				t.Errorf("granted %+v", grant)
			}
			checkGrant(t, o, good) // The others hear nothing of it.
		})
	}
	group.Wait()
}

// checkGrant is wantGrant in a goroutine.
func checkGrant(t *testing.T, o *token.OIDC, text string) {
	t.Helper()
	if grant, err := o.Authorize(t.Context(), text); err != nil || grant != writes {
		t.Errorf("got %+v and %v, want %+v", grant, err, writes)
	}
}

func TestRequestsAtOnceShareTheKeys(t *testing.T) {
	issuer := tokentest.NewIssuer(t)
	// It is never too early to ask.
	o := newOIDC(t, issuer, func(o *token.OIDCOptions) { o.KeyInterval = 1 })
	text := issuer.Sign(nil)
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() { checkGrant(t, o, text) })
	}
	group.Wait()
	if got := issuer.Fetches(); got != 1 {
		t.Errorf("the keys were fetched %d times, want once", got)
	}
}

func TestANewKeyIsFetched(t *testing.T) {
	issuer := tokentest.NewIssuer(t)
	clock := newClock()
	o := newOIDC(t, issuer, func(o *token.OIDCOptions) { o.Now = clock.Now })
	old := issuer.Sign(nil)
	wantGrant(t, o, old, writes)
	issuer.Rotate()
	next := issuer.Sign(nil)
	wantRefused(t, o, next) // Too early to ask.
	clock.Add(interval)
	wantGrant(t, o, old, writes) // Not known to be withdrawn.
	wantGrant(t, o, next, writes)
	wantRefused(t, o, old)
	if got := issuer.Fetches(); got != 2 {
		t.Errorf("the keys were fetched %d times, want twice", got)
	}
}

func TestAKeyThatIsWithdrawnIsUsedForAnHourAtMost(t *testing.T) {
	issuer := tokentest.NewIssuer(t)
	clock := newClock()
	o := newOIDC(t, issuer, func(o *token.OIDCOptions) { o.Now = clock.Now })
	old := issuer.Sign(map[string]any{"exp": clock.Now().Add(24 * time.Hour).Unix()})
	wantGrant(t, o, old, writes)
	issuer.Rotate()
	clock.Add(time.Hour - 1)
	wantGrant(t, o, old, writes)
	clock.Add(1)
	wantRefused(t, o, old)
}

func TestKeysThatCannotBeRenewedStayInUse(t *testing.T) {
	issuer := tokentest.NewIssuer(t)
	clock := newClock()
	var journal journal
	o := newOIDC(t, issuer, func(o *token.OIDCOptions) { o.Now, o.Logger = clock.Now, journal.logger() })
	text := issuer.Sign(map[string]any{"exp": clock.Now().Add(24 * time.Hour).Unix()})
	wantGrant(t, o, text, writes)
	issuer.Stop()
	for warnings := 1; warnings <= 2; warnings++ {
		clock.Add(time.Hour)
		wantGrant(t, o, text, writes)
		clock.Add(interval - 1)
		wantGrant(t, o, text, writes)
		if got := journal.warnings(); got != warnings {
			t.Errorf("%d warnings, want %d:\n%s", got, warnings, &journal)
		}
	}
	if strings.Contains(journal.String(), "someone") || strings.Contains(journal.String(), text) {
		t.Errorf("the log is %s", &journal)
	}
}

func TestAnIssuerThatIsDownIsAskedAgain(t *testing.T) {
	issuer := tokentest.NewIssuer(t)
	clock := newClock()
	issuer.Stop()
	o := newOIDC(t, issuer, func(o *token.OIDCOptions) { o.Now = clock.Now })
	text := issuer.Sign(nil)
	first := wantUnknown(t, o, text)
	issuer.Start()
	clock.Add(interval - 1)
	if again := wantUnknown(t, o, text); again.Error() != first.Error() {
		t.Errorf("the error is %v, want that of the last attempt: %v", again, first)
	}
	clock.Add(1)
	wantGrant(t, o, text, writes)
	// Down later: the keys that are there go on, and only one that is not there is unknown.
	issuer.Stop()
	clock.Add(interval)
	wantGrant(t, o, text, writes)
	parts := strings.Split(text, ".")
	other := strings.Split(issuer.Sign(map[string]any{"roles": "x"}), ".")
	wantRefused(t, o, parts[0]+"."+other[1]+"."+parts[2])
	issuer.Rotate()
	next := issuer.Sign(nil)
	wantUnknown(t, o, next)
	issuer.Start()
	clock.Add(interval)
	wantGrant(t, o, next, writes)
}

func TestKeysOfOneNameAreAllTried(t *testing.T) {
	issuer := tokentest.NewIssuer(t)
	clock := newClock()
	kid := issuer.Key(jose.RS256).KeyID
	second, third := newRSA(t, 2048), newRSA(t, 2048)
	public := func(key *rsa.PrivateKey) jose.JSONWebKey {
		return jose.JSONWebKey{Key: &key.PublicKey, KeyID: kid}
	}
	sign := func(key any) string {
		return tokentest.Sign(t, jose.RS256, jose.JSONWebKey{Key: key, KeyID: kid}, issuer.Claims(nil))
	}
	curve := issuer.Key(jose.ES256)
	curve.KeyID = kid
	issuer.Publish(curve.Public(), public(second))
	o := newOIDC(t, issuer, func(o *token.OIDCOptions) { o.Now = clock.Now })
	wantGrant(t, o, issuer.Sign(nil), writes)
	wantGrant(t, o, sign(second), writes)
	wantGrant(t, o, tokentest.Sign(t, jose.ES256, curve, issuer.Claims(nil)), writes)
	wantRefused(t, o, sign(third))
	// A new key may have the name of an old one.
	issuer.Publish(public(third))
	clock.Add(interval)
	wantGrant(t, o, sign(third), writes)
	wantRefused(t, o, sign(second))
}

func TestKeysThatAreNotForSignaturesAreNotUsed(t *testing.T) {
	issuer := tokentest.NewIssuer(t)
	foreign, small := newRSA(t, 2048), newRSA(t, 1024)
	issuer.Publish(
		jose.JSONWebKey{Key: &foreign.PublicKey, KeyID: "for encryption", Use: "enc"},
		jose.JSONWebKey{Key: &foreign.PublicKey, KeyID: "for another algorithm", Algorithm: "PS256"},
		jose.JSONWebKey{Key: foreign, KeyID: "private"},
		jose.JSONWebKey{Key: &small.PublicKey, KeyID: "too small"},
		jose.JSONWebKey{Key: []byte("0123456789abcdef0123456789abcdef"), KeyID: "symmetric"},
	)
	o := newOIDC(t, issuer)
	wantGrant(t, o, issuer.Sign(nil), writes)
	for _, kid := range []string{"for encryption", "for another algorithm", "private"} {
		wantRefused(t, o, tokentest.Sign(t, jose.RS256, jose.JSONWebKey{Key: foreign, KeyID: kid}, issuer.Claims(nil)))
	}
	wantGrant(t, o, tokentest.Sign(t, jose.PS256, jose.JSONWebKey{Key: foreign, KeyID: "for another algorithm"}, issuer.Claims(nil)), writes)
	wantRefused(t, o, tokentest.Sign(t, jose.RS256, jose.JSONWebKey{Key: small, KeyID: "too small"}, issuer.Claims(nil)))
	wantRefused(t, o, tokentest.Sign(t, jose.HS256, jose.JSONWebKey{Key: []byte("0123456789abcdef0123456789abcdef"), KeyID: "symmetric"}, issuer.Claims(nil)))
}

// A client that goes away while the keys are fetched for it takes them from nobody.
func TestAClientThatGoesAwaySpoilsNothing(t *testing.T) {
	issuer := tokentest.NewIssuer(t)
	asked, answer := make(chan struct{}), make(chan struct{})
	var once sync.Once
	o := newOIDC(t, issuer, func(o *token.OIDCOptions) {
		o.HTTPClient = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
			once.Do(func() {
				close(asked)
				<-answer
			})
			return http.DefaultTransport.RoundTrip(r)
		})}
	})
	text := issuer.Sign(nil)
	ctx, leave := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		if grant, err := o.Authorize(ctx, text); err != nil || grant != writes {
			t.Errorf("got %+v and %v", grant, err)
		}
	})
	<-asked
	leave()
	// One who waits for the keys may go away too.
	if _, err := o.Authorize(ctx, text); !errors.Is(err, context.Canceled) {
		t.Errorf("the error of one who waited is %v", err)
	}
	group.Go(func() { checkGrant(t, o, text) })
	close(answer)
	group.Wait()
	if got := issuer.Fetches(); got != 1 {
		t.Errorf("the keys were fetched %d times, want once", got)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	return f(r)
}

func TestAnIssuerThatAnswersWronglyIsAnOutage(t *testing.T) {
	signing := tokentest.NewIssuer(t)
	for _, c := range []struct {
		name     string
		metadata string // With URL for that of the issuer.
		keys     http.HandlerFunc
		want     string
	}{
		{"metadata that is no JSON", `<html>`, nil, "JSON"},
		{"metadata of another issuer", `{"issuer":"https://other.example","jwks_uri":"URL/keys"}`, nil, `"https://other.example"`},
		{"the issuer with a slash", `{"issuer":"URL/","jwks_uri":"URL/keys"}`, nil, "exactly so"},
		{"no place of keys", `{"issuer":"URL"}`, nil, "jwks_uri"},
		{"a place of keys without https", `{"issuer":"URL","jwks_uri":"http://keys.example"}`, nil, "jwks_uri"},
		{"a place of keys that is a file", `{"issuer":"URL","jwks_uri":"file:///etc/passwd"}`, nil, "jwks_uri"},
		{"an error", "", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, "status 500"},
		{"keys that are none", "", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"error":"later"}`) }, "no RSA or EC key"},
		{"a symmetric key only", "", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"keys":[{"kty":"oct","kid":"rsa-1","k":"AAECAwQFBgc"}]}`)
		}, "no RSA or EC key"},
		{"keys without end", "", func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"keys":[`+strings.Repeat(" ", 1<<20)+`]}`)
		}, "1 MiB"},
		{"keys that end too soon", "", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, `{"keys":[`)
		}, "read"},
		{"a redirect without https", "", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://keys.example", http.StatusFound)
		}, "without https"},
		{"no answer", "", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "Timeout"},
		{"a redirect without end", "", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/keys", http.StatusFound) }, "too often"},
	} {
		t.Run(c.name, func(t *testing.T) {
			mux := http.NewServeMux()
			server := httptest.NewServer(mux)
			t.Cleanup(server.Close)
			if c.metadata == "" {
				c.metadata = `{"issuer":"URL","jwks_uri":"URL/keys"}`
			}
			mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
				fmt.Fprint(w, strings.ReplaceAll(c.metadata, "URL", server.URL))
			})
			if c.keys != nil {
				mux.HandleFunc("/keys", c.keys)
			}
			client := &http.Client{}
			if c.want == "Timeout" {
				client.Timeout = 100 * time.Millisecond
			}
			o, err := token.NewOIDC(token.OIDCOptions{Issuer: server.URL, Audiences: []string{tokentest.Audience}, HTTPClient: client})
			if err != nil {
				t.Fatal(err)
			}
			if err := wantUnknown(t, o, signing.Sign(map[string]any{"iss": server.URL})); !strings.Contains(err.Error(), c.want) {
				t.Errorf("the error is %q, want %q in it", err, c.want)
			}
		})
	}
}
