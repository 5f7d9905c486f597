package spool_test

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/publisher"
	"github.com/complianced/complianced/publisher/internal/natstest"
	"github.com/complianced/complianced/publisher/spool"
)

// platforms are the numbers of the reports in a stream, in its order.
func platforms(tb testing.TB, all []*jetstream.RawStreamMsg) (numbers []int) {
	tb.Helper()
	for _, msg := range all {
		var body struct {
			Platform int `json:"platform"`
		}
		if err := json.Unmarshal(msg.Data, &body); err != nil {
			tb.Fatal(err)
		}
		numbers = append(numbers, body.Platform)
	}
	return numbers
}

// attempts is how many messages the server has taken.
func attempts(tb testing.TB, s *natstest.Server) int64 {
	tb.Helper()
	varz, err := s.Varz(nil)
	if err != nil {
		tb.Fatal(err)
	}
	return varz.InMsgs
}

func upTo(n int) (numbers []int) {
	for i := range n {
		numbers = append(numbers, i)
	}
	return numbers
}

func TestReportsAreSentInOrderWhenTheServerIsBack(t *testing.T) {
	server := natstest.New(t)
	stream := natstest.MakeStream(t, natstest.Connect(t, server.ClientURL()))
	p := natstest.Publisher(t, server.ClientURL(), quick)
	server.Stop()
	s := open(t, t.TempDir(), spool.Options{})
	run(t, s, p)
	for n := range 600 {
		publish(t, s, numbered(n, 0))
	}
	if stats := s.Stats(); stats.Waiting != 600 || stats.Bytes < 600*50 || stats.Sent != 0 {
		t.Errorf("while the server is away: %+v", stats)
	}
	server.Start(t)
	empty(t, s)
	publish(t, s, numbered(600, 0)) // And one that comes with the server there.
	empty(t, s)
	all := stored(t, stream)
	if diff := cmp.Diff(upTo(601), platforms(t, all)); diff != "" {
		t.Errorf("reports (-want +got):\n%s", diff)
	}
	last := ""
	for _, msg := range all {
		if at := msg.Header.Get("ce-time"); at <= last {
			t.Errorf("time %s after %s", at, last)
		}
		last = msg.Header.Get("ce-time")
	}
	if diff := cmp.Diff(spool.Stats{Sent: 601}, s.Stats()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAReportIsSentAsItWasAccepted(t *testing.T) {
	server := natstest.New(t)
	stream := natstest.MakeStream(t, natstest.Connect(t, server.ClientURL()))
	dir := t.TempDir()
	at := time.Date(2026, 1, 31, 12, 0, 0, 123456789, time.FixedZone("", 3600))
	body := []byte("\x00any bytes\xff")
	reports := []publisher.Outgoing{
		{Key: key, Body: body, EventID: "id 1", EventTime: at, Header: map[string][]string{"traceparent": {"00-abc"}, "a": {"x", "y"}}},
		{Key: compliance.Key{Policy: "p", Device: "d2"}, NoEventID: true, NoEventTime: true, Header: map[string][]string{"ce-time": {"no time"}}},
	}
	s := open(t, dir, spool.Options{})
	publish(t, s, reports...)
	body[0] = 'x' // The spool has a copy.
	shut(t, s)
	s = open(t, dir, spool.Options{})
	run(t, s, natstest.Publisher(t, server.ClientURL(), quick))
	empty(t, s)
	all := stored(t, stream)
	if len(all) != 2 {
		t.Fatalf("%d stored", len(all))
	}
	want := []nats.Header{
		{"ce-id": {"id 1"}, "ce-time": {"2026-01-31T11:00:00.1234567Z"}, "traceparent": {"00-abc"}, "a": {"x", "y"}},
		{"ce-time": {"no time"}},
	}
	if diff := cmp.Diff(want, []nats.Header{all[0].Header, all[1].Header}); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	if all[0].Subject != "compliance.status.disk.d1" || string(all[0].Data) != "\x00any bytes\xff" ||
		all[1].Subject != "compliance.status.p.d2" || len(all[1].Data) != 0 {
		t.Errorf("stored %+v and %+v", all[0], all[1])
	}
}

func TestIDAndTimeStayTheSameOverRestarts(t *testing.T) {
	server := natstest.New(t)
	dir := t.TempDir()
	noon := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	s := open(t, dir, spool.Options{Now: func() time.Time { return noon }})
	publish(t, s, numbered(0, 0), numbered(1, 0))
	shut(t, s)

	// Reports arrive whose PubAck nobody sends.
	seen := make(chan *nats.Msg, 100)
	nc, err := nats.Connect(server.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := nc.ChanSubscribe("compliance.status.>", seen); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	first := map[string]string{}
	for range 3 {
		s = open(t, dir, spool.Options{})
		stop := run(t, s, natstest.Publisher(t, server.ClientURL(), quick))
		msg := <-seen
		first[msg.Header.Get("ce-id")] = msg.Header.Get("ce-time")
		if err := stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
		shut(t, s)
	}
	if len(first) != 1 {
		t.Errorf("one report went out with the ids and times %v", first)
	}

	// A clock that was set back meanwhile gives no time twice.
	s = open(t, dir, spool.Options{Now: func() time.Time { return noon.Add(-time.Minute) }})
	publish(t, s, numbered(2, 0))
	stream := natstest.MakeStream(t, natstest.Connect(t, server.ClientURL()))
	run(t, s, natstest.Publisher(t, server.ClientURL(), quick))
	empty(t, s)
	times := map[string]string{}
	for _, msg := range stored(t, stream) {
		times[msg.Header.Get("ce-time")] = msg.Header.Get("ce-id")
	}
	for n := range 3 {
		at := noon.Add(time.Duration(n) * 100).Format("2006-01-02T15:04:05.0000000Z")
		if times[at] == "" {
			t.Errorf("no report has the time %s: %v", at, times)
		}
	}
}

func TestTheOldestAreDroppedAndCounted(t *testing.T) {
	dir := t.TempDir()
	o := spool.Options{MaxBytes: 1 << 20}
	s := open(t, dir, o)
	const reports = 300
	for n := range reports {
		publish(t, s, numbered(n, 10_000))
		if stats := s.Stats(); stats.Bytes > o.MaxBytes || stats.Waiting+int(stats.Dropped) != n+1 {
			t.Fatalf("after %d reports: %+v", n+1, stats)
		}
	}
	before := s.Stats()
	if before.Dropped < 190 || before.Waiting < 100 {
		t.Errorf("%+v, want about 100 of %d reports kept", before, reports)
	}
	shut(t, s)
	s = open(t, dir, o)
	if diff := cmp.Diff(before, s.Stats()); diff != "" {
		t.Errorf("after a restart (-before +after):\n%s", diff)
	}
	server := natstest.New(t)
	stream := natstest.MakeStream(t, natstest.Connect(t, server.ClientURL()))
	run(t, s, natstest.Publisher(t, server.ClientURL(), quick))
	empty(t, s)
	if diff := cmp.Diff(upTo(reports)[before.Dropped:], platforms(t, stored(t, stream))); diff != "" {
		t.Errorf("the newest (-want +got):\n%s", diff)
	}
	if stats := s.Stats(); stats.Dropped != before.Dropped || stats.Sent != uint64(before.Waiting) || stats.Bytes != 0 {
		t.Errorf("at the end: %+v", stats)
	}
}

func TestDroppingWhileReportsAreUnderWayCountsEachOnce(t *testing.T) {
	server := natstest.New(t)
	natstest.MakeStream(t, natstest.Connect(t, server.ClientURL()))
	p := natstest.Publisher(t, server.ClientURL(), quick)
	s := open(t, t.TempDir(), spool.Options{MaxBytes: 1 << 20, InFlight: 8, NoSync: true})
	run(t, s, p)
	server.Stop()
	const writers, reports = 4, 200
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for n := range reports {
				publish(t, s, numbered(n, 20_000))
			}
		})
	}
	eventually(t, "some reports dropped", func() bool { return s.Stats().Dropped > 0 })
	server.Start(t)
	wg.Wait()
	empty(t, s)
	stats := s.Stats()
	if stats.Sent+stats.Dropped != writers*reports || stats.Dropped == 0 || stats.Sent == 0 || stats.Bytes != 0 {
		t.Errorf("%+v of %d reports", stats, writers*reports)
	}
}

