package ingest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/ingest"
	"github.com/complianced/complianced/store"
)

// middle stands between a client and a server. While it is silent it swallows
// what either sends, and the connections stand.
type middle struct {
	listener net.Listener
	server   string

	mu     sync.Mutex
	silent bool
	// swallowed is what the client sent into the silence.
	swallowed bytes.Buffer
}

// startMiddle starts a middle before the broker's server.
func startMiddle(b *broker) *middle {
	b.Helper()
	listener, err := new(net.ListenConfig).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	m := &middle{listener: listener, server: b.server.Addr().String()}
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.Context()))
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() { m.join(ctx, conn) })
		}
	})
	b.Cleanup(func() {
		cancel()
		_ = listener.Close()
		all.Wait()
	})
	return m
}

// join carries what two ends say until either ends.
func (m *middle) join(ctx context.Context, client net.Conn) {
	server, err := new(net.Dialer).DialContext(ctx, "tcp", m.server)
	if err != nil {
		_ = client.Close()
		return
	}
	hangUp := func() { _ = errors.Join(client.Close(), server.Close()) }
	defer context.AfterFunc(ctx, hangUp)()
	var both sync.WaitGroup
	both.Go(func() { defer hangUp(); _, _ = io.Copy(mouth{m, server, true}, client) })
	both.Go(func() { defer hangUp(); _, _ = io.Copy(mouth{m, client, false}, server) })
	both.Wait()
}

// mouth is one direction of a connection.
type mouth struct {
	*middle
	io.Writer
	toServer bool
}

func (w mouth) Write(p []byte) (int, error) {
	w.mu.Lock()
	silent := w.silent
	if silent && w.toServer {
		w.swallowed.Write(p)
	}
	w.mu.Unlock()
	if silent {
		return len(p), nil
	}
	return w.Writer.Write(p)
}

func (m *middle) setSilent(silent bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.silent = silent
	m.swallowed.Reset()
}

func (m *middle) heard(text string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return bytes.Contains(m.swallowed.Bytes(), []byte(text))
}

// through returns a context whose client talks to the server through a middle.
func (b *broker) through(m *middle) jetstream.JetStream {
	b.Helper()
	nc, err := nats.Connect("nats://"+m.listener.Addr().String(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(300*time.Millisecond))
	if err != nil {
		b.Fatal(err)
	}
	return js
}

func TestTheLoopGoesOnAfterTheServerWasSilent(t *testing.T) {
	b := startBroker(t, single)
	m := startMiddle(b)
	sink := store.NewMemory(0)
	var log journal
	stop := b.runOn(b.through(m), sink, log.log)
	b.publish(key(1).Subject(), `{"status":"compliant"}`)
	b.settled(sink)
	m.setSilent(true)
	b.publish(key(1).Subject(), `{"status":"error"}`)
	b.publish(key(2).Subject(), `{"status":"conflict"}`)
	eventually(t, "the loop held up", func() bool { return log.has("ingest is held up") })
	m.setSilent(false)
	b.publish(key(3).Subject(), `{"status":"compliant"}`)
	b.settled(sink)
	stop()
	for n, want := range map[int]compliance.Status{1: compliance.StatusError, 2: compliance.StatusConflict, 3: compliance.StatusCompliant} {
		if record, _ := sink.Get(t.Context(), key(n)); record.Status() != want {
			t.Errorf("device %d: want %v, have %v", n, want, record.Status())
		}
	}
}

func TestCloseDoesNotWaitForAServerThatIsSilent(t *testing.T) {
	b := startBroker(t, single)
	m := startMiddle(b)
	source := ingest.NewJetStream(b.through(m), "COMPLIANCE_STATUS")
	if err := source.Seek(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	m.setSilent(true)
	// The reader makes its consumer anew, which takes it ten seconds.
	eventually(t, "a new consumer", func() bool { return m.heard("$JS.API.CONSUMER.CREATE.") })
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	closed := make(chan struct{})
	go func() { source.Close(); close(closed) }()
	select {
	case <-closed:
	case <-ctx.Done():
		t.Error("Close waits for the server")
		<-closed
	}
}

func TestAReaderThatCannotGoOnSaysSo(t *testing.T) {
	b := startBroker(t, single)
	source := b.source()
	if err := source.Seek(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if err := b.js.DeleteStream(t.Context(), "COMPLIANCE_STATUS"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := source.Next(ctx); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Error(err)
	}
}

func TestALoopThatStopsLeavesNoSubscriptionBehind(t *testing.T) {
	b := startBroker(t, single)
	b.publish(key(1).Subject(), `{"status":"compliant"}`)
	before := b.nc.NumSubscriptions()
	sink := store.NewMemory(0)
	stop := b.runOn(b.js, sink, nil)
	b.settled(sink)
	if b.nc.NumSubscriptions() == before {
		t.Fatal("the reader has no subscription")
	}
	stop()
	eventually(t, "the end of the reader", func() bool { return b.nc.NumSubscriptions() == before })
}
