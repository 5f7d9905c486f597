package replay_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/replay"
)

// lossy is a TCP proxy before a nats-server that swallows reports on their way to the
// client, as a connection does that breaks.
type lossy struct {
	upstream string
	listener net.Listener
	// swallow says of the nth report on its way, which is the kth of its consumer, whether it
	// is lost.
	swallow func(n int64, k string) bool
	n       atomic.Int64
	serving sync.WaitGroup
}

func (b *broker) lossy(swallow func(n int64, k string) bool) *lossy {
	b.Helper()
	listener, err := new(net.ListenConfig).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	p := &lossy{upstream: strings.TrimPrefix(b.nc.ConnectedUrl(), "nats://"), listener: listener, swallow: swallow}
	p.serving.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			p.serving.Go(func() { p.serve(client) })
		}
	})
	b.Cleanup(func() {
		listener.Close()
		p.serving.Wait()
	})
	return p
}

func (p *lossy) serve(client net.Conn) {
	defer client.Close()
	server, err := new(net.Dialer).DialContext(context.Background(), "tcp", p.upstream)
	if err != nil {
		return
	}
	p.serving.Go(func() {
		defer server.Close()
		_, _ = io.Copy(server, client)
	})
	lines := bufio.NewReader(server)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		to := io.Writer(client)
		fields := strings.Fields(line)
		if message := strings.HasSuffix(fields[0], "MSG"); message {
			// A report has the subject that it was published to.
			if strings.HasPrefix(fields[1], "compliance.") && p.swallow(p.n.Add(1), numberIn(fields[3])) {
				to = io.Discard
			}
			size, err := strconv.ParseInt(fields[len(fields)-1], 10, 64)
			if err != nil {
				return
			}
			if _, err := io.WriteString(to, line); err != nil {
				return
			}
			if _, err := io.CopyN(to, lines, size+2); err != nil {
				return
			}
			continue
		}
		if _, err := io.WriteString(to, line); err != nil {
			return
		}
	}
}

// numberIn is the consumer's number of a report in the subject that it is acknowledged by,
// $JS.ACK.<stream>.<consumer>.<delivered>.<sequence>.<number>.<time>.<pending>.
func numberIn(reply string) string {
	tokens := strings.Split(reply, ".")
	if len(tokens) != 9 {
		return ""
	}
	return tokens[6]
}

// readBy reads the streams over a connection of its own to an address.
func (b *broker) readBy(address string) (*replay.Streams, *nats.Conn) {
	b.Helper()
	nc, err := nats.Connect(address)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		b.Fatal(err)
	}
	streams, err := replay.OpenStreams(b.Context(), js, b.streams(), replay.Selection{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(streams.Close)
	return streams, nc
}

func TestAReportThatIsLostOnItsWayIsReadAgain(t *testing.T) {
	b := startBroker(t, 1)
	const n = 1000
	for i := range n {
		b.publish(fmt.Sprintf("compliance.status.p.d%d", i), fmt.Sprintf(`{"platform":%d}`, i))
	}
	// Two in the middle of what is asked for at a time, and one at its beginning.
	proxy := b.lossy(func(n int64, _ string) bool { return n == 50 || n == 470 || n == 490 || n == 701 })
	streams, _ := b.readBy(proxy.listener.Addr().String())
	have := bodies(t, streams)
	if len(have) != n || streams.Gone() > 0 {
		t.Errorf("%d read and %d gone, of %d", len(have), streams.Gone(), n)
	}
	for i, body := range have {
		if body != fmt.Sprintf(`{"platform":%d}`, i) {
			t.Fatalf("report %d is %s", i, body)
		}
	}
	if proxy.n.Load() < n {
		t.Errorf("only %d came by the proxy", proxy.n.Load())
	}
}

// TestAConnectionThatLosesAgainAndAgainIsReadToTheEnd loses one report of each lot that is
// asked for.
func TestAConnectionThatLosesAgainAndAgainIsReadToTheEnd(t *testing.T) {
	b := startBroker(t, 1)
	const n = 200
	for i := range n {
		b.publish(fmt.Sprintf("compliance.status.p.d%d", i), `{}`)
	}
	proxy := b.lossy(func(_ int64, k string) bool { return k == "10" })
	streams, _ := b.readBy(proxy.listener.Addr().String())
	if have := bodies(t, streams); len(have) != n || streams.Gone() > 0 {
		t.Errorf("%d read and %d gone, of %d", len(have), streams.Gone(), n)
	}
	if came := proxy.n.Load(); came < 2*n {
		t.Errorf("%d came by the proxy: none was lost", came)
	}
}

// TestReportsAtTheEndThatAreGoneAreCounted takes the last reports away while the stream is
// read, which its settings forbid and a broken disk does not.
func TestReportsAtTheEndThatAreGoneAreCounted(t *testing.T) {
	b := startBroker(t, 1)
	if err := b.js.DeleteStream(t.Context(), "COMPLIANCE_STATUS"); err != nil {
		t.Fatal(err)
	}
	stream, err := b.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "COMPLIANCE_STATUS", Subjects: []string{"compliance.status.>"}})
	if err != nil {
		t.Fatal(err)
	}
	const n = 700
	for i := range n {
		b.publish(fmt.Sprintf("compliance.status.p.d%d", i), `{}`)
	}
	streams := b.open(replay.Selection{})
	for sequence := uint64(651); sequence <= n; sequence++ {
		if err := stream.DeleteMsg(t.Context(), sequence); err != nil {
			t.Fatal(err)
		}
	}
	if have := bodies(t, streams); len(have) != 650 || streams.Gone() != 50 {
		t.Errorf("%d read and %d gone, of %d", len(have), streams.Gone(), n)
	}
}

func TestAStreamThatLostAllSinceIsNoneThatIsDone(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	for range 10 {
		b.publish("compliance.status.p.d", `{}`)
	}
	first := b.open(replay.Selection{})
	position := replay.Position{Passed: 2, Bounds: first.Bounds(), Reached: map[string]uint64{"COMPLIANCE_STATUS": 2}}
	first.Close()
	stream, err := b.js.Stream(t.Context(), "COMPLIANCE_STATUS")
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	config.MaxAge = 100 * time.Millisecond
	if _, err := b.js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	for tick := time.NewTicker(20 * time.Millisecond); ; <-tick.C {
		if info, err := stream.Info(t.Context()); err != nil {
			t.Fatal(err)
		} else if info.State.Msgs == 0 {
			break
		}
	}
	streams := b.open(replay.Selection{Continued: position})
	if have := bodies(t, streams); len(have) > 0 || streams.Gone() != 8 {
		t.Errorf("%d read and %d gone", len(have), streams.Gone())
	}
}
