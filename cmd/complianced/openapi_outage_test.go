package main_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/graph"
	"github.com/complianced/complianced/internal/openapitest"
)

// fakeState is a graph.Reader.
type fakeState struct {
	GetFunc    func() (compliance.Record, error)
	ListFunc   func() (graph.Page, error)
	CountsFunc func() (graph.Counts, error)
}

func (f *fakeState) Get(context.Context, compliance.Key) (compliance.Record, error) {
	return f.GetFunc()
}

func (f *fakeState) List(context.Context, graph.Query) (graph.Page, error) { return f.ListFunc() }

func (f *fakeState) Counts(context.Context, string) (graph.Counts, error) { return f.CountsFunc() }

func (f *fakeState) Passed(context.Context, string, graph.Receipt) (bool, error) { return false, nil }

func (f *fakeState) Refusal(context.Context, graph.Receipt) (*compliance.Error, error) {
	return nil, nil //nolint:nilnil // It has none.
}

// fakeStream is a graph.Publisher.
type fakeStream struct {
	AskFunc func() (graph.Receipt, *compliance.Result, error)
}

func (f *fakeStream) Stamp(key compliance.Key) (graph.Outgoing, error) {
	return graph.Outgoing{Key: key, EventID: "1", EventTime: time.Now()}, nil
}

func (f *fakeStream) Publish(context.Context, graph.Outgoing) (graph.Receipt, error) {
	return graph.Receipt{}, errors.New("nobody publishes without waiting")
}

func (f *fakeStream) Ask(context.Context, graph.Outgoing) (graph.Receipt, func(context.Context) *compliance.Result, error) {
	at, result, err := f.AskFunc()
	return at, func(context.Context) *compliance.Result { return result }, err
}

// grants are those of tokens by name.
type grants map[string]graph.Grant

func (g grants) Authorize(_ context.Context, token string) (graph.Grant, error) {
	grant, ok := g[token]
	if !ok {
		return grant, errors.New("the issuer is away")
	}
	return grant, nil
}

// outages are the answers that a client alone does not bring about.
func outages(t *testing.T, doc *openapitest.Document) {
	t.Helper()
	away := errors.New("away")
	state := &fakeState{
		GetFunc:    func() (compliance.Record, error) { return compliance.Record{}, away },
		ListFunc:   func() (graph.Page, error) { return graph.Page{}, away },
		CountsFunc: func() (graph.Counts, error) { return graph.Counts{}, away },
	}
	stream := &fakeStream{AskFunc: func() (graph.Receipt, *compliance.Result, error) { return graph.Receipt{}, nil, away }}
	handler := graph.Handler(state, stream, grants{
		"all": {Read: true, Write: true}, "read": {Read: true}, "none": {}, "other": {Read: true, Write: true, Device: "other-device"},
	}, graph.Options{Concurrency: 1, Lists: 1, Deltas: 1, BaseURL: documentedURL})
	c := inProcess(t, doc, handler)

	for _, of := range operations {
		of.body = bodyOf(of)
		refused := of
		refused.status, refused.code = http.StatusServiceUnavailable, "ServiceUnavailable"
		c.as("all").do(&refused) // State and stream are away.
		c.as("unknown").do(&refused)
		refused.status, refused.code = http.StatusForbidden, "Authorization_RequestDenied"
		for _, token := range []string{"read", "none", "other"} {
			if token != "read" || of.method != http.MethodGet {
				c.as(token).do(&refused)
			}
		}
	}
	c.as("read").do(&exchange{method: http.MethodPatch, path: apiRecord, body: "{}", status: 403, code: "Authorization_RequestDenied", example: "errorForbidden"})
	c.as("all").late()
	c.busy(state, stream)

	starting := inProcess(t, doc, graph.Unready(slog.New(slog.DiscardHandler)))
	for _, of := range operations {
		of.body, of.status, of.code, of.example = bodyOf(of), http.StatusServiceUnavailable, "ServiceUnavailable", "errorUnavailable"
		starting.do(&of)
	}

	c.verdicts(state, stream)
}

// bodyOf returns a right body for an operation, where it has one.
func bodyOf(x exchange) string {
	if x.method == http.MethodPatch {
		return `{"id":"my-device"}`
	}
	return ""
}

func (c *apiClient) as(token string) *apiClient {
	other := *c
	other.token = token
	return &other
}

