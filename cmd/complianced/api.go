package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/deadletter"
	"github.com/complianced/complianced/graph"
	"github.com/complianced/complianced/graph/token"
	"github.com/complianced/complianced/ingest"
	"github.com/complianced/complianced/metrics"
	"github.com/complianced/complianced/publisher"
	"github.com/complianced/complianced/store"
)

// apiDrainTimeout bounds the wait for requests that are under way when the serve ends: for a
// PubAck that may come, and what became of the report.
const apiDrainTimeout = 5 * time.Second

// maxAPIWait is the greatest --api-wait: an answer that takes longer is broken off.
const maxAPIWait = 30 * time.Second

// minLinkKey is how many bytes a file of --api-link-key-file has at least.
const minLinkKey = 32

// api are the settings of the role api.
type api struct {
	listen      string
	tls         tlsFiles
	insecure    bool
	baseURL     string
	wait        time.Duration
	concurrency int
	linkKey     string
	access      access

	// What follows is made of the settings before anything starts.

	certificate *tls.Config // Nil where the API has no TLS.
	key         []byte      // Of links; nil stands for a new one.
	authorizers []graph.Authorizer

	handler atomic.Pointer[http.Handler]
}

func (a *api) add(flags *pflag.FlagSet) {
	flags.StringVar(&a.listen, "http-listen", "127.0.0.1:8080", "`address` of the HTTP API; beyond loopback it needs TLS")
	flags.StringVar(&a.tls.cert, "http-tls-cert", "", "`file` with the certificate of the HTTP API")
	flags.StringVar(&a.tls.key, "http-tls-key", "", "`file` with the key of the HTTP API")
	flags.BoolVar(&a.insecure, "insecure-http", false, "let the HTTP API listen beyond loopback without TLS, behind a proxy that has it")
	flags.StringVar(&a.baseURL, "http-base-url", "", "`URL` of the HTTP API as its clients know it, where that is another one behind a proxy")
	flags.DurationVar(&a.wait, "api-wait", 5*time.Second, "how long a PATCH waits until it is applied; later it is answered with 202")
	flags.IntVar(&a.concurrency, "api-concurrency", 256, "how many records the HTTP API reads at once, and how many updates it stores at once; one more gets 429")
	flags.StringVar(&a.linkKey, "api-link-key-file", "", "`file` of at least 32 bytes that protects the links of lists; replicas behind one address share it (default: a new one)")
	a.access.add(flags)
}

// prepare checks the settings and reads the files that they name.
func (a *api) prepare(log *slog.Logger) error {
	err := a.validate()
	if err == nil {
		a.certificate, err = a.tls.config("--http-tls")
	}
	if err == nil {
		a.key, err = a.readKey()
	}
	if err == nil {
		a.authorizers, err = a.access.authorizers(log)
	}
	return err
}

func (a *api) validate() error {
	host, _, err := splitListen(a.listen)
	switch {
	case err != nil:
		return usagef("--http-listen %q is not an address to listen on, as 127.0.0.1:8080 or :8080: %w", a.listen, err)
	case (a.tls.cert == "") != (a.tls.key == ""):
		return usagef("--http-tls-cert and --http-tls-key go together")
	case a.tls.cert == "" && !a.insecure && !isLoopback(host):
		return usagef("--http-listen %s is beyond loopback, where bearer tokens need TLS: set --http-tls-cert and --http-tls-key, "+
			"or --insecure-http where a proxy before it has TLS", a.listen)
	case a.wait <= 0 || a.wait > maxAPIWait:
		return usagef("--api-wait is more than 0 and at most %s", maxAPIWait)
	case a.concurrency < 1:
		return usagef("--api-concurrency is at least 1")
	}
	if a.baseURL = strings.TrimRight(a.baseURL, "/"); a.baseURL != "" {
		u, err := url.Parse(a.baseURL)
		if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			return usagef("--http-base-url %q is not a URL as https://compliance.example", a.baseURL)
		}
	}
	return nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// readKey returns the key of links; nil where no file is named.
func (a *api) readKey() ([]byte, error) {
	if a.linkKey == "" {
		return nil, nil
	}
	key, err := os.ReadFile(a.linkKey)
	switch {
	case err != nil:
		return nil, usagef("--api-link-key-file: %w", err)
	case len(key) < minLinkKey:
		return nil, usagef("--api-link-key-file: %s has less than %d bytes", a.linkKey, minLinkKey)
	}
	return key, nil
}

