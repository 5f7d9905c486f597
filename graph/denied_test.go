package graph_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/complianced/complianced/graph"
)

// grant is what every token is good for.
type grant graph.Grant

func (g grant) Authorize(context.Context, string) (graph.Grant, error) { return graph.Grant(g), nil }

// A client that has a token learns that another one is needed as RFC 6750 tells it.
func TestWhatATokenDoesNotAllowIsAChallenge(t *testing.T) {
	const record = "/deviceManagement/deviceCompliancePolicies/p/deviceStatuses/d"
	for name, test := range map[string]struct {
		grant  grant
		method string
		scope  string
	}{
		"no scope":       {grant{}, http.MethodGet, graph.ScopeRead},
		"read scope":     {grant{Read: true}, http.MethodDelete, graph.ScopeReadWrite},
		"another device": {grant{Read: true, Write: true, Device: "other"}, http.MethodPatch, ""},
	} {
		request := httptest.NewRequestWithContext(t.Context(), test.method, record, nil)
		request.Header.Set("Authorization", "Bearer some")
		answer := httptest.NewRecorder()
		graph.Handler(nil, nil, test.grant, graph.Options{}).ServeHTTP(answer, request)
		want := `Bearer realm="complianced", error="insufficient_scope"`
		if test.scope != "" {
			want += `, scope="` + test.scope + `"`
		}
		if have := answer.Header().Get("WWW-Authenticate"); answer.Code != http.StatusForbidden || have != want {
			t.Errorf("%s: %d, WWW-Authenticate %q, want %q", name, answer.Code, have, want)
		}
	}
}
