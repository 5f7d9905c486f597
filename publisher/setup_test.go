package publisher_test

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/publisher"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	key  = compliance.Key{Policy: "disk", Device: "d1"}
	body = []byte(`{"status":"compliant"}`)
)

// quick are options whose retries do not keep a test waiting.
var quick = publisher.Options{RetryWait: time.Millisecond, RetryWaitMax: 10 * time.Millisecond}

// natsServer is a real nats-server with JetStream on a port of its own.
type natsServer struct {
	*server.Server
	options server.Options
}

func startServer(tb testing.TB, change ...func(*server.Options)) *natsServer {
	tb.Helper()
	s := &natsServer{options: server.Options{
		ServerName: "test", Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: tb.TempDir(),
	}}
	for _, f := range change {
		f(&s.options)
	}
	s.start(tb)
	tb.Cleanup(s.stop)
	return s
}

// start starts the server again where it was.
func (s *natsServer) start(tb testing.TB) {
	tb.Helper()
	options := s.options
	var err error
	if s.Server, err = server.NewServer(&options); err != nil {
		tb.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		tb.Fatal("the server takes no connections")
	}
	s.options.Port = s.Addr().(*net.TCPAddr).Port
}

func (s *natsServer) stop() {
	s.Shutdown()
	s.WaitForShutdown()
}

// stream makes the stream of reports, over the test's own connection.
func (s *natsServer) stream(tb testing.TB, change ...func(*jetstream.StreamConfig)) jetstream.Stream {
	tb.Helper()
	return s.streamOver(tb, s.connect(tb), change...)
}

func (s *natsServer) streamOver(tb testing.TB, nc *nats.Conn, change ...func(*jetstream.StreamConfig)) jetstream.Stream {
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

// connect returns a connection of the test's own, for what is not the publisher.
func (s *natsServer) connect(tb testing.TB, options ...nats.Option) *nats.Conn {
	tb.Helper()
	nc, err := nats.Connect(s.ClientURL(), append([]nats.Option{
		nats.MaxReconnects(-1), nats.ReconnectWait(5 * time.Millisecond), nats.ReconnectJitter(0, 0),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}),
	}, options...)...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(nc.Close)
	return nc
}

func connect(tb testing.TB, url string, o publisher.Options) *publisher.Publisher {
	tb.Helper()
	p, err := publisher.Connect(tb.Context(), url, o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(p.Close)
	return p
}

// stored returns a message of the stream.
func stored(tb testing.TB, stream jetstream.Stream, sequence uint64) *jetstream.RawStreamMsg {
	tb.Helper()
	msg, err := stream.GetMsg(tb.Context(), sequence)
	if err != nil {
		tb.Fatalf("message %d: %v", sequence, err)
	}
	return msg
}

func count(tb testing.TB, stream jetstream.Stream) uint64 {
	tb.Helper()
	info, err := stream.Info(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return info.State.Msgs
}

// eventually polls a condition.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	limit := time.NewTimer(20 * time.Second)
	defer limit.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-limit.C:
			tb.Fatalf("after 20 s still not: %s", what)
		case <-tick.C:
		}
	}
}

// within returns a context that ends soon.
func within(tb testing.TB, d time.Duration) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), d)
	tb.Cleanup(cancel)
	return ctx
}

// link is a TCP proxy before a server that can lose what the server says.
type link struct {
	listener net.Listener
	server   string
	deaf     atomic.Bool // what the server says is swallowed
	lost     atomic.Int64
	wg       sync.WaitGroup
	mu       sync.Mutex // guards conns
	conns    []net.Conn
}

func startLink(tb testing.TB, s *natsServer) *link {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	l := &link{listener: listener, server: s.Addr().String()}
	l.wg.Go(l.accept)
	tb.Cleanup(func() {
		listener.Close()
		l.cut()
		l.wg.Wait()
	})
	return l
}

func (l *link) url() string { return "nats://" + l.listener.Addr().String() }

func (l *link) accept() {
	for {
		client, err := l.listener.Accept()
		if err != nil {
			return
		}
		upstream, err := net.Dial("tcp", l.server)
		if err != nil {
			client.Close()
			continue
		}
		l.mu.Lock()
		l.conns = append(l.conns, client, upstream)
		l.mu.Unlock()
		l.wg.Go(func() { io.Copy(upstream, client); upstream.Close() })
		l.wg.Go(func() { l.answers(client, upstream); client.Close() })
	}
}

func (l *link) answers(client io.Writer, upstream io.Reader) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := upstream.Read(buffer)
		if err != nil {
			return
		}
		if l.deaf.Load() {
			l.lost.Add(int64(n))
			continue
		}
		if _, err := client.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// cut breaks all connections; new ones may be made.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, conn := range l.conns {
		conn.Close()
	}
	l.conns = nil
}

// outcome is what a call returned in a goroutine of its own.
type outcome[T any] struct {
	value T
	err   error
}

func start[T any](call func() (T, error)) <-chan outcome[T] {
	done := make(chan outcome[T], 1)
	go func() {
		value, err := call()
		done <- outcome[T]{value, err}
	}()
	return done
}
