package spool_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/publisher"
	"github.com/complianced/complianced/publisher/internal/natstest"
	"github.com/complianced/complianced/publisher/spool"
)

func TestAPublisherOfAnotherDeviceLosesNothing(t *testing.T) {
	server := natstest.New(t)
	stream := natstest.MakeStream(t, natstest.Connect(t, server.ClientURL()))
	s := open(t, t.TempDir(), spool.Options{})
	publish(t, s, numbered(0, 0))
	o := quick
	o.Device = "d2"
	if err := s.Run(t.Context(), natstest.Publisher(t, server.ClientURL(), o)); !errors.Is(err, spool.ErrOtherDevice) {
		t.Errorf("Run: %v, want ErrOtherDevice", err)
	}
	if stats := s.Stats(); stats.Waiting != 1 || stats.Refused != 0 {
		t.Errorf("%+v", stats)
	}
	o.Device = "d1"
	run(t, s, natstest.Publisher(t, server.ClientURL(), o))
	empty(t, s)
	if n := arrived(t, stream); n != 1 {
		t.Errorf("%d arrived", n)
	}
}

func TestAServerWithALowMaxPayloadLosesNothing(t *testing.T) {
	s := natstest.New(t, func(o *server.Options) { o.MaxPayload = 8 << 10 })
	stream := natstest.MakeStream(t, natstest.Connect(t, s.ClientURL()))
	p := natstest.Publisher(t, s.ClientURL(), quick)
	large := numbered(0, 12<<10)
	if _, err := p.Publish(t.Context(), large); !errors.Is(err, publisher.ErrMaxPayload) || !errors.Is(err, publisher.ErrTooLarge) {
		t.Fatalf("got %v, want ErrMaxPayload", err)
	}
	spooled := open(t, t.TempDir(), spool.Options{})
	publish(t, spooled, large, numbered(1, 0))
	run(t, spooled, p)
	s.Stop()
	s.Options.MaxPayload = 1 << 20
	s.Start(t)
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
	server := natstest.New(t)
	stream := natstest.MakeStream(t, natstest.Connect(t, server.ClientURL()), disk)
	sealed(t, server.ClientURL())
	p := natstest.Publisher(t, server.ClientURL(), quick)
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
	if diff := cmp.Diff([]int{1}, slices.Compact(platforms(t, stored(t, stream)))); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
}

// refusals collects what a server refused for good.
type refusals struct {
	mu  sync.Mutex // guards all
	all []string
}

func (r *refusals) note(report publisher.Outgoing, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var cause *publisher.RefusedError
	switch {
	case errors.Is(err, publisher.ErrTooLarge):
		r.all = append(r.all, report.EventID+" too large")
	case errors.As(err, &cause):
		r.all = append(r.all, fmt.Sprint(report.EventID, " refused ", cause.ErrorCode))
	case errors.Is(err, publisher.ErrNotAllowed):
		r.all = append(r.all, report.EventID+" not allowed")
	}
}

