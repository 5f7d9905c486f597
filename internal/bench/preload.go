package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/internal/fleet"
)

// sent is what a publishing must lead to.
type sent struct {
	reports   int
	unchanged int
	rejected  int
	// took is how long the publishing took, without waiting for the last report to be
	// acknowledged.
	took time.Duration
}

func (s *sent) applied() int { return s.reports - s.unchanged - s.rejected }

func (s *sent) plus(t sent) sent {
	return sent{s.reports + t.reports, s.unchanged + t.unchanged, s.rejected + t.rejected, s.took + t.took}
}

// count counts a report, and makes it part of what the records must be.
func (s *sent) count(e *expected, r *fleet.Report) error {
	s.reports++
	switch {
	case len(r.Body) > maxBody:
		s.rejected++
		return nil
	case r.Duplicate:
		s.unchanged++
		return nil
	}
	return e.take(r)
}

// Limits of what is under way: the server keeps up to 10,000 reports, and 128 MiB,
// that it has not yet stored, and drops what comes on top. Only one report of
// ackEvery, or of ackBytes, is acknowledged, which is half the work; that none is
// missing shows in the sequence of the last one.
const (
	ackEvery   = 500
	ackBytes   = 2 << 20
	maxPending = 12
)

// maxBody is the greatest body that is applied.
const maxBody = 16 << 10

// preload publishes n reports and moves the goal. Rate is how many a second; 0 is
// as fast as possible.
func (d *deployment) preload(ctx context.Context, e *expected, n, rate int, next func(i int) fleet.Report) (sent, error) {
	var refused atomic.Pointer[error]
	js, err := jetstream.New(d.nc, jetstream.WithPublishAsyncMaxPending(maxPending), jetstream.WithPublishAsyncTimeout(d.limits.ack),
		jetstream.WithPublishAsyncErrHandler(func(_ jetstream.JetStream, _ *nats.Msg, err error) { refused.CompareAndSwap(nil, &err) }))
	if err != nil {
		return sent{}, err
	}
	total := sent{}
	began := time.Now()
	reports, bytes := 0, 0
	for i := range n {
		report := next(i)
		if err := total.count(e, &report); err != nil {
			return total, err
		}
		if rate > 0 {
			if err := pause(ctx, time.Until(began.Add(time.Duration(i)*time.Second/time.Duration(rate)))); err != nil {
				return total, err
			}
		}
		d.expect(report.Key.Device)
		reports, bytes = reports+1, bytes+len(report.Body)
		if reports == ackEvery || bytes > ackBytes || i == n-1 {
			reports, bytes = 0, 0
			_, err = js.PublishMsgAsync(d.message(&report), jetstream.WithStallWait(d.limits.ack))
		} else {
			err = d.nc.PublishMsg(d.message(&report))
		}
		if err = cmp.Or(err, ctx.Err()); err != nil {
			return total, fmt.Errorf("publish: %w", err)
		}
	}
	total.took = time.Since(began)
	select {
	case <-js.PublishAsyncComplete():
	case <-ctx.Done():
		return total, ctx.Err()
	}
	if err := refused.Load(); err != nil {
		return total, fmt.Errorf("publish: %w", *err)
	}
	return total, d.checkEnds(ctx)
}

// message is a report as it is published. With several partitions it goes to where
// the account's mapping would put it.
func (d *deployment) message(report *fleet.Report) *nats.Msg {
	message := report.Message()
	if d.layout.Partitions > 1 {
		message.Subject = report.Key.PartitionSubject(d.layout.PartitionOf(report.Key.Device))
	}
	return message
}

// expect moves the goal by one report. One connection publishes, so that the
// reports have their sequences in this order.
func (d *deployment) expect(device string) {
	partition := d.layout.PartitionOf(device)
	d.goal.ends[partition]++
	d.goal.last[d.layout.BucketOf(device)] = d.goal.ends[partition]
}

var errStream = errors.New("the stream does not hold what was sent")

func (d *deployment) checkEnds(ctx context.Context) error {
	for partition, want := range d.goal.ends {
		got, err := d.streamEnd(ctx, partition)
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("%w: partition %d ends at %d, not at %d", errStream, partition, got, want)
		}
	}
	return nil
}
