package publisher_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/complianced/complianced/publisher"
	"github.com/complianced/complianced/publisher/internal/natstest"
)

func TestAClosedPublisherSaysSo(t *testing.T) {
	s := startServer(t)
	s.stream(t)
	p := natstest.Publisher(t, s.ClientURL(), quick)
	p.Close()
	p.Close()
	if _, err := p.Publish(t.Context(), publisher.Outgoing{Key: key, Body: body}); !errors.Is(err, publisher.ErrClosed) {
		t.Errorf("Publish: %v, want ErrClosed", err)
	}
	if _, err := p.PublishAndWait(t.Context(), publisher.Outgoing{Key: key, Body: body}); !errors.Is(err, publisher.ErrClosed) {
		t.Errorf("PublishAndWait: %v, want ErrClosed", err)
	}
}

func TestAClosedConnectionIsNotTriedAgain(t *testing.T) {
	s := startServer(t)
	s.stream(t)
	nc := s.connect(t)
	p, err := publisher.New(nc, quick)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	nc.Close()
	if _, err := p.Publish(t.Context(), publisher.Outgoing{Key: key, Body: body}); !errors.Is(err, publisher.ErrClosed) {
		t.Errorf("Publish: %v, want ErrClosed", err)
	}
	if _, err := p.PublishAndWait(t.Context(), publisher.Outgoing{Key: key, Body: body}); !errors.Is(err, publisher.ErrClosed) {
		t.Errorf("PublishAndWait: %v, want ErrClosed", err)
	}
}

func TestTheConnectionMayBeClosedWhileAReportWaits(t *testing.T) {
	s := startServer(t)
	nc := s.connect(t)
	s.Stop()
	inside := make(chan struct{})
	p, err := publisher.New(nc, publisher.Options{
		AckTimeout: time.Hour, Now: func() time.Time { close(inside); return time.Now() },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	eventually(t, "the connection lost", nc.IsReconnecting)
	done := start(func() (publisher.Ack, error) { return p.Publish(t.Context(), publisher.Outgoing{Key: key, Body: body}) })
	<-inside
	nc.Close()
	if got := <-done; !errors.Is(got.err, publisher.ErrClosed) {
		t.Errorf("got %v, want ErrClosed", got.err)
	}
}

func TestCloseWaitsForThePubAck(t *testing.T) {
	s := startServer(t)
	reports := make(chan *nats.Msg, 1)
	standIn(t, s, func(_ *nats.Conn, report *nats.Msg) { reports <- report })
	p := natstest.Publisher(t, s.ClientURL(), publisher.Options{AckTimeout: time.Hour})
	done := start(func() (publisher.Ack, error) { return p.Publish(t.Context(), publisher.Outgoing{Key: key, Body: body}) })
	report := <-reports
	closed := start(func() (struct{}, error) { p.Close(); return struct{}{}, nil })
	eventually(t, "no further report taken", func() bool {
		_, err := p.Publish(t.Context(), publisher.Outgoing{}) // Not a valid one: that is looked at later.
		return errors.Is(err, publisher.ErrClosed)
	})
	select {
	case <-closed:
		t.Fatal("Close did not wait")
	default:
	}
	acknowledge(report)
	if got := <-done; got.err != nil || got.value.Sequence != 7 {
		t.Errorf("got %+v", got)
	}
	<-closed
}

func TestCloseEndsWhatCannotEndByItself(t *testing.T) {
	s := startServer(t)
	o := quick
	o.RetryWait, o.RetryWaitMax = time.Hour, time.Hour
	retrying := natstest.Publisher(t, s.ClientURL(), o) // There is no stream, and the pause is long.
	first := start(func() (publisher.Ack, error) {
		return retrying.Publish(t.Context(), publisher.Outgoing{Key: key, Body: body})
	})
	acked := make(chan struct{})
	nc := s.connect(t)
	p, err := publisher.New(nc, publisher.Options{AckTimeout: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the first attempt made", func() bool {
		varz, err := s.Varz(nil)
		return err == nil && varz.InMsgs >= 1
	})
	standIn(t, s, func(_ *nats.Conn, report *nats.Msg) { acknowledge(report); close(acked) })
	waiting := start(func() (any, error) {
		return p.PublishAndWait(t.Context(), publisher.Outgoing{Key: key, Body: body})
	})
	<-acked
	retrying.Close()
	p.Close()
	got := <-first
	if unacked, ok := errors.AsType[*publisher.UnackedError](got.err); !ok || unacked.Attempts != 1 || !errors.Is(got.err, publisher.ErrClosed) {
		t.Errorf("the report that is tried again: %v, want an UnackedError for ErrClosed", got.err)
	}
	if got := <-waiting; !isNoResult(got.err) || !errors.Is(got.err, publisher.ErrClosed) {
		t.Errorf("the one that waits for a result: %v, want a NoResultError for ErrClosed", got.err)
	}
	if nc.IsClosed() || nc.NumSubscriptions() != 1 {
		t.Errorf("closed %v, %d subscriptions: the caller's connection stays, with the inbox alone", nc.IsClosed(), nc.NumSubscriptions())
	}

	// Without a connection too.
	s.Stop()
	inside := make(chan struct{})
	p = natstest.Publisher(t, s.ClientURL(), publisher.Options{
		AckTimeout: time.Hour, Now: func() time.Time { close(inside); return time.Now() },
	})
	offline := start(func() (publisher.Ack, error) {
		return p.Publish(t.Context(), publisher.Outgoing{Key: key, Body: body})
	})
	<-inside
	p.Close()
	if got := <-offline; !errors.Is(got.err, publisher.ErrClosed) {
		t.Errorf("the one without a connection: %v, want ErrClosed", got.err)
	}
}

func isNoResult(err error) bool {
	_, ok := errors.AsType[*publisher.NoResultError](err)
	return ok
}

func TestCloseMayComeAtAnyTime(t *testing.T) {
	s := startServer(t)
	s.stream(t)
	for range 20 {
		p := natstest.Publisher(t, s.ClientURL(), quick)
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				for {
					_, err := p.PublishAndWait(t.Context(), publisher.Outgoing{Key: key, Body: body})
					if errors.Is(err, publisher.ErrClosed) {
						return
					}
					t.Error(err)
				}
			})
		}
		wg.Go(p.Close)
		wg.Go(p.Close)
		wg.Wait()
	}
}

func TestCloseLeavesNoGoroutine(t *testing.T) {
	s := startServer(t)
	s.stream(t)
	before := goleak.IgnoreCurrent()
	p := natstest.Publisher(t, s.ClientURL(), quick)
	if _, err := p.PublishAndWait(within(t, 50*time.Millisecond), publisher.Outgoing{Key: key, Body: body}); !isNoResult(err) {
		t.Fatal(err)
	}
	p.Close()
	goleak.VerifyNone(t, before)
}
