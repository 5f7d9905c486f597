package graph

import (
	"context"
	"crypto/rand"
	"log/slog"
	"maps"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/complianced/complianced/compliance"
)

// Options say how a handler works. The zero value does.
type Options struct {
	// Rules are those by which the workers decode. Partition and Partitions do not count.
	Rules compliance.Rules
	// Wait is how long a PATCH waits until it is applied. Defaults to 5 s.
	Wait time.Duration
	// ReadTimeout bounds a GET. Defaults to 20 s.
	ReadTimeout time.Duration
	// Concurrency is how many records may be read at once, and how many updates may be
	// stored at once; one more gets 429. An update whose body is still coming does not
	// count, nor one that is stored and waits for its result. Defaults to 256.
	Concurrency int
	// Waiting is how many reports may wait for their results at once; one more is not
	// waited for, and its request gets 202. Defaults to 10,000.
	Waiting int
	// Lists is how many lists may be read or sent at once, and Deltas how many deltas, of up
	// to 4 MiB, may be received or under way; one more gets 429. They default to 16 and 8.
	Lists, Deltas int
	// Validity is how many UTC days the newest event of a record is valid for; see
	// [compliance.Facts.At]. Defaults to 30.
	Validity int
	// BaseURL is the address of the service as clients know it, without a slash at its end, for
	// @odata.context and @odata.nextLink. Defaults to the scheme and host of a request.
	BaseURL string
	// LinkKey protects the @odata.nextLink of lists against changes. Servers that share
	// their clients share it. Defaults to a random one.
	LinkKey []byte
	// Logger hears of every request at level debug, and at level warn of those that fail
	// for a reason that an operator can mend. Defaults to none.
	Logger *slog.Logger
	// Observe, where not nil, hears of every request: which of [Operations] it was, its
	// status, which is one of [Statuses] or [StatusClientGone], and how long it took.
	Observe func(operation string, status int, took time.Duration)
	// Now is the clock. Defaults to time.Now.
	Now func() time.Time
}

// defaultValidity is that of the commands.
const defaultValidity = 30