// listenAPI begins to answer, at first that the servers are waited for, and returns the
// URL.
func (s *server) listenAPI(ctx context.Context, group *errgroup.Group) (string, error) {
	host, port, _ := splitListen(s.api.listen)
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return "", fmt.Errorf("HTTP API: %w; choose another --http-listen, or leave the API out with --roles", err)
	}
	unready := graph.Unready(s.log)
	s.api.handler.Store(&unready)
	web := graph.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		(*s.api.handler.Load()).ServeHTTP(w, r)
	}), graph.ServerOptions{TLS: s.api.certificate, Logger: s.log})
	group.Go(func() error {
		if err := web.Serve(listener); err != nil {
			return fmt.Errorf("HTTP API: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		// A request that is under way still has the servers.
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), apiDrainTimeout)
		defer cancel()
		return web.Shutdown(limited)
	})
	if !s.api.access.named() {
		entry := token.Entry{Name: "serve", Scopes: []string{graph.ScopeReadWrite}}
		if s.token, entry, err = token.New(entry); err != nil {
			return "", err
		}
		s.api.authorizers = []graph.Authorizer{token.Single(s.token, entry.Grant())}
	}
	if s.api.insecure && s.api.baseURL == "" {
		s.log.WarnContext(ctx, "the links of the HTTP API begin with http: set --http-base-url where a proxy before it has TLS")
	}
	s.log.InfoContext(ctx, "the HTTP API listens", slog.String("api_listen", listener.Addr().String()))
	return s.api.address(listener.Addr()), nil
}

// address returns the URL of the API as it can be reached from here.
func (a *api) address(at net.Addr) string {
	if a.baseURL != "" {
		return a.baseURL
	}
	host, port, err := net.SplitHostPort(at.String())
	if ip := net.ParseIP(host); err == nil && ip.IsUnspecified() {
		host = "localhost"
	}
	scheme := "http://"
	if a.certificate != nil {
		scheme = "https://"
	}
	return scheme + net.JoinHostPort(host, port)
}

// curl returns a command line that makes an update by the API of a serve. It has no token
// in it, and works where it is pasted.
func curl(dir string, found addresses) string {
	return fmt.Sprintf(`  curl -X PATCH %s/deviceManagement/deviceCompliancePolicies/my-policy/deviceStatuses/my-device \
    -H "Authorization: Bearer $(%s --data-dir %s token)" \
    -H 'Content-Type: application/json' -d '{"status":"compliant"}'
`, found.HTTP, self(), quoted(dir))
}

// startAPI answers requests from now on. The API has a client of its own for Redis, so that
// those who read never keep a worker from it.
func (s *server) startAPI(ctx context.Context, group *errgroup.Group, options store.Options) error {
	sender, err := newAPIPublisher(s)
	if err != nil {
		return err
	}
	// At the end those who wait for results are answered with where their report is.
	group.Go(func() error {
		<-ctx.Done()
		sender.Close()
		return nil
	})
	state, err := store.New(s.layout, options)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, func() { _ = state.Close() }) // Nothing was written.
	observer := metrics.NewAPI(prometheus.Registerer(s.registry), graph.Operations(), append(graph.Statuses(), graph.StatusClientGone))
	handler := graph.Handler(&apiReader{store: state, js: s.js, layout: s.layout}, sender, token.Any(s.api.authorizers...), graph.Options{
		Rules: compliance.Rules{Allow: s.allow}, Wait: s.api.wait, Concurrency: s.api.concurrency,
		Validity: s.validity.days, BaseURL: s.api.baseURL, LinkKey: s.api.key, Logger: s.log, Observe: observer.Observe,
	})
	s.api.handler.Store(&handler)
	return nil
}

// apiReader reads the state for the API.
type apiReader struct {
	store  *store.Redis
	js     jetstream.JetStream
	layout compliance.Layout
}

// Get implements [graph.Reader].
func (r *apiReader) Get(ctx context.Context, key compliance.Key) (compliance.Record, error) {
	return r.store.Get(ctx, key)
}

// List implements [graph.Reader].
func (r *apiReader) List(ctx context.Context, q graph.Query) (graph.Page, error) {
	of := store.Query{Policy: q.Policy, Statuses: q.Statuses}
	if q.Match != nil {
		of.Match = func(item *store.Item) bool {
			return q.Match(&graph.Item{Device: item.Key.Device, Record: item.Record})
		}
	}
	page, err := r.store.List(ctx, of, q.Cursor, q.Limit, time.Now())
	if errors.Is(err, store.ErrCursor) {
		return graph.Page{}, graph.ErrCursor
	}
	items := make([]graph.Item, len(page.Items))
	for i := range page.Items {
		items[i] = graph.Item{Device: page.Items[i].Key.Device, Record: page.Items[i].Record}
	}
	return graph.Page{Items: items, Next: page.Next, Unreadable: page.Unreadable}, err
}

