package spool_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/publisher"
	"github.com/complianced/complianced/publisher/spool"
)

func TestAPublisherOfAnotherDeviceLosesNothing(t *testing.T) {
	server := startServer(t)
	stream := makeStream(t, server.ClientURL())
	s := open(t, t.TempDir(), spool.Options{})
	publish(t, s, numbered(0, 0))
	o := quick
	o.Device = "d2"
	if err := s.Run(t.Context(), connect(t, server.ClientURL(), o)); !errors.Is(err, spool.ErrOtherDevice) {
		t.Errorf("Run: %v, want ErrOtherDevice", err)
	}
	if stats := s.Stats(); stats.Waiting != 1 || stats.Refused != 0 {
		t.Errorf("%+v", stats)
	}
	o.Device = "d1"
	run(t, s, connect(t, server.ClientURL(), o))
	empty(t, s)
	if n := arrived(t, stream); n != 1 {
		t.Errorf("%d arrived", n)
	}
}

func TestAServerWithALowMaxPayloadLosesNothing(t *testing.T) {
	s := startServer(t, func(o *server.Options) { o.MaxPayload = 8 << 10 })
	stream := makeStream(t, s.ClientURL())
	p := connect(t, s.ClientURL(), quick)
	large := numbered(0, 12<<10)
	if _, err := p.Publish(t.Context(), large); !errors.Is(err, publisher.ErrMaxPayload) || !errors.Is(err, publisher.ErrTooLarge) {
		t.Fatalf("got %v, want ErrMaxPayload", err)
	}
	spooled := open(t, t.TempDir(), spool.Options{})
	publish(t, spooled, large, numbered(1, 0))
	run(t, spooled, p)
	s.stop()
	s.options.MaxPayload = 1 << 20
	s.start(t)
	empty(t, spooled)
	if stats := spooled.Stats(); stats.Sent != 2 || arrived(t, stream) != 2 {
		t.Errorf("%+v", stats)
	}
}

// disk takes the reports of one policy alone.
func disk(c *jetstream.StreamConfig) { c.Subjects = []string{"compliance.status.disk.>"} }

// sealed makes a stream of another policy that takes no report any more.
func sealed(tb testing.TB, url string) {
	tb.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		tb.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		tb.Fatal(err)
	}
	config := jetstream.StreamConfig{Name: "SEALED", Subjects: []string{"compliance.status.sealed.>"}}
	if _, err := js.CreateStream(tb.Context(), config); err != nil {
		tb.Fatal(err)
	}
	config.Sealed = true
	if _, err := js.UpdateStream(tb.Context(), config); err != nil {
		tb.Fatal(err)
	}
}

func TestAnAgentThatIsOftenRestartedGivesUpToo(t *testing.T) {
	server := startServer(t)
	stream := makeStream(t, server.ClientURL(), disk)
	sealed(t, server.ClientURL())
	p := connect(t, server.ClientURL(), quick)
	dir := t.TempDir()
	first := numbered(0, 0)
	first.Key.Policy = "sealed"
	s := open(t, dir, spool.Options{})
	publish(t, s, first, numbered(1, 0))
	shut(t, s)
	starts := 0
	eventually(t, "the first report given up", func() bool {
		starts++
		s := open(t, dir, spool.Options{GiveUpAfter: 300 * time.Millisecond})
		stop := run(t, s, p)
		eventually(t, "an answer to the first report", func() bool { return spool.Doubts(s) == 1 || s.Stats().Refused == 1 })
		_ = stop()
		shut(t, s)
		return s.Stats().Refused == 1
	})
	if starts < 2 {
		t.Errorf("given up after %d starts", starts)
	}
	s = open(t, dir, spool.Options{})
	run(t, s, p)
	empty(t, s)
	if diff := cmp.Diff([]int{1}, platforms(t, stored(t, stream))); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
}
