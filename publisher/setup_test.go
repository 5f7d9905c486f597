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
	"github.com/complianced/complianced/publisher/internal/natstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	key  = compliance.Key{Policy: "disk", Device: "d1"}
	body = []byte(`{"status":"compliant"}`)
)

// quick are options whose retries do not keep a test waiting.
var quick = publisher.Options{RetryWait: time.Millisecond, RetryWaitMax: 10 * time.Millisecond}

// natsServer is a server with what these tests often do with it.
type natsServer struct{ *natstest.Server }

func startServer(tb testing.TB, change ...func(*server.Options)) *natsServer {
	tb.Helper()
	return &natsServer{natstest.New(tb, change...)}
}

// stream makes the stream of reports, over the test's own connection.
func (s *natsServer) stream(tb testing.TB, change ...func(*jetstream.StreamConfig)) jetstream.Stream {
	tb.Helper()
	return natstest.MakeStream(tb, s.connect(tb), change...)
}

// connect returns a connection of the test's own.
func (s *natsServer) connect(tb testing.TB, options ...nats.Option) *nats.Conn {
	tb.Helper()
	return natstest.Connect(tb, s.ClientURL(), options...)
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