func TestWhatCannotBeSentIsNotAccepted(t *testing.T) {
	s := open(t, t.TempDir(), spool.Options{Device: "d1"})
	finished, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Publish(finished, numbered(0, 0)); !errors.Is(err, context.Canceled) {
		t.Errorf("with a finished context: %v", err)
	}
	header := func(name, value string) publisher.Outgoing {
		o := numbered(0, 0)
		o.Header = map[string][]string{name: {value}}
		return o
	}
	untimed := numbered(0, 0)
	untimed.NoEventTime = true
	for what, o := range map[string]struct {
		report publisher.Outgoing
		want   error
	}{
		"another device":       {publisher.Outgoing{Key: compliance.Key{Policy: "disk", Device: "d2"}}, publisher.ErrInvalidKey},
		"an id of two lines":   {publisher.Outgoing{Key: key, EventID: "a\nb"}, publisher.ErrInvalidHeader},
		"too many bytes":       {numbered(0, publisher.MaxReport), publisher.ErrTooLarge},
		"a condition":          {header("Nats-Expected-Last-Sequence", "7"), publisher.ErrInvalidHeader},
		"an id of JetStream":   {header("Nats-Msg-Id", "same"), publisher.ErrInvalidHeader},
		"a rollup, in capital": {header("NATS-ROLLUP", "all"), publisher.ErrInvalidHeader},
		"a time to live":       {header("nats-ttl", "1s"), publisher.ErrInvalidHeader},
		"a value not in UTF-8": {header("a", "\xff"), publisher.ErrInvalidHeader},
		"no time":              {untimed, publisher.ErrInvalidHeader},
	} {
		if _, err := s.Publish(t.Context(), o.report); !errors.Is(err, o.want) {
			t.Errorf("%s: got %v, want %v", what, err, o.want)
		}
	}
	if diff := cmp.Diff(spool.Stats{}, s.Stats()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for name, o := range map[string]spool.Options{
		"a negative bound":         {MaxBytes: -1},
		"a bound that is too low":  {MaxBytes: 1000},
		"a negative number":        {InFlight: -1},
		"a negative time":          {GiveUpAfter: -1},
		"a device that is no id":   {Device: "a.b"},
		"a device that is no name": {Device: " "},
	} {
		if s, err := spool.Open(t.TempDir(), o); err == nil {
			t.Errorf("%s: no error", name)
			shut(t, s)
		}
	}
	if _, err := spool.Open(filepath.Join("/dev/null", "spool"), spool.Options{}); err == nil || errors.Is(err, spool.ErrDamaged) {
		t.Errorf("a folder that cannot be: %v", err)
	}
}

func TestOneFolderHasOneSpool(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, spool.Options{})
	if _, err := spool.Open(dir, spool.Options{}); !errors.Is(err, spool.ErrLocked) {
		t.Errorf("got %v, want ErrLocked", err)
	}
	shut(t, s)
	open(t, dir, spool.Options{})
}

