package token_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/complianced/complianced/graph"
	"github.com/complianced/complianced/graph/token"
	"github.com/complianced/complianced/graph/token/tokentest"
)

var (
	reads  = graph.Grant{Read: true}
	writes = graph.Grant{Read: true, Write: true}
)

// clock stands still until it is set.
type clock struct {
	mutex sync.Mutex
	at    time.Time
}

func newClock() *clock {
	return &clock{at: time.Now()}
}

func (c *clock) Now() time.Time {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.at
}

func (c *clock) Add(d time.Duration) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.at = c.at.Add(d)
}

// journal keeps what is logged, from one goroutine.
type journal struct {
	bytes.Buffer
}

func (j *journal) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(j, nil))
}

// warnings returns how many there are.
func (j *journal) warnings() int {
	return strings.Count(j.String(), "level=WARN")
}

func newOIDC(tb testing.TB, issuer *tokentest.Issuer, change ...func(*token.OIDCOptions)) *token.OIDC {
	tb.Helper()
	options := token.OIDCOptions{Issuer: issuer.URL, Audiences: []string{"another", tokentest.Audience}}
	for _, f := range change {
		f(&options)
	}
	o, err := token.NewOIDC(options)
	if err != nil {
		tb.Fatal(err)
	}
	return o
}

func wantGrant(tb testing.TB, a graph.Authorizer, text string, want graph.Grant) {
	tb.Helper()
	got, err := a.Authorize(tb.Context(), text)
	if err != nil {
		tb.Fatal(err)
	}
	if got != want {
		tb.Fatalf("got %+v, want %+v", got, want)
	}
}

// wantRefused wants ErrToken, and nothing of the token in it.
func wantRefused(tb testing.TB, a graph.Authorizer, text string) {
	tb.Helper()
	got, err := a.Authorize(tb.Context(), text)
	if !errors.Is(err, graph.ErrToken) {
		tb.Fatalf("got %+v and %v, want ErrToken", got, err)
	}
	if got != (graph.Grant{}) {
		tb.Fatalf("a grant with an error: %+v", got)
	}
	for _, part := range append(strings.Split(text, "."), "someone") {
		if len(part) > 3 && strings.Contains(err.Error(), part) {
			tb.Fatalf("the error has a part of the token: %v", err)
		}
	}
}

// wantUnknown wants an error that is not ErrToken.
func wantUnknown(tb testing.TB, a graph.Authorizer, text string) error {
	tb.Helper()
	got, err := a.Authorize(tb.Context(), text)
	if err == nil || errors.Is(err, graph.ErrToken) {
		tb.Fatalf("got %+v and %v, want another error than ErrToken", got, err)
	}
	return err
}
