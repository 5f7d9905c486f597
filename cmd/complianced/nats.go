package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/complianced/complianced/internal/mask"
)

// connection is told what becomes of a connection that waits for its server.
type connection struct {
	// log gets when the connection comes and goes, and why it does not come.
	log *slog.Logger
	// changed, where not nil, hears that it came or went.
	changed func(connected bool)
	// closed, where not nil, hears that it ended for good, which is also what
	// Close does.
	closed func(error)
}

// connectNATS connects a client. It fails at once where no server is there.
func (c *common) connectNATS(servers, name string) (*nats.Conn, error) {
	return dialNATS(servers, c.natsOptions(name))
}

// waitForNATS connects a client that waits for a server that is down, or that does
// not take its credentials yet.
func (c *common) waitForNATS(servers, name string, of connection) (*nats.Conn, error) {
	return dialNATS(servers, append(c.natsOptions(name), of.options(withoutPassword(servers))...))
}

func dialNATS(servers string, options []nats.Option) (*nats.Conn, error) {
	nc, err := nats.Connect(servers, options...)
	if err != nil {
		return nil, fmt.Errorf("nats at %s: %w", withoutPassword(servers), err)
	}
	return nc, nil
}

// natsOptions are those of every connection.
func (c *common) natsOptions(name string) []nats.Option {
	options := []nats.Option{
		nats.Name(name),
		nats.Timeout(clientTimeout),
		// The default prints to standard error, subjects included. What matters to a
		// command comes back as its error.
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}),
	}
	if c.natsCreds != "" {
		options = append(options, nats.UserCredentials(c.natsCreds))
	}
	if c.natsTLS.ca != "" {
		options = append(options, nats.RootCAs(c.natsTLS.ca))
	}
	if c.natsTLS.cert != "" {
		options = append(options, nats.ClientCert(c.natsTLS.cert, c.natsTLS.key))
	}
	return options
}

func (of connection) options(address string) []nats.Option {
	at := slog.String("address", address)
	changed, closed := of.changed, of.closed
	if changed == nil {
		changed = func(bool) {}
	}
	if closed == nil {
		closed = func(error) {}
	}
	return []nats.Option{
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		// Without it the client gives up for good after two equal refusals.
		nats.IgnoreAuthErrorAbort(),
		// As in publisher: a connection that a network swallowed is found within 40 s.
		nats.PingInterval(20 * time.Second),
		nats.MaxPingsOutstanding(1),
		nats.ConnectHandler(func(*nats.Conn) { changed(true) }),
		nats.ReconnectHandler(func(*nats.Conn) {
			changed(true)
			of.log.Info("nats is connected again", at)
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			changed(false)
			if err == nil {
				return // Closed by this process.
			}
			of.log.Warn("nats is not connected; trying again", at, natsSays(err))
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) {
			of.log.Warn("nats cannot be reached; trying again", at, natsSays(err))
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			of.log.Warn("nats reports an error", at, natsSays(err))
		}),
		nats.ClosedHandler(func(nc *nats.Conn) {
			closed(fmt.Errorf("nats at %s: the connection is closed for good: %s", address, lastError(nc)))
		}),
	}
}

// explain adds to an answer that never came what the server said beside: that
// something is not permitted it says nowhere else. Nor does it say that no server is there.
func explain(nc *nats.Conn, err error) error {
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if said := nc.LastError(); said != nil {
		return fmt.Errorf("%w; nats says: %s", err, mask.Subjects(said.Error()))
	}
	if !nc.IsConnected() {
		return fmt.Errorf("nats at %s: %w", withoutPassword(strings.Join(nc.Opts.Servers, ",")), nats.ErrNoServers)
	}
	return err
}

// natsSays is an error of the NATS client for the log.
func natsSays(err error) slog.Attr { return slog.String("error", mask.Subjects(err.Error())) }

// lastError is what the NATS client knows of why it is not connected.
func lastError(nc *nats.Conn) string {
	if err := nc.LastError(); err != nil {
		return mask.Subjects(err.Error())
	}
	return "no server answers"
}