func TestAClosedSpoolSaysSo(t *testing.T) {
	server := natstest.New(t)
	natstest.MakeStream(t, natstest.Connect(t, server.ClientURL()))
	p := natstest.Publisher(t, server.ClientURL(), quick)
	s := open(t, t.TempDir(), spool.Options{NoSync: true})
	publish(t, s, numbered(0, 0))
	shut(t, s)
	shut(t, s)
	if _, err := s.Publish(t.Context(), numbered(0, 0)); !errors.Is(err, spool.ErrClosed) {
		t.Errorf("Publish: %v", err)
	}
	if err := s.Run(t.Context(), p); !errors.Is(err, spool.ErrClosed) {
		t.Errorf("Run: %v", err)
	}
	if s.Stats().Waiting != 1 {
		t.Errorf("%+v", s.Stats())
	}
}

func TestCloseEndsRunAndLeavesNoGoroutine(t *testing.T) {
	server := natstest.New(t)
	p := natstest.Publisher(t, server.ClientURL(), quick) // There is no stream, so a report is under way for ever.
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := p.Publish(ctx, numbered(0, 0)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err) // The connection now has all its goroutines.
	}
	before, earlier := goleak.IgnoreCurrent(), attempts(t, server)
	s := open(t, t.TempDir(), spool.Options{})
	publish(t, s, numbered(0, 0))
	ended := make(chan error)
	go func() { ended <- s.Run(t.Context(), p) }()
	eventually(t, "an attempt of Run", func() bool { return attempts(t, server) > earlier })
	if err := s.Run(t.Context(), p); !errors.Is(err, spool.ErrRunning) {
		t.Errorf("a second Run: %v, want ErrRunning", err)
	}
	go func() { shut(t, s) }()
	if err := <-ended; !errors.Is(err, spool.ErrClosed) {
		t.Errorf("Run: %v, want ErrClosed", err)
	}
	shut(t, s)
	goleak.VerifyNone(t, before)
	if stats := s.Stats(); stats.Waiting != 1 {
		t.Errorf("%+v", stats)
	}
}