func (o Options) withDefaults() Options {
	orDefault(&o.Wait, 5*time.Second)
	orDefault(&o.ReadTimeout, 20*time.Second)
	orDefault(&o.Concurrency, 256)
	orDefault(&o.Waiting, 10_000)
	orDefault(&o.Lists, 16)
	orDefault(&o.Deltas, 8)
	orDefault(&o.Validity, defaultValidity)
	if len(o.LinkKey) == 0 {
		o.LinkKey = make([]byte, 32)
		rand.Read(o.LinkKey)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Observe == nil {
		o.Observe = func(string, int, time.Duration) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Rules.Partition, o.Rules.Partitions = 0, 0
	return o
}

func orDefault[T comparable](value *T, otherwise T) {
	var zero T
	if *value == zero {
		*value = otherwise
	}
}

// Handler returns the API. It wants a [Server], which keeps slow clients off and makes the
// errors of net/http ones of this API.
func Handler(reader Reader, publisher Publisher, authorizer Authorizer, options Options) http.Handler {
	options = options.withDefaults()
	return &handler{
		Options: options, reader: reader, publisher: publisher, authorizer: authorizer,
		reads:   make(chan struct{}, options.Concurrency),
		writes:  make(chan struct{}, options.Concurrency),
		waiting: make(chan struct{}, options.Waiting),
		lists:   make(chan struct{}, options.Lists),
		deltas:  make(chan struct{}, options.Deltas),
	}
}

type handler struct {
	Options

	reader     Reader
	publisher  Publisher
	authorizer Authorizer
	// Each has room for so many at once.
	reads, writes, waiting, lists, deltas chan struct{}

	ahead ahead
}

// request is one that is authorized and whose address is read.
type request struct {
	*http.Request
	route

	grant Grant
	held  *places
}

// places are what a request has taken of what is bounded, until it is answered.
type places []chan struct{}

// enter takes one of several places, if there is one.
func (p *places) enter(of chan struct{}) *problem {
	if !tryEnter(of) {
		return tooMany()
	}
	*p = append(*p, of)
	return nil
}

func (p *places) leave() {
	for _, of := range *p {
		<-of
	}
}

func tryEnter(of chan struct{}) bool {
	select {
	case of <- struct{}{}:
		return true
	default:
		return false
	}
}

// answer is what a request gets.
type answer struct {
	status int
	header map[string]string
	body   []byte
}

func answered(p *problem, requestID, clientRequestID string, now time.Time) answer {
	return answer{status: p.status, header: p.header, body: p.body(requestID, clientRequestID, now)}
}

// ServeHTTP implements [http.Handler].
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begun := h.Now()
	requestID, clientRequestID := uuid.NewString(), clientRequestID(r.Header)
	at, problem := parseRoute(r.URL)
	operation := operationOf(r.Method, at.resource)
	if problem != nil {
		operation = operationOther
	}
	// A client that is slow to read its answer keeps its place.
	var held places
	defer held.leave()
	a, problem := h.serve(r, at, problem, &held)
	if problem != nil {
		a = answered(problem, requestID, clientRequestID, h.Now())
	}
	write(w, a, requestID, clientRequestID)
	if r.Context().Err() != nil {
		a.status = StatusClientGone
	}
	took := h.Now().Sub(begun)
	h.Observe(operation, a.status, took)
	h.log(r.Context(), operation, a.status, took, requestID, clientRequestID, problem)
}

// standing returns the headers that every answer has.
func standing(requestID, clientRequestID string) http.Header {
	header := http.Header{"request-id": {requestID}} // As Graph writes it, for those who look at the case.
	if clientRequestID != "" {
		header["client-request-id"] = []string{clientRequestID}
	}
	header.Set("Cache-Control", "no-store")
	header.Set("OData-Version", "4.0")
	header.Set("X-Content-Type-Options", "nosniff")
	return header
}

func write(w http.ResponseWriter, a answer, requestID, clientRequestID string) {
	header := w.Header()
	maps.Copy(header, standing(requestID, clientRequestID))
	for name, value := range a.header {
		header.Set(name, value)
	}
	if len(a.body) > 0 {
		header.Set("Content-Type", contentType)
		header.Set("Content-Length", strconv.Itoa(len(a.body)))
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) // A client that has gone hears nothing.
}

const contentType = "application/json;odata.metadata=minimal;odata.streaming=false;IEEE754Compatible=false;charset=utf-8"

func (h *handler) log(ctx context.Context, operation string, status int, took time.Duration, requestID, clientRequestID string, p *problem) {
	level := slog.LevelDebug
	attributes := []slog.Attr{
		slog.String("operation", operation), slog.Int("status", status),
		slog.Duration("took", took), slog.String("request_id", requestID),
	}
	if clientRequestID != "" {
		attributes = append(attributes, slog.String("client_request_id", clientRequestID))
	}
	if p != nil && p.cause != nil {
		if status >= http.StatusInternalServerError {
			level = slog.LevelWarn
		}
		attributes = append(attributes, slog.Any("error", p.cause))
	}
	h.Logger.LogAttrs(ctx, level, "api request", attributes...)
}

// maxClientRequestID is how much of a client-request-id is taken, in characters; Graph's
// own are GUIDs of 36.
const maxClientRequestID = 64

// clientRequestID returns the id that a client gave its request, where it is one that may
// stand in a log.
func clientRequestID(header http.Header) string {
	id := header.Get("client-request-id")
	if len(id) > maxClientRequestID || !compliance.ValidID(id) {
		return ""
	}
	return id
}

// serve answers a request whose address was read, or was not.
func (h *handler) serve(r *http.Request, at route, wrongAddress *problem, held *places) (answer, *problem) {
	grant, problem := h.authorize(r)
	switch {
	case problem != nil:
		return answer{}, problem
	case wrongAddress != nil:
		return answer{}, wrongAddress
	}
	if problem := h.check(r, at, grant); problem != nil {
		return answer{}, problem
	}
	asked := &request{Request: r, route: at, grant: grant, held: held}
	switch {
	case r.Method == http.MethodPatch:
		return h.patch(asked)
	case r.Method == http.MethodDelete:
		return h.remove(asked)
	case at.resource == collection:
		return h.list(asked)
	}
	if problem := held.enter(h.reads); problem != nil {
		return answer{}, problem
	}
	if at.resource == overview {
		return h.overview(asked)
	}
	return h.get(asked)
}

// base returns the address of the service as the client knows it.
func (h *handler) base(r *http.Request) string {
	if h.BaseURL != "" {
		return h.BaseURL
	}
	scheme := "http"
	if r.TLS != nil || isSecure(r.Context()) {
		scheme = "https"
	}
	return scheme + "://" + r.Host
}

// Unready returns a handler for a service that has not found its servers yet: it answers
// every request with 503.
func Unready(log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requestID, clientRequestID := uuid.NewString(), clientRequestID(r.Header)
		p := unavailable("the service is starting; try again", nil)
		write(w, answered(p, requestID, clientRequestID, time.Now()), requestID, clientRequestID)
		log.DebugContext(r.Context(), "api request before the servers are there", slog.String("request_id", requestID), slog.String("client_request_id", clientRequestID))
	})
}
