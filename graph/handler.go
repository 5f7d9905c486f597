package graph

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/complianced/complianced/compliance"
)

// Reader reads the state, which lags behind the stream. An error means that it cannot be
// read now, which is answered with 503.
type Reader interface {
	// Get returns a record; Exists of it is false where there is none.
	Get(ctx context.Context, key compliance.Key) (compliance.Record, error)
	// List returns a page. The work that it takes is bounded, so a page may have fewer
	// records than there is room for, also none, and still have a next one. The error is
	// [ErrCursor] where the cursor is not one of this list any more.
	List(ctx context.Context, q Query) (Page, error)
	// Counts returns the numbers of a policy; all 0 where it has no record.
	Counts(ctx context.Context, policy string) (Counts, error)
	// Passed reports whether the state is known to be past a report of a device: it is
	// merged, or has its dead letter.
	Passed(ctx context.Context, device string, at Receipt) (bool, error)
	// Refusal returns the error object of the dead letter of a report; nil where it has
	// none.
	Refusal(ctx context.Context, at Receipt) (*compliance.Error, error)
}

// Query says which page of the records of a policy is meant.
type Query struct {
	Policy string
	// Statuses are the only ones of the records. Defaults to all.
	Statuses []compliance.Status
	// Match, where not nil, leaves the records for which it is true.
	Match func(*Item) bool
	// Cursor is that of the page before; empty for the first.
	Cursor string
	// Limit is the greatest number of records in the page, from 1 to [MaxTop].
	Limit int
}

// Page is a part of a list.
type Page struct {
	Items []Item
	// Next is the cursor of the page after this one; empty where there is none.
	Next string
	// Unreadable is how many records are left out because they cannot be read.
	Unreadable int
}

// Item is a record in a list.
type Item struct {
	Device string
	Record compliance.Record
}

// Counts are the numbers of the records of a policy.
type Counts struct {
	Statuses [compliance.NumStatuses]int
	// Until is when the newest report was stored that the state has merged, of whatever
	// policy; zero where it has merged none.
	Until time.Time
}

// ErrCursor says that a list does not have a cursor any more.
var ErrCursor = errors.New("the list has no such place any more")

// Outgoing is a report that is to be stored.
type Outgoing struct {
	Key  compliance.Key
	Body []byte
	// EventID and EventTime are what the report is stamped with.
	EventID   string
	EventTime time.Time
}

// Receipt says where the stream has a report.
type Receipt struct {
	Stream   string `json:"stream"`
	Sequence uint64 `json:"sequence"`
}

// Publisher stores reports in the stream. Its methods are called from many goroutines.
type Publisher interface {
	// Stamp returns a report of a record with an id and a time, which is later than that
	// of every report that was stamped before.
	Stamp(key compliance.Key) (Outgoing, error)
	// Publish stores a report and tries again, with the same id and time, until the
	// context ends. An error means that it is not known to be stored.
	Publish(ctx context.Context, o Outgoing) (Receipt, error)
	// Ask is Publish for a report whose result is wanted. Result waits for what becomes of
	// the report, and is nil where that was not heard until its context ended. It must be
	// called, once, unless Ask has failed.
	Ask(ctx context.Context, o Outgoing) (at Receipt, result func(context.Context) *compliance.Result, err error)
}

// Grant is what a token allows.
type Grant struct {
	// Read and Write allow to read records and to write them. Who may write may read.
	Read, Write bool
	// Device, where not empty, is the only one whose records the token is for.
	Device string
}

// Authorizer says what a bearer token allows.
type Authorizer interface {
	// Authorize returns the grant of a token. The error is [ErrToken] where the token is
	// not valid; any other error means that this cannot be told now.
	Authorize(ctx context.Context, token string) (Grant, error)
}

// ErrToken says that a token is not valid.
var ErrToken = errors.New("the token is not valid")

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