func TestCloseMayComeAtAnyTime(t *testing.T) {
	server := natstest.New(t)
	stream := natstest.MakeStream(t, natstest.Connect(t, server.ClientURL()))
	p := natstest.Publisher(t, server.ClientURL(), quick)
	dir := t.TempDir()
	var accepted atomic.Uint64
	for range 10 {
		s, err := spool.Open(dir, spool.Options{InFlight: 4})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					_, err := s.Publish(t.Context(), numbered(0, 0))
					if errors.Is(err, spool.ErrClosed) {
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
					accepted.Add(1)
				}
			})
		}
		wg.Go(func() {
			if err := s.Run(t.Context(), p); !errors.Is(err, spool.ErrClosed) {
				t.Error(err)
			}
		})
		eventually(t, "some reports sent", func() bool { return s.Stats().Sent > accepted.Load()/2 })
		shut(t, s)
		wg.Wait()
	}
	s := open(t, dir, spool.Options{})
	run(t, s, p)
	empty(t, s)
	ids := map[string]bool{}
	for _, msg := range stored(t, stream) {
		ids[msg.Header.Get("ce-id")] = true
	}
	if n := accepted.Load(); s.Stats().Sent != n || uint64(len(ids)) != n {
		t.Errorf("%d accepted, %d ids stored, %+v", n, len(ids), s.Stats())
	}
}

func TestAClosedPublisherEndsRun(t *testing.T) {
	server := natstest.New(t)
	p := natstest.Publisher(t, server.ClientURL(), quick)
	p.Close()
	s := open(t, t.TempDir(), spool.Options{})
	publish(t, s, numbered(0, 0))
	if err := s.Run(t.Context(), p); !errors.Is(err, publisher.ErrClosed) {
		t.Errorf("got %v, want the publisher's ErrClosed", err)
	}
	if s.Stats().Waiting != 1 {
		t.Errorf("%+v", s.Stats())
	}
}

// One time that is far ahead, of a caller or of a clock that was wrong for a while, must not let times go back.
func TestTimesGoUpOverARestartWhateverWasFarAhead(t *testing.T) {
	noon := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	dir := t.TempDir()
	start := func(now time.Time, own ...time.Time) (last time.Time) {
		s := open(t, dir, spool.Options{NoSync: true, Now: func() time.Time { return now }})
		defer shut(t, s)
		for _, at := range append(own, time.Time{}) {
			o := numbered(0, 0)
			o.EventTime = at
			got, err := s.Publish(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			last = got.EventTime
		}
		return last
	}
	start(noon.AddDate(1, 0, 0))
	first := start(noon, noon.AddDate(2, 0, 0))
	if !first.Equal(noon) {
		t.Errorf("got %v, want %v: the clock was right again", first, noon)
	}
	if second := start(noon.Add(-time.Minute)); !second.After(first) || second.Sub(first) > time.Minute {
		t.Errorf("%v, and after a restart %v", first, second)
	}
}

func TestRunReturnsTheErrorOfItsContext(t *testing.T) {
	server := natstest.New(t)
	p := natstest.Publisher(t, server.ClientURL(), quick)
	s := open(t, t.TempDir(), spool.Options{NoSync: true})
	for range 2 { // With nothing to send, and with a report that no stream takes.
		ctx, cancel := context.WithCancelCause(t.Context())
		ended := make(chan error)
		go func() { ended <- s.Run(ctx, p) }()
		cancel(errors.New("the caller's own reason"))
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
		publish(t, s, numbered(0, 0))
	}
}
