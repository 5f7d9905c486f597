package publisher

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/publisher/internal/backoff"
)

// Publisher sends reports. Its methods may be called from many goroutines.
type Publisher struct {
	nc      *nats.Conn
	js      jetstream.JetStream
	opts    Options
	stamper *Stamper
	results *results
	gate    *gate
	// slots holds one token for each report of PublishAsync that is under way.
	slots chan struct{}
	// hangUp closes the connection, if it is the publisher's own.
	hangUp func()
}

// Connect returns a publisher with a connection of its own. url is that of a
// NATS server, nats://host:4222 or tls://host:4222, or several parted by commas.
//
// Connect does not need the server to be there: it tries every address once, 2 s
// at most each (nats.Timeout), and the connection goes on trying for ever, also
// where it breaks later or the server refuses the credentials. ctx is looked at
// before and after. An error means that the URL or the options are wrong.
func Connect(ctx context.Context, url string, opts Options) (*Publisher, error) {
	if err := cmp.Or(opts.validate(), checkURL(url), ctx.Err()); err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	opts = opts.withDefaults()
	nc, err := nats.Connect(url, opts.connection()...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	if err := ctx.Err(); err != nil {
		nc.Close()
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	p, err := New(nc, opts)
	if err != nil {
		nc.Close()
		return nil, err
	}
	p.hangUp = nc.Close
	return p, nil
}

// connection returns the options of a connection for a network that fails.
func (o Options) connection() []nats.Option {
	return append([]nats.Option{
		nats.Name(o.Name),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), // Credentials are renewed while an agent runs.
		nats.CustomReconnectDelay(func(n int) time.Duration { return backoff.Pause(n, o.RetryWait, o.RetryWaitMax) }),
		nats.ReconnectBufSize(-1), // The publisher tries again itself; a copy in a buffer would come on top.
		// A connection that a network swallowed is found within 40 s. The default is 6 minutes, in which every attempt
		// would be in vain.
		nats.PingInterval(20 * time.Second),
		nats.MaxPingsOutstanding(1),
		// The default prints to standard error, subjects included. What matters to a report comes back as its error.
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}),
	}, o.NATS...)
}

// errURL stands for every fault of a URL: the errors of net/url quote it, and it
// may hold a password.
var errURL = errors.New("the URL is not of the form nats://host:port, several parted by commas; " +
	"in a user name or password write special characters as %XX")

func checkURL(servers string) error {
	for server := range strings.SplitSeq(servers, ",") {
		server = strings.TrimSpace(server)
		if !strings.Contains(server, "://") {
			server = "nats://" + server
		}
		u, err := url.Parse(server)
		// A password with an unescaped / ? or # leaves the @ in what follows the host.
		if err != nil || u.Hostname() == "" || strings.Contains(u.Path+u.RawQuery+u.Fragment, "@") {
			return errURL
		}
	}
	return nil
}

// New returns a publisher on a connection that the caller keeps, and closes
// after the publisher. Options.Name and Options.NATS do not count here.
//
// While nc is not connected nothing is sent, whatever its reconnect buffer.
func New(nc *nats.Conn, opts Options) (*Publisher, error) {
	if err := opts.validate(); err != nil {
		return nil, fmt.Errorf("new publisher: %w", err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("new publisher: %w", err)
	}
	opts = opts.withDefaults()
	return &Publisher{
		nc: nc, js: js, opts: opts,
		stamper: &Stamper{device: opts.Device, clock: clock{now: opts.Now}},
		results: newResults(nc, opts.Device),
		gate:    newGate(),
		slots:   make(chan struct{}, opts.MaxInFlight),
		hangUp:  func() {},
	}, nil
}

// Close ends the publisher. A report whose PubAck is awaited may get it, within
// Options.AckTimeout; no further attempt is made, and nobody waits for a result
// any more. Close returns when all calls have returned and PublishAsync has called
// every done; it must not be called from a done. It may be called more than once.
func (p *Publisher) Close() {
	p.gate.close()
	p.results.close()
	p.hangUp()
}