func (h *handler) authorize(r *http.Request) (Grant, *problem) {
	lines := r.Header.Values("Authorization")
	if len(lines) == 0 {
		return Grant{}, unauthorized(messageNoToken)
	}
	scheme, token, _ := strings.Cut(lines[0], " ")
	token = strings.TrimSpace(token)
	if len(lines) > 1 || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return Grant{}, unauthorized(messageNoToken)
	}
	grant, err := h.authorizer.Authorize(r.Context(), token)
	switch {
	case errors.Is(err, ErrToken):
		p := unauthorized(messageWrongToken)
		p.cause = err
		return Grant{}, p
	case err != nil:
		return Grant{}, unavailable("whether the bearer token is valid cannot be told now; try again", err)
	}
	return grant, nil
}

// check looks at all that the resource, the token and the headers say.
func (h *handler) check(r *http.Request, at route, grant Grant) *problem {
	allowed := at.resource.allowed()
	write := r.Method != http.MethodGet
	switch {
	case !slices.Contains(allowed, r.Method):
		list := strings.Join(allowed, ", ")
		return newProblem(http.StatusMethodNotAllowed, codeMethodNotAllowed, "the method is not one of this resource: "+list).with("Allow", list)
	case write && !grant.Write:
		return denied("the token does not allow to write: that needs " + ScopeReadWrite).lacks(ScopeReadWrite)
	case !grant.Read && !grant.Write:
		return denied("the token does not allow to read: that needs " + ScopeRead + " or " + ScopeReadWrite).lacks(ScopeRead)
	case grant.Device != "" && at.resource == entity && at.key.Device != grant.Device:
		return denied("the token is for another device")
	case grant.Device != "" && at.resource != entity && !write:
		return denied("the token is for one device, and this resource has many")
	case !accepts(r.Header):
		return newProblem(http.StatusNotAcceptable, codeNotAcceptable, "the answer is application/json, which the header Accept does not allow")
	case write && r.URL.RawQuery != "":
		return badRequest(codeNotSupported, "", "query options are not supported with %s", r.Method)
	}
	if write && (r.Header.Get("If-None-Match") != "" || r.Header.Get("If-Match") != "" && !anyThere(r)) {
		return badRequest(codeNotSupported, "", "the headers If-Match and If-None-Match are not supported: records have no ETag, and the newest event wins")
	}
	return nil
}

// anyThere reports whether a request is the deletion of a record in whatever state: the
// one condition that holds by itself.
func anyThere(r *http.Request) bool {
	return r.Method == http.MethodDelete && r.Header.Get("If-Match") == "*"
}

// The scopes of tokens, as Microsoft Graph names them.
const (
	ScopeRead      = "DeviceManagementConfiguration.Read.All"
	ScopeReadWrite = "DeviceManagementConfiguration.ReadWrite.All"
)

// GrantOf returns what scopes allow.
func GrantOf(scopes []string) Grant {
	write := slices.Contains(scopes, ScopeReadWrite)
	return Grant{Read: write || slices.Contains(scopes, ScopeRead), Write: write}
}

// accepts reports whether a client takes JSON.
func accepts(header http.Header) bool {
	lines := header.Values("Accept")
	if len(lines) == 0 {
		return true
	}
	// The most specific range decides (RFC 9110, section 12.5.1).
	best, quality := -1, 0.0
	for part := range strings.SplitSeq(strings.Join(lines, ","), ",") {
		media, parameters, _ := strings.Cut(part, ";")
		specific := -1
		switch strings.ToLower(strings.TrimSpace(media)) {
		case "application/json":
			specific = 2
		case "application/*":
			specific = 1
		case "*/*":
			specific = 0
		}
		if specific > best {
			best, quality = specific, weight(parameters)
		}
	}
	return quality > 0
}

// weight returns the weight q among the parameters of a media range.
func weight(parameters string) float64 {
	for parameter := range strings.SplitSeq(parameters, ";") {
		name, value, _ := strings.Cut(parameter, "=")
		if strings.EqualFold(strings.TrimSpace(name), "q") {
			if q, err := strconv.ParseFloat(strings.TrimSpace(value), 64); err == nil {
				return q
			}
		}
	}
	return 1
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
