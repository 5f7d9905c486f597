// Package natstest runs a nats-server for the tests of the publisher and of its spool.
package natstest

import (
	"net"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/publisher"
)

// Server is a real nats-server with JetStream on a port of its own.
type Server struct {
	*server.Server

	// Options are those with which it is started the next time.
	Options server.Options
}

// New starts a server, which is stopped at the end of the test.
func New(tb testing.TB, change ...func(*server.Options)) *Server {
	tb.Helper()
	s := &Server{Options: server.Options{
		ServerName: "test", Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: tb.TempDir(),
	}}
	for _, f := range change {
		f(&s.Options)
	}
	s.Start(tb)
	tb.Cleanup(s.Stop)
	return s
}

// Start starts the server again where it was.
func (s *Server) Start(tb testing.TB) {
	tb.Helper()
	options := s.Options
	var err error
	if s.Server, err = server.NewServer(&options); err != nil {
		tb.Fatal(err)
	}
	s.Server.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		tb.Fatal("the server takes no connections")
	}
	at, ok := s.Addr().(*net.TCPAddr)
	if !ok {
		tb.Fatalf("the server listens on %v", s.Addr())
	}
	s.Options.Port = at.Port
}

// Stop returns when the server is gone.
func (s *Server) Stop() {
	s.Shutdown()
	s.WaitForShutdown()
}

// Connect returns a connection of the test's own, for what is not the publisher.
func Connect(tb testing.TB, url string, options ...nats.Option) *nats.Conn {
	tb.Helper()
	nc, err := nats.Connect(url, append([]nats.Option{
		nats.MaxReconnects(-1), nats.ReconnectWait(5 * time.Millisecond), nats.ReconnectJitter(0, 0),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}),
	}, options...)...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(nc.Close)
	return nc
}

// MakeStream makes the stream of reports.
func MakeStream(tb testing.TB, nc *nats.Conn, change ...func(*jetstream.StreamConfig)) jetstream.Stream {
	tb.Helper()
	js, err := jetstream.New(nc)
	if err != nil {
		tb.Fatal(err)
	}
	config := jetstream.StreamConfig{
		Name: "COMPLIANCE_STATUS", Subjects: []string{"compliance.status.>"},
		MaxMsgSize: publisher.MaxReport, Duplicates: 100 * time.Millisecond,
	}
	for _, f := range change {
		f(&config)
	}
	stream, err := js.CreateStream(tb.Context(), config)
	if err != nil {
		tb.Fatal(err)
	}
	return stream
}

// Publisher returns a publisher that is closed at the end of the test.
func Publisher(tb testing.TB, url string, o publisher.Options) *publisher.Publisher {
	tb.Helper()
	p, err := publisher.Connect(tb.Context(), url, o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(p.Close)
	return p
}
