package spool_test

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/publisher"
	"github.com/complianced/complianced/publisher/spool"
)

var key = compliance.Key{Policy: "disk", Device: "d1"}

// quick are options whose retries do not keep a test waiting.
var quick = publisher.Options{RetryWait: time.Millisecond, RetryWaitMax: 10 * time.Millisecond, AckTimeout: 300 * time.Millisecond}

func open(tb testing.TB, dir string, o spool.Options) *spool.Spool {
	tb.Helper()
	s, err := spool.Open(dir, o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { shut(tb, s) })
	return s
}

func shut(tb testing.TB, s *spool.Spool) {
	tb.Helper()
	if err := s.Close(); err != nil {
		tb.Error(err)
	}
}

// run sends a spool until the test ends, or stop is called, which returns what Run did.
func run(tb testing.TB, s *spool.Spool, p *publisher.Publisher) (stop func() error) {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, p) }()
	stop = func() error {
		cancel()
		err := <-ended
		ended <- err
		return err
	}
	tb.Cleanup(func() { _ = stop() })
	return stop
}

// numbered is the nth report, of about size bytes.
func numbered(n, size int) publisher.Outgoing {
	body := `{"platform":` + strconv.Itoa(n) + `}`
	padding := make([]byte, max(0, size-len(body)))
	for i := range padding {
		padding[i] = ' '
	}
	return publisher.Outgoing{Key: key, Body: append([]byte(body), padding...)}
}

func publish(tb testing.TB, s *spool.Spool, reports ...publisher.Outgoing) {
	tb.Helper()
	for _, o := range reports {
		if _, err := s.Publish(tb.Context(), o); err != nil {
			tb.Fatal(err)
		}
	}
}

// eventually polls a condition.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	limit := time.NewTimer(30 * time.Second)
	defer limit.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-limit.C:
			tb.Fatalf("after 30 s still not: %s", what)
		case <-tick.C:
		}
	}
}

// empty waits until nothing is waiting.
func empty(tb testing.TB, s *spool.Spool) {
	tb.Helper()
	eventually(tb, "the spool empty", func() bool { return s.Stats().Waiting == 0 })
}

// stored returns all messages of the stream.
func stored(tb testing.TB, stream jetstream.Stream) (all []*jetstream.RawStreamMsg) {
	tb.Helper()
	info, err := stream.Info(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	for n := info.State.FirstSeq; n <= info.State.LastSeq; n++ {
		msg, err := stream.GetMsg(tb.Context(), n)
		if err != nil {
			tb.Fatal(err)
		}
		all = append(all, msg)
	}
	return all
}
