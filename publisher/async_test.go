package publisher_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/publisher"
	"github.com/complianced/complianced/publisher/internal/natstest"
)

// outcomes collects what the calls of done were given.
type outcomes struct {
	mu  sync.Mutex // guards all
	all []outcome[publisher.Ack]
}

func (o *outcomes) done(ack publisher.Ack, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all = append(o.all, outcome[publisher.Ack]{ack, err})
}

func (o *outcomes) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.all)
}

func TestAsyncReportsAreStoredAndEachIsToldOnce(t *testing.T) {
	s := startServer(t)
	stream := s.stream(t)
	before := goleak.IgnoreCurrent()
	p := natstest.Publisher(t, s.ClientURL(), quick)
	const reports = 1000
	times := make([]time.Time, reports)
	calls := make([]atomic.Int32, reports)
	for i := range reports {
		if err := p.PublishAsync(t.Context(), publisher.Outgoing{Key: key, Body: body}, func(ack publisher.Ack, err error) {
			if err != nil {
				t.Error(err)
			}
			times[i] = ack.EventTime
			calls[i].Add(1)
			if id := stored(t, stream, ack.Sequence).Header.Get("ce-id"); id != ack.EventID {
				t.Errorf("sequence %d holds %s, the ack said %s", ack.Sequence, id, ack.EventID)
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	p.Close()
	goleak.VerifyNone(t, before)
	for i := range reports {
		if n := calls[i].Load(); n != 1 {
			t.Fatalf("done of report %d was called %d times", i, n)
		}
		if i > 0 && !times[i].After(times[i-1]) {
			t.Fatalf("report %d has the time %v, the one before it %v", i, times[i], times[i-1])
		}
	}
	if n := count(t, stream); n != reports {
		t.Errorf("%d stored, want %d", n, reports)
	}
}

func TestAsyncStampsBeforeItReturns(t *testing.T) {
	s := startServer(t)
	s.Stop() // Nothing can be sent, so all of them are under way at once.
	var stamps atomic.Int32
	o := quick
	o.Now = func() time.Time { stamps.Add(1); return time.Now() }
	p := natstest.Publisher(t, s.ClientURL(), o)
	var got outcomes
	for n := range int32(50) {
		if err := p.PublishAsync(t.Context(), publisher.Outgoing{Key: key, Body: body}, got.done); err != nil {
			t.Fatal(err)
		}
		if stamps.Load() != n+1 {
			t.Fatalf("%d stamps after %d calls", stamps.Load(), n+1)
		}
	}
	p.Close()
	for _, one := range got.all {
		unacked, ok := errors.AsType[*publisher.UnackedError](one.err)
		if !ok || !errors.Is(one.err, publisher.ErrClosed) || unacked.EventID == "" || unacked.EventTime.IsZero() {
			t.Errorf("got %+v, want an UnackedError for ErrClosed with id and time", one)
		}
	}
	if len(got.all) != 50 {
		t.Errorf("%d outcomes", len(got.all))
	}
}

func TestAsyncWaitsWhileTooManyAreUnderWay(t *testing.T) {
	s := startServer(t)
	reports := make(chan *nats.Msg, 10)
	standIn(t, s, func(_ *nats.Conn, report *nats.Msg) { reports <- report })
	o := quick
	o.AckTimeout, o.MaxInFlight = time.Hour, 3
	p := natstest.Publisher(t, s.ClientURL(), o)
	var got outcomes
	publish := func(ctx context.Context) error {
		return p.PublishAsync(ctx, publisher.Outgoing{Key: key, Body: body}, got.done)
	}
	for range 3 {
		if err := publish(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := publish(within(t, 20*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("the fourth: %v, want the context's error", err)
	}
	acknowledge(<-reports)
	if err := publish(within(t, 20*time.Second)); err != nil {
		t.Fatalf("after a PubAck: %v", err)
	}
	asked := make(chan struct{})
	waiting := start(func() (struct{}, error) { return struct{}{}, publish(asking{t.Context(), asked}) })
	<-asked
	closed := start(func() (struct{}, error) { p.Close(); return struct{}{}, nil })
	if got := <-waiting; !errors.Is(got.err, publisher.ErrClosed) {
		t.Errorf("the one that waits when Close comes: %v, want ErrClosed", got.err)
	}
	select {
	case <-closed:
		t.Fatal("Close did not wait")
	default:
	}
	for range 3 {
		acknowledge(<-reports)
	}
	<-closed
	if err := publish(t.Context()); !errors.Is(err, publisher.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if got.count() != 4 {
		t.Errorf("%d outcomes, want those of the 4 that were taken", got.count())
	}
}

// asking is a context that tells when somebody is about to wait for its end.
type asking struct {
	context.Context //nolint:containedctx // It is one.

	asked chan struct{}
}

func (a asking) Done() <-chan struct{} {
	close(a.asked)
	return a.Context.Done()
}

func TestAsyncTellsWhatPublishReturns(t *testing.T) {
	s := startServer(t)
	s.stream(t)
	o := quick
	o.MaxInFlight = 1
	p := natstest.Publisher(t, s.ClientURL(), o)
	finished, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.PublishAsync(finished, publisher.Outgoing{Key: key, Body: body}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("with a finished context: %v", err)
	}
	for name, test := range map[string]struct {
		report publisher.Outgoing
		want   error
	}{
		"accepted":  {publisher.Outgoing{Key: key, Body: body}, nil},
		"no key":    {publisher.Outgoing{}, publisher.ErrInvalidKey},
		"too large": {publisher.Outgoing{Key: key, Body: make([]byte, publisher.MaxReport)}, publisher.ErrTooLarge},
	} {
		_, want := p.Publish(t.Context(), test.report)
		told := make(chan error, 1)
		if err := p.PublishAsync(t.Context(), test.report, func(_ publisher.Ack, err error) { told <- err }); err != nil {
			t.Fatal(err)
		}
		if got := <-told; !errors.Is(got, test.want) || got != nil && got.Error() != want.Error() {
			t.Errorf("%s: got %v, Publish gave %v", name, got, want)
		}
	}
}

func TestAsyncTriesAgainWithTheSameIDAndTime(t *testing.T) {
	s := startServer(t)
	stream := s.stream(t)
	l := startLink(t, s)
	o := quick
	o.AckTimeout = 300 * time.Millisecond
	p := natstest.Publisher(t, l.url(), o)
	if _, err := p.Publish(t.Context(), publisher.Outgoing{Key: key, Body: body}); err != nil {
		t.Fatal(err)
	}
	l.deaf.Store(true) // Reports are stored, and their PubAcks lost.
	var got outcomes
	const reports = 20
	for range reports {
		if err := p.PublishAsync(t.Context(), publisher.Outgoing{Key: key, Body: body}, got.done); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the first attempts stored", func() bool { return count(t, stream) >= 1+reports })
	l.cut()
	l.deaf.Store(false)
	eventually(t, "all accepted", func() bool { return got.count() == reports })
	want := map[string]string{}
	for _, one := range got.all {
		if one.err != nil || one.value.Attempts < 2 {
			t.Errorf("got %+v, want a further attempt accepted", one)
		}
		want[one.value.EventID] = one.value.EventTime.Format("2006-01-02T15:04:05.0000000Z")
	}
	have := map[string]string{}
	for n := uint64(2); n <= count(t, stream); n++ {
		header := stored(t, stream, n).Header
		have[header.Get("ce-id")] = header.Get("ce-time")
	}
	if diff := cmp.Diff(want, have); diff != "" || len(want) != reports {
		t.Errorf("ids and times stored (-acknowledged +stored):\n%s", diff)
	}
}

func TestCloseMayComeAtAnyTimeOfAsync(t *testing.T) {
	s := startServer(t)
	s.stream(t)
	o := quick
	o.MaxInFlight = 4
	for range 20 {
		p := natstest.Publisher(t, s.ClientURL(), o)
		var taken, told atomic.Int32
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				for {
					err := p.PublishAsync(t.Context(), publisher.Outgoing{
						Key: compliance.Key{Policy: "disk", Device: "d1"}, Body: body,
					}, func(publisher.Ack, error) { told.Add(1) })
					if errors.Is(err, publisher.ErrClosed) {
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
					taken.Add(1)
				}
			})
		}
		eventually(t, "some reports told", func() bool { return told.Load() > 3 })
		p.Close()
		after := told.Load()
		wg.Wait()
		if taken.Load() != after || told.Load() != after {
			t.Fatalf("%d taken, %d told when Close returned, %d later", taken.Load(), after, told.Load())
		}
	}
}
