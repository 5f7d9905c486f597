package token_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/complianced/complianced/graph"
	"github.com/complianced/complianced/graph/token"
)

func TestASingleTokenIsTheOnlyOne(t *testing.T) {
	text, entry, err := token.New(token.Entry{Name: "embedded", Scopes: []string{graph.ScopeReadWrite}, Device: "device-1"})
	if err != nil {
		t.Fatal(err)
	}
	a := token.Single(text, entry.Grant())
	wantGrant(t, a, text, graph.Grant{Read: true, Write: true, Device: "device-1"})
	for _, wrong := range []string{"", text[:len(text)-1], text + "x", "x" + text[1:], entry.SHA256} {
		wantRefused(t, a, wrong)
	}
}

type answer struct {
	grant graph.Grant
	err   error
}

func (a answer) Authorize(context.Context, string) (graph.Grant, error) {
	return a.grant, a.err
}

func TestOfSeveralAuthorizersTheFirstGrantWins(t *testing.T) {
	down := errors.New("down")
	yes, other, no, unknown := answer{grant: reads}, answer{grant: writes}, answer{err: fmt.Errorf("%w: no", graph.ErrToken)}, answer{err: down}
	for _, c := range []struct {
		name  string
		asked []graph.Authorizer
		want  graph.Grant
		err   error
	}{
		{"none at all", nil, graph.Grant{}, graph.ErrToken},
		{"all refuse", []graph.Authorizer{no, no}, graph.Grant{}, graph.ErrToken},
		{"the first of two grants", []graph.Authorizer{no, yes, other}, reads, nil},
		{"a grant after an outage", []graph.Authorizer{unknown, no, yes}, reads, nil},
		{"an outage before a refusal", []graph.Authorizer{unknown, no}, graph.Grant{}, down},
		{"an outage after a refusal", []graph.Authorizer{no, unknown}, graph.Grant{}, down},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := token.Any(c.asked...).Authorize(t.Context(), "text")
			if got != c.want || !errors.Is(err, c.err) {
				t.Errorf("got %+v and %v, want %+v and %v", got, err, c.want, c.err)
			}
			if errors.Is(c.err, down) && errors.Is(err, graph.ErrToken) {
				t.Errorf("an outage is also a refusal: %v", err)
			}
		})
	}
}