// inProcess serves a handler as the program does, but for a shorter patience.
func inProcess(t *testing.T, doc *openapitest.Document, handler http.Handler) *apiClient {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := graph.NewServer(handler, graph.ServerOptions{HeaderTimeout: 200 * time.Millisecond, RequestTimeout: time.Second})
	ended := make(chan error)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() {
		if err := errors.Join(server.Shutdown(context.WithoutCancel(t.Context())), <-ended); err != nil {
			t.Error(err)
		}
	})
	return &apiClient{T: t, doc: doc, base: "http://" + listener.Addr().String()}
}

// late sends headers that do not end, and bodies that do not come.
func (c *apiClient) late() {
	c.Helper()
	for _, of := range operations {
		of.status, of.code = http.StatusRequestTimeout, "RequestTimeout"
		of.body = "{method} {path} HTTP/1.1\r\nHost: x\r\n"
		c.raw(&of, false)
		if of.method == http.MethodPatch {
			of.body += "Authorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{}"
			of.example = "errorTimeout"
			c.raw(&of, false)
		}
	}
}

// busy sends requests while as many are under way as there may be.
func (c *apiClient) busy(state *fakeState, stream *fakeStream) {
	c.Helper()
	begun, end := make(chan bool), make(chan bool)
	wait := func() {
		begun <- true
		<-end
	}
	stateBefore, streamBefore := *state, *stream
	state.GetFunc = func() (compliance.Record, error) { wait(); return compliance.Record{}, nil }
	state.ListFunc = func() (graph.Page, error) { wait(); return graph.Page{}, nil }
	stream.AskFunc = func() (graph.Receipt, *compliance.Result, error) { wait(); return graph.Receipt{Sequence: 1}, nil, nil }
	var busy sync.WaitGroup
	for _, x := range []exchange{
		{method: http.MethodGet, path: apiRecord, status: 404, code: "ResourceNotFound"},
		{method: http.MethodGet, path: apiStatuses, status: 200},
		{method: http.MethodPatch, path: apiRecord, body: "{}", status: 202},
	} {
		busy.Go(func() { c.as("all").do(&x) })
		<-begun
	}
	for _, of := range operations {
		of.body, of.status, of.code, of.example = bodyOf(of), http.StatusTooManyRequests, "TooManyRequests", "errorTooMany"
		c.as("all").do(&of)
	}
	close(end)
	busy.Wait()
	*state, *stream = stateBefore, streamBefore
}

// verdicts are answers to what the workers say, and to what they do not say.
func (c *apiClient) verdicts(state *fakeState, stream *fakeStream) {
	c.Helper()
	c = c.as("all")
	report := exchange{method: http.MethodPatch, path: apiRecord, body: "{}"}
	inCollection := exchange{method: http.MethodPatch, path: apiStatuses, body: `{"id":"my-device"}`}
	deletion := exchange{method: http.MethodDelete, path: apiRecord}
	are := func(status int, code string, list ...exchange) {
		c.Helper()
		for _, x := range list {
			x.status, x.code = status, code
			c.do(&x)
		}
	}
	at := graph.Receipt{Stream: "COMPLIANCE_STATUS", Sequence: 7}

	stream.AskFunc = func() (graph.Receipt, *compliance.Result, error) { return at, nil, nil }
	are(http.StatusAccepted, "", report, inCollection, deletion)

	stream.AskFunc = func() (graph.Receipt, *compliance.Result, error) {
		return at, &compliance.Result{Outcome: compliance.Stale, Stream: at.Stream, Sequence: at.Sequence}, nil
	}
	are(http.StatusNotFound, "ResourceNotFound", report, inCollection)

	now := time.Now()
	_, rejection := compliance.Decode(&compliance.Envelope{
		Subject: compliance.Key{Policy: "my-policy", Device: "my-device"}.Subject(), Body: []byte("{}"), Stored: now, Sequence: at.Sequence,
		Header: map[string][]string{compliance.HeaderEventTime: {compliance.FormatStored(now.Add(time.Hour))}},
	})
	future := rejection.ErrorObject()
	stream.AskFunc = func() (graph.Receipt, *compliance.Result, error) {
		return at, &compliance.Result{Outcome: compliance.Rejected, Stream: at.Stream, Sequence: at.Sequence, Error: &future}, nil
	}
	are(http.StatusServiceUnavailable, "futureEventTime", report, inCollection, deletion) // It is the clock of the service.

	state.ListFunc = func() (graph.Page, error) { return graph.Page{Unreadable: 2}, nil }
	if text := string(c.do(&exchange{method: http.MethodGet, path: apiStatuses, status: 200})); !strings.Contains(text, `"@compliance.unreadable":2`) {
		c.Errorf("records that cannot be read are not told: %s", text)
	}
}
