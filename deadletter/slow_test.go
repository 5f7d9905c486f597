package deadletter_test

import (
	"context"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/deadletter"
)

// slowLink is a TCP proxy before a server, that keeps back what the server says.
type slowLink struct {
	listener net.Listener
	upstream string
	// delay is how long, in nanoseconds.
	delay atomic.Int64
}

func startSlowLink(t *testing.T, upstream string) *slowLink {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &slowLink{listener: listener, upstream: upstream}
	ctx := t.Context()
	var all sync.WaitGroup
	all.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() { l.serve(ctx, client) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		all.Wait()
	})
	return l
}

// serve joins a client to the server until either hangs up, or the test ends.
func (l *slowLink) serve(ctx context.Context, client net.Conn) {
	server, err := new(net.Dialer).DialContext(ctx, "tcp", l.upstream)
	if err != nil {
		_ = client.Close()
		return
	}
	over := context.AfterFunc(ctx, func() { _, _ = client.Close(), server.Close() })
	defer over()
	var both sync.WaitGroup
	both.Go(func() { l.pass(ctx, server, client, func() time.Duration { return 0 }) })
	both.Go(func() { l.pass(ctx, client, server, func() time.Duration { return time.Duration(l.delay.Load()) }) })
	both.Wait()
}

// pass brings bytes from one side to the other, each piece after a delay.
func (l *slowLink) pass(ctx context.Context, to, from net.Conn, delay func() time.Duration) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		timer := time.NewTimer(delay())
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func TestAListOverASlowLinkIsWhole(t *testing.T) {
	b := setup(t)
	const n = 300
	for i := range n {
		b.bury(compliance.Envelope{Subject: "compliance.status.p.d", Body: []byte(`{`), Sequence: uint64(i + 1), Stored: began})
	}
	link := startSlowLink(t, b.js.Conn().ConnectedAddr())
	nc, err := nats.Connect("nats://" + link.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if b.box, err = deadletter.Open(t.Context(), js); err != nil {
		t.Fatal(err)
	}
	// The client's fetch without waiting takes a second without a message for the end.
	link.delay.Store(int64(1200 * time.Millisecond))
	if letters, _ := b.list(deadletter.Filter{}); len(letters) != n || letters[n-1].Sequence != n {
		t.Errorf("%d letters, want %d", len(letters), n)
	}
}

func TestAListThatBreaksOffIsAnError(t *testing.T) {
	b := setup(t)
	b.box.SetPatience(500 * time.Millisecond)
	const n = 600
	for i := range n {
		b.bury(compliance.Envelope{Subject: "compliance.status.p.d", Body: []byte(`{`), Sequence: uint64(i + 1), Stored: began})
	}
	seen := 0
	// The server pauses after what it has sent by the first letter.
	list := func(meanwhile func(jetstream.Stream)) error {
		stream, err := b.js.Stream(t.Context(), compliance.DeadStream)
		if err != nil {
			t.Fatal(err)
		}
		seen = 0
		return b.box.Each(t.Context(), deadletter.Filter{Codes: []compliance.Code{compliance.MalformedJSON}}, func(deadletter.Letter, error) error {
			if seen++; seen == 1 {
				for name := range stream.ConsumerNames(t.Context()).Name() {
					if _, err := stream.PauseConsumer(t.Context(), name, time.Now().Add(time.Hour)); err != nil {
						t.Fatal(err)
					}
				}
				meanwhile(stream)
			}
			return nil
		})
	}
	if err := list(func(jetstream.Stream) {}); err == nil || !strings.Contains(err.Error(), "is not whole") || seen == n {
		t.Errorf("after %d letters: %v", seen, err)
	}
	if err := list(func(s jetstream.Stream) {
		if err := s.Purge(t.Context(), jetstream.WithPurgeKeep(1)); err != nil {
			t.Fatal(err)
		}
		if err := s.DeleteMsg(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}); err != nil || seen == n {
		t.Errorf("after %d letters that are left: %v", seen, err)
	}
}
