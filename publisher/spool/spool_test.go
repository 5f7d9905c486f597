package spool_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/publisher"
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
func attempts(tb testing.TB, s *natsServer) int64 {
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
	server := startServer(t)
	stream := makeStream(t, server.ClientURL())
	p := connect(t, server.ClientURL(), quick)
	server.stop()
	s := open(t, t.TempDir(), spool.Options{})
	run(t, s, p)
	for n := range 600 {
		publish(t, s, numbered(n, 0))
	}
	if stats := s.Stats(); stats.Waiting != 600 || stats.Bytes < 600*50 || stats.Sent != 0 {
		t.Errorf("while the server is away: %+v", stats)
	}
	server.start(t)
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
	server := startServer(t)
	stream := makeStream(t, server.ClientURL())
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
	run(t, s, connect(t, server.ClientURL(), quick))
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
	server := startServer(t)
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
		stop := run(t, s, connect(t, server.ClientURL(), quick))
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
	stream := makeStream(t, server.ClientURL())
	run(t, s, connect(t, server.ClientURL(), quick))
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
	server := startServer(t)
	stream := makeStream(t, server.ClientURL())
	run(t, s, connect(t, server.ClientURL(), quick))
	empty(t, s)
	if diff := cmp.Diff(upTo(reports)[before.Dropped:], platforms(t, stored(t, stream))); diff != "" {
		t.Errorf("the newest (-want +got):\n%s", diff)
	}
	if stats := s.Stats(); stats.Dropped != before.Dropped || stats.Sent != uint64(before.Waiting) || stats.Bytes != 0 {
		t.Errorf("at the end: %+v", stats)
	}
}

func TestDroppingWhileReportsAreUnderWayCountsEachOnce(t *testing.T) {
	server := startServer(t)
	makeStream(t, server.ClientURL())
	p := connect(t, server.ClientURL(), quick)
	s := open(t, t.TempDir(), spool.Options{MaxBytes: 1 << 20, InFlight: 8, NoSync: true})
	run(t, s, p)
	server.stop()
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
	server.start(t)
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
	server := startServer(t)
	makeStream(t, server.ClientURL())
	p := connect(t, server.ClientURL(), quick)
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
	server := startServer(t)
	p := connect(t, server.ClientURL(), quick) // There is no stream, so a report is under way for ever.
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
	server := startServer(t)
	stream := makeStream(t, server.ClientURL())
	p := connect(t, server.ClientURL(), quick)
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
	server := startServer(t)
	p := connect(t, server.ClientURL(), quick)
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
	server := startServer(t)
	stream := makeStream(t, server.ClientURL(), func(c *jetstream.StreamConfig) {
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
	run(t, s, connect(t, server.ClientURL(), quick))
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
	server := startServer(t, users)
	address := server.Addr().String()
	stream := makeStream(t, "nats://admin:secret@"+address)
	quick := quick
	quick.AckTimeout = 50 * time.Millisecond

	t.Run("wrong credentials, for ever", func(t *testing.T) {
		s := open(t, t.TempDir(), spool.Options{GiveUpAfter: time.Nanosecond})
		publish(t, s, numbered(0, 0))
		p := connect(t, "nats://agent:wrong@"+address, quick)
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
		run(t, s, connect(t, "nats://agent:secret@"+address, quick))
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
		run(t, s, connect(t, "nats://agent:secret@"+address, quick))
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
	server := startServer(t)
	o := quick
	o.MaxAttempts = 1
	p := connect(t, server.ClientURL(), o)
	s := open(t, t.TempDir(), spool.Options{GiveUpAfter: time.Nanosecond})
	publish(t, s, numbered(0, 0))
	run(t, s, p)
	eventually(t, "some attempts that no stream takes", func() bool { return attempts(t, server) >= 3 })
	makeStream(t, server.ClientURL())
	empty(t, s)
	if stats := s.Stats(); stats.Sent != 1 || stats.Refused != 0 {
		t.Errorf("%+v", stats)
	}
}

// Who is first does the work of those behind, and may not take them along.
func TestAPanicOfTheClockAcceptsNoReport(t *testing.T) {
	began, behind := make(chan struct{}), make(chan struct{})
	calls := 0 // of a transaction at a time
	s := open(t, t.TempDir(), spool.Options{NoSync: true, Now: func() time.Time {
		switch calls++; calls {
		case 1: // While this one is made, all others wait for the next.
			close(began)
			<-behind
		case 2:
			panic("the clock")
		}
		return time.Now()
	}})
	var accepted, refused, panicked atomic.Int64
	var wg sync.WaitGroup
	report := func() {
		defer func() {
			if recover() != nil {
				panicked.Add(1)
			}
		}()
		if _, err := s.Publish(t.Context(), numbered(0, 0)); err != nil {
			refused.Add(1)
		} else {
			accepted.Add(1)
		}
	}
	wg.Go(report)
	<-began
	for range 10 {
		wg.Go(report)
	}
	eventually(t, "ten reports waiting for the next transaction", func() bool { return spool.Waiters(s) == 10 })
	close(behind)
	wg.Wait()
	if panicked.Load() != 1 || refused.Load() != 9 || accepted.Load() != 1 || s.Stats().Waiting != 1 {
		t.Errorf("%d panicked, %d refused, %d accepted, %+v", panicked.Load(), refused.Load(), accepted.Load(), s.Stats())
	}
	publish(t, s, numbered(1, 0))
}

func TestTheFileStaysSmallWhenManyReportsComeAtOnce(t *testing.T) {
	dir := t.TempDir()
	o := spool.Options{NoSync: true, MaxBytes: 4 << 20}
	s := open(t, dir, o)
	const writers, reports = 300, 4
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for n := range reports {
				publish(t, s, numbered(n, 60_000))
			}
		})
	}
	wg.Wait()
	info, err := os.Stat(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > 5*o.MaxBytes/2 {
		t.Errorf("the file has %d bytes with MaxBytes %d", info.Size(), o.MaxBytes)
	}
	if stats := s.Stats(); stats.Waiting+int(stats.Dropped) != writers*reports || stats.Waiting < 60 {
		t.Errorf("%+v", stats)
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

// A report that no stream takes holds up Run with all others settled: what a kill -9 would find then.
func TestAtMostABatchIsSentAgain(t *testing.T) {
	server := startServer(t)
	dir := t.TempDir()
	s := open(t, dir, spool.Options{NoSync: true})
	const reports = 400
	for n := range reports / 2 {
		publish(t, s, numbered(n, 0))
	}
	run(t, s, connect(t, server.ClientURL(), quick))
	eventually(t, "an attempt", func() bool { return attempts(t, server) > 0 }) // The first half is read, and waits for the stream.
	for n := range reports / 2 {
		publish(t, s, numbered(n, 0))
	}
	other := numbered(0, 0)
	other.Key.Policy = "other"
	publish(t, s, other)
	makeStream(t, server.ClientURL(), disk)
	eventually(t, "all but the last report sent", func() bool { return s.Stats().Waiting == 1 })
	content, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	killed := t.TempDir()
	if err := os.WriteFile(filepath.Join(killed, file), content, 0o600); err != nil {
		t.Fatal(err)
	}
	if stats := open(t, killed, spool.Options{}).Stats(); stats.Waiting > 257 || int(stats.Sent)+stats.Waiting != reports+1 {
		t.Errorf("a kill -9 would leave %+v", stats)
	}
}

func TestRunReturnsTheErrorOfItsContext(t *testing.T) {
	server := startServer(t)
	p := connect(t, server.ClientURL(), quick)
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