// Counts implements [graph.Reader].
func (r *apiReader) Counts(ctx context.Context, policy string) (graph.Counts, error) {
	statuses, err := r.store.PolicyCounts(ctx, policy)
	if err != nil {
		return graph.Counts{}, err
	}
	counts := graph.Counts{Statuses: statuses}
	for partition := range r.layout.Partitions {
		floors, err := r.store.ReadFloors(ctx, r.layout.BucketsOf(partition))
		if err != nil {
			return graph.Counts{}, err
		}
		for _, floor := range floors {
			if floor.Stored.After(counts.Until) {
				counts.Until = floor.Stored
			}
		}
	}
	return counts, nil
}

// Passed implements [graph.Reader]. A floor of the same name may be that of a stream that
// was there before, or went back since: then nothing is known.
func (r *apiReader) Passed(ctx context.Context, device string, at graph.Receipt) (bool, error) {
	floors, err := r.store.ReadFloors(ctx, []compliance.Bucket{r.layout.BucketOf(device)})
	if err != nil {
		return false, err
	}
	floor := floors[0]
	if floor.Torn || floor.Stream != at.Stream || floor.Sequence < at.Sequence {
		return false, nil
	}
	source := ingest.NewJetStream(r.js, at.Stream)
	info, err := source.Info(ctx)
	if err != nil || !info.Created.Equal(floor.Created) {
		return false, err
	}
	stored, err := source.StoredAt(ctx, at.Sequence)
	return err == nil && !stored.IsZero() && !floor.Stored.Before(stored), err
}

// Refusal implements [graph.Reader].
func (r *apiReader) Refusal(ctx context.Context, at graph.Receipt) (*compliance.Error, error) {
	box, err := deadletter.Open(ctx, r.js)
	if err != nil {
		return nil, err
	}
	letter, err := box.Of(ctx, at.Stream, at.Sequence)
	switch {
	case errors.Is(err, deadletter.ErrNotFound):
		return nil, nil //nolint:nilnil // No letter, no refusal.
	case err != nil:
		return nil, err
	}
	return &letter.Error, nil
}

// apiPublisher stores the reports of the API.
type apiPublisher struct {
	sender  *publisher.Publisher
	stamper *publisher.Stamper
	log     *slog.Logger
	deaf    atomic.Bool // That results cannot be heard was said.
}

func newAPIPublisher(s *server) (*apiPublisher, error) {
	sender, err := publisher.New(s.nats, publisher.Options{})
	if err != nil {
		return nil, err
	}
	stamper, err := publisher.NewStamper("", time.Now, time.Time{})
	return &apiPublisher{sender: sender, stamper: stamper, log: s.log}, err
}

// Close ends what waits, and returns when nothing is under way.
func (p *apiPublisher) Close() { p.sender.Close() }

// Stamp implements [graph.Publisher].
func (p *apiPublisher) Stamp(key compliance.Key) (graph.Outgoing, error) {
	stamped, err := p.stamper.Stamp(publisher.Outgoing{Key: key})
	return graph.Outgoing{Key: key, EventID: stamped.EventID, EventTime: stamped.EventTime}, err
}

func outgoing(o graph.Outgoing) publisher.Outgoing {
	return publisher.Outgoing{Key: o.Key, Body: o.Body, EventID: o.EventID, EventTime: o.EventTime}
}

// Publish implements [graph.Publisher].
func (p *apiPublisher) Publish(ctx context.Context, o graph.Outgoing) (graph.Receipt, error) {
	ack, err := p.sender.Publish(ctx, outgoing(o))
	return graph.Receipt{Stream: ack.Stream, Sequence: ack.Sequence}, err
}

// Ask implements [graph.Publisher].
func (p *apiPublisher) Ask(ctx context.Context, o graph.Outgoing) (graph.Receipt, func(context.Context) *compliance.Result, error) {
	asked, err := p.sender.Ask(ctx, outgoing(o))
	if err != nil {
		return graph.Receipt{}, nil, err
	}
	return graph.Receipt{Stream: asked.Ack.Stream, Sequence: asked.Ack.Sequence}, func(ctx context.Context) *compliance.Result {
		result, err := asked.Result(ctx)
		if errors.Is(err, publisher.ErrNotAllowed) && !p.deaf.Swap(true) {
			p.log.WarnContext(ctx, "results cannot be heard, so updates are answered with 202; let this user subscribe to compliance.result.>")
		}
		if err != nil {
			return nil
		}
		return &result
	}, nil
}