func TestWhatIsRefusedForGoodBlocksNothing(t *testing.T) {
	server := natstest.New(t)
	stream := natstest.MakeStream(t, natstest.Connect(t, server.ClientURL()), func(c *jetstream.StreamConfig) {
		disk(c)
		c.MaxMsgSize = 32 << 10
	})
	sealed(t, server.ClientURL())
	var got refusals
	dir := t.TempDir()
	s := open(t, dir, spool.Options{GiveUpAfter: 300 * time.Millisecond, OnRefused: got.note})
	large := numbered(1, 40<<10)
	large.EventID = "a"
	other := numbered(2, 0)
	other.EventID, other.Key.Policy = "b", "sealed"
	publish(t, s, numbered(0, 0), large, other, numbered(3, 0))
	run(t, s, natstest.Publisher(t, server.ClientURL(), quick))
	empty(t, s)
	if diff := cmp.Diff([]int{0, 3}, platforms(t, stored(t, stream))); diff != "" {
		t.Errorf("stored (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"a too large", "b refused 10109"}, got.all); diff != "" {
		t.Errorf("refused (-want +got):\n%s", diff)
	}
	shut(t, s)
	if diff := cmp.Diff(spool.Stats{Sent: 2, Refused: 2}, open(t, dir, spool.Options{}).Stats()); diff != "" {
		t.Errorf("after a restart (-want +got):\n%s", diff)
	}
}

func TestAReportIsKeptWhileTheFaultMayBeTheServers(t *testing.T) {
	users := func(o *server.Options) {
		o.Users = []*server.User{
			{Username: "admin", Password: "secret"},
			{Username: "agent", Password: "secret", Permissions: &server.Permissions{
				Publish: &server.SubjectPermission{Allow: []string{"compliance.status.*.d1"}},
			}},
		}
	}
	server := natstest.New(t, users)
	address := server.Addr().String()
	stream := natstest.MakeStream(t, natstest.Connect(t, "nats://admin:secret@"+address))
	quick := quick
	quick.AckTimeout = 50 * time.Millisecond

	t.Run("wrong credentials, for ever", func(t *testing.T) {
		s := open(t, t.TempDir(), spool.Options{GiveUpAfter: time.Nanosecond})
		publish(t, s, numbered(0, 0))
		p := natstest.Publisher(t, "nats://agent:wrong@"+address, quick)
		if _, err := p.Publish(t.Context(), numbered(0, 0)); !errors.Is(err, publisher.ErrCredentials) {
			t.Fatalf("got %v", err)
		}
		stop := run(t, s, p)
		for range 3 { // As long as some attempts of Run take.
			if _, err := p.Publish(t.Context(), numbered(0, 0)); !errors.Is(err, publisher.ErrCredentials) {
				t.Fatalf("got %v", err)
			}
		}
		_ = stop()
		if stats := s.Stats(); stats.Refused != 0 || stats.Waiting != 1 {
			t.Fatalf("%+v", stats)
		}
		run(t, s, natstest.Publisher(t, "nats://agent:secret@"+address, quick))
		empty(t, s)
		if stats := s.Stats(); stats.Sent != 1 {
			t.Errorf("%+v", stats)
		}
	})
	t.Run("a subject that is not allowed, for a time", func(t *testing.T) {
		var got refusals
		s := open(t, t.TempDir(), spool.Options{GiveUpAfter: 200 * time.Millisecond, OnRefused: got.note})
		other := numbered(1, 0)
		other.Key.Device, other.EventID = "d2", "a"
		publish(t, s, other, numbered(2, 0))
		from := time.Now()
		run(t, s, natstest.Publisher(t, "nats://agent:secret@"+address, quick))
		empty(t, s)
		if took := time.Since(from); took < 200*time.Millisecond {
			t.Errorf("given up after %v", took)
		}
		if diff := cmp.Diff([]string{"a not allowed"}, got.all); diff != "" {
			t.Errorf("refused (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]int{0, 2}, platforms(t, stored(t, stream))); diff != "" {
			t.Errorf("stored (-want +got):\n%s", diff)
		}
	})
}

func TestAPublisherThatGivesUpDoesNotLoseTheReport(t *testing.T) {
	server := natstest.New(t)
	o := quick
	o.MaxAttempts = 1
	p := natstest.Publisher(t, server.ClientURL(), o)
	s := open(t, t.TempDir(), spool.Options{GiveUpAfter: time.Nanosecond})
	publish(t, s, numbered(0, 0))
	run(t, s, p)
	eventually(t, "some attempts that no stream takes", func() bool { return attempts(t, server) >= 3 })
	natstest.MakeStream(t, natstest.Connect(t, server.ClientURL()))
	empty(t, s)
	if stats := s.Stats(); stats.Sent != 1 || stats.Refused != 0 {
		t.Errorf("%+v", stats)
	}
}
