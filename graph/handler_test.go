package graph_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/graph"
)

// state is a reader whose functions a test sets.
type state struct {
	graph.Reader // What is not set must not be called.

	ListFunc   func(context.Context, graph.Query) (graph.Page, error)
	PassedFunc func() (bool, error)
}

func (s *state) List(ctx context.Context, q graph.Query) (graph.Page, error) {
	return s.ListFunc(ctx, q)
}

func (s *state) Passed(context.Context, string, graph.Receipt) (bool, error) { return s.PassedFunc() }

// stream is a publisher that numbers what it stores.
type stream struct {
	last   atomic.Uint64
	asked  chan struct{} // Gets a value from each report whose result is waited for.
	Result func(context.Context) *compliance.Result
}

func (s *stream) Stamp(key compliance.Key) (graph.Outgoing, error) {
	return graph.Outgoing{Key: key, EventID: "1", EventTime: time.Now()}, nil
}

func (s *stream) Publish(context.Context, graph.Outgoing) (graph.Receipt, error) {
	return graph.Receipt{Stream: "S", Sequence: s.last.Add(1)}, nil
}

func (s *stream) Ask(ctx context.Context, o graph.Outgoing) (graph.Receipt, func(context.Context) *compliance.Result, error) {
	at, err := s.Publish(ctx, o)
	return at, func(ctx context.Context) *compliance.Result {
		s.asked <- struct{}{}
		return s.Result(ctx)
	}, err
}

func ask(t *testing.T, handler http.Handler, method, path, body string) *httptest.ResponseRecorder {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), method, "/deviceManagement/deviceCompliancePolicies/p/"+path, strings.NewReader(body))
	request.Header.Set("Authorization", "Bearer some")
	request.Header.Set("Content-Type", "application/json")
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, request)
	return answer
}

var all = grant{Read: true, Write: true}

// A server that does not answer is no list that is too long, although both are timeouts.
func TestARedisThatIsSilentIsNoListThatIsTooLong(t *testing.T) {
	t.Parallel()
	const filtered = "deviceStatuses?$count=true&$filter=platform%20eq%208"
	silent := &state{ListFunc: func(context.Context, graph.Query) (graph.Page, error) {
		return graph.Page{}, fmt.Errorf("dial: %w", context.DeadlineExceeded)
	}}
	if answer := ask(t, graph.Handler(silent, nil, all, graph.Options{}), http.MethodGet, filtered, ""); answer.Code != http.StatusServiceUnavailable {
		t.Errorf("a silent server: %d %s", answer.Code, answer.Body)
	}
	cut := &state{ListFunc: func(ctx context.Context, q graph.Query) (graph.Page, error) {
		if q.Cursor == "" {
			return graph.Page{Next: "more"}, nil
		}
		<-ctx.Done()
		return graph.Page{}, ctx.Err()
	}}
	answer := ask(t, graph.Handler(cut, nil, all, graph.Options{ReadTimeout: 20 * time.Millisecond}), http.MethodGet, filtered, "")
	if answer.Code != http.StatusBadRequest || !strings.Contains(answer.Body.String(), "$count") {
		t.Errorf("a list that is too long: %d %s", answer.Code, answer.Body)
	}
}

func TestOneWhoIsNotWaitedForIsAnsweredAtOnce(t *testing.T) {
	t.Parallel()
	end := make(chan struct{})
	s := &stream{asked: make(chan struct{}), Result: func(context.Context) *compliance.Result {
		<-end
		return &compliance.Result{Outcome: compliance.Applied, Record: []byte(`{"id":"d"}`)}
	}}
	handler := graph.Handler(nil, s, all, graph.Options{Waiting: 1, Wait: time.Minute})
	first := make(chan *httptest.ResponseRecorder)
	go func() { first <- ask(t, handler, http.MethodPatch, "deviceStatuses/d", "{}") }()
	<-s.asked
	if answer := ask(t, handler, http.MethodPatch, "deviceStatuses/d", "{}"); answer.Code != http.StatusAccepted || !strings.Contains(answer.Body.String(), `"sequence":2`) {
		t.Errorf("one more than may wait: %d %s", answer.Code, answer.Body)
	}
	close(end)
	if answer := <-first; answer.Code != http.StatusOK {
		t.Errorf("the one that waits: %d %s", answer.Code, answer.Body)
	}
	go func() { <-s.asked }()
	if answer := ask(t, handler, http.MethodPatch, "deviceStatuses/d", "{}"); answer.Code != http.StatusOK {
		t.Errorf("the next one: %d %s", answer.Code, answer.Body)
	}
}

// Where it cannot be told what became of a report, its place is the answer, soon.
func TestWhatCannotBeLookedUpIsLeftOpen(t *testing.T) {
	t.Parallel()
	s := &stream{asked: make(chan struct{}, 1000), Result: func(context.Context) *compliance.Result { return nil }}
	looked := 0
	away := &state{PassedFunc: func() (bool, error) {
		looked++
		return false, io.ErrUnexpectedEOF
	}}
	handler := graph.Handler(away, s, all, graph.Options{})
	for body, n := range map[string]int{`{"id":"d"}`: 1, `{"value":[{"id":"d"},{"id":"e"}]}`: 2} {
		looked = 0
		if answer := ask(t, handler, http.MethodPatch, "deviceStatuses", body); answer.Code != http.StatusAccepted || looked != n {
			t.Errorf("%s: %d %s, looked up %d times", body, answer.Code, answer.Body, looked)
		}
	}
}
