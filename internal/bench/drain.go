package main

import (
	"cmp"
	"context"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/complianced/complianced/compliance"
)

// pollEvery is how often the floors are looked at. At 10 ms it costs Redis less
// than 0.1 % of a processor.
const pollEvery = 10 * time.Millisecond

// Drained is what one drain of the worker took.
type Drained struct {
	reports int
	took    time.Duration
	cpu     Usage
	mallocs float64
	bytes   float64
	peak    int64
}

// Usage is the processor time of each process.
type Usage struct {
	Program time.Duration
	Redis   time.Duration
	NATS    time.Duration
}

// drain starts the worker, waits until it has applied what waits, reads what it
// cost and stops it. The worker's figures are those since its start.
func (d *deployment) drain(ctx context.Context, want sent) (Drained, error) {
	var r Drained
	if err := d.settle(ctx); err != nil {
		return r, err
	}
	redisBefore, err := d.redis.CPU()
	if err != nil {
		return r, err
	}
	natsBefore, err := d.nats.CPU()
	if err != nil {
		return r, err
	}
	var took time.Duration
	err = d.watched(ctx, d.worker.Start, func(ctx context.Context) (err error) {
		took, err = d.await(ctx)
		return err
	})
	if err != nil {
		return r, err
	}
	if d.drained != nil {
		if err := d.drained(ctx); err != nil {
			return r, err
		}
	}
	redisAfter, errRedis := d.redis.CPU()
	natsAfter, errNATS := d.nats.CPU()
	worker, errWorker := d.worker.CPU()
	for _, err := range []error{errRedis, errNATS, errWorker} {
		if err != nil {
			return r, err
		}
	}
	r = Drained{reports: want.reports, took: took, cpu: Usage{worker, redisAfter - redisBefore, natsAfter - natsBefore}}
	if r.peak, err = d.worker.PeakMemory(); err != nil {
		return r, err
	}
	metrics, err := d.outcomes(ctx, want)
	if err != nil {
		return r, err
	}
	r.mallocs = metrics.value("go_memstats_mallocs_total", "")
	r.bytes = metrics.value("go_memstats_alloc_bytes_total", "")
	return r, d.worker.Stop()
}

// watched starts the worker and does the work meanwhile. A worker that does not come
// up, or ends before the work does, ends the work.
func (d *deployment) watched(ctx context.Context, start, work func(ctx context.Context) error) error {
	group, ctx := errgroup.WithContext(ctx)
	working, done := context.WithCancel(ctx)
	defer done()
	group.Go(func() error {
		if err := start(ctx); err != nil {
			return err
		}
		return d.worker.Watch(working)
	})
	group.Go(func() error {
		defer done()
		return work(ctx)
	})
	return group.Wait()
}

// await returns the time from the last look before the first report was applied to
// the first look after the last one.
func (d *deployment) await(ctx context.Context) (time.Duration, error) {
	probes := d.probes()
	start, err := d.state.Floors(ctx, probes)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	err = d.poll(ctx, probes, func(looked time.Time, floors []compliance.Floor) {
		if sameSequences(floors, start) {
			began = looked
		}
	})
	if err != nil {
		return 0, err
	}
	err = d.poll(ctx, d.all(), func(time.Time, []compliance.Floor) {})
	return time.Since(began), err
}

func sameSequences(floors, others []compliance.Floor) bool {
	return slices.EqualFunc(floors, others, func(a, b compliance.Floor) bool { return a.Sequence == b.Sequence })
}

// poll looks at the floors of buckets until all their reports are merged, or none of
// them moves any more.
func (d *deployment) poll(ctx context.Context, buckets []compliance.Bucket, seen func(time.Time, []compliance.Floor)) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var last []compliance.Floor
	moved := time.Now()
	for {
		looked := time.Now()
		floors, err := d.state.Floors(ctx, buckets)
		if err != nil {
			return err
		}
		seen(looked, floors)
		if d.reached(buckets, floors) {
			return nil
		}
		if !sameSequences(floors, last) {
			last, moved = floors, looked
		}
		if looked.Sub(moved) > d.limits.stall {
			return wrongf("the worker merges nothing for %s; its log is %s", d.limits.stall, d.worker.LogFile())
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// probes are the buckets of the last report of each partition: while reports flow,
// they are enough to look at.
func (d *deployment) probes() []compliance.Bucket {
	probes := make([]compliance.Bucket, d.layout.Partitions)
	for partition := range probes {
		probes[partition] = slices.MaxFunc(d.layout.BucketsOf(partition), func(a, b compliance.Bucket) int {
			return cmp.Compare(d.goal.last[a], d.goal.last[b])
		})
	}
	return probes
}

func (d *deployment) all() []compliance.Bucket {
	buckets := make([]compliance.Bucket, d.layout.Buckets)
	for b := range buckets {
		buckets[b] = compliance.Bucket(b)
	}
	return buckets
}

// reached reports whether all reports of these buckets are merged.
func (d *deployment) reached(buckets []compliance.Bucket, floors []compliance.Floor) bool {
	for i, b := range buckets {
		if floors[i].Sequence < d.goal.last[b] {
			return false
		}
	}
	return true
}
