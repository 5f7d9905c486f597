package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/ingest"
	"github.com/complianced/complianced/internal/embedded"
	"github.com/complianced/complianced/store"
)

// rebuild is a state that is made anew from the streams, in a Redis of its own that
// goes when the comparison is through.
type rebuild struct {
	allow      []string
	tombstones time.Duration
}

func (r *rebuild) validate() error {
	if err := compliance.Patterns(r.allow).Validate(); err != nil {
		return usagef("--allow-policies: %w", err)
	}
	if r.tombstones < 0 {
		return usagef("--tombstones is at least 0")
	}
	return nil
}

var errNoScratch = errors.New("verify --rebuild needs a Redis of its own for the rebuilt state: neither valkey-server nor redis-server is in PATH")

// compare rebuilds the state and compares the records.
func (v *verification) compare(ctx context.Context) (err error) {
	keep := v.rebuilding.tombstones
	if keep == 0 {
		maxAge, err := ingest.MaxAge(ctx, v.js, v.layout)
		if err != nil {
			return err
		}
		if maxAge > 0 {
			keep = maxAge + tombstonesBeyond
		}
	}
	dir, err := os.MkdirTemp("", "complianced-verify-")
	if err != nil {
		return fmt.Errorf("rebuild: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	own, err := embedded.StartRedis(ctx, embedded.RedisOptions{DataDir: dir})
	if err != nil {
		return fmt.Errorf("rebuild: %w", err)
	}
	defer func() { err = errors.Join(err, own.Close()) }()
	scratch, err := store.New(v.layout, store.Options{URLs: []string{own.URL()}, Tombstones: keep})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, scratch.Close()) }()
	group, running := errgroup.WithContext(ctx)
	running, stop := context.WithCancel(running)
	if err := v.mergeInto(running, group, scratch); err != nil {
		stop()
		return errors.Join(err, group.Wait())
	}
	group.Go(func() error {
		select {
		case <-running.Done():
			return nil
		case <-own.Done():
			return fmt.Errorf("rebuild: the scratch Redis ended by itself: %w", own.Err())
		}
	})
	group.Go(func() error {
		defer stop()
		return v.compareWith(running, scratch)
	})
	return group.Wait()
}

// mergeInto merges the streams into the scratch store, and goes on until the context
// ends.
func (v *verification) mergeInto(ctx context.Context, group *errgroup.Group, scratch *store.Redis) error {
	for partition := range v.layout.Partitions {
		loop, err := ingest.NewLoop(ingest.NewJetStream(v.js, ingest.StreamName(v.layout, partition)), scratch, nowhere{},
			ingest.Options{Layout: v.layout, Partition: partition, Allow: v.rebuilding.allow, StopWithin: time.Second})
		if err != nil {
			return err
		}
		group.Go(func() error { return loop.Run(ctx) })
	}
	return nil
}

// nowhere is the outlet of a rebuild: its dead letters are kept, and its results sent,
// by the worker that merged the reports first.
type nowhere struct{}

func (nowhere) Bury(_ context.Context, letters []ingest.DeadLetter) ([]ingest.DeadLetter, error) {
	return letters, nil
}
func (nowhere) Reply(context.Context, []ingest.Reply) error { return nil }

func (v *verification) compareWith(ctx context.Context, scratch *store.Redis) error {
	if err := v.catchUp(ctx, scratch); err != nil {
		return err
	}
	whole, err := v.whole(ctx, scratch)
	if err != nil {
		return err
	}
	touched := ingest.NewTouched(v.js, v.layout)
	defer touched.Close()
	allow := compliance.Patterns(v.rebuilding.allow)
	result, err := v.state.Compare(ctx, scratch, store.CompareOptions{
		Touched:  touched.Between,
		Whole:    func(b compliance.Bucket) time.Time { return whole[b] },
		LeaveOut: func(policy string) bool { return len(allow) > 0 && !allow.Match(policy) },
		Found:    v.found.add,
	})
	v.Compared, v.PassedOver, v.LeftOut = result.Records-result.PassedOver-result.Apart, result.PassedOver, result.LeftOut
	return err
}

// whole returns by bucket since when its stream holds all reports: when it was made, or
// the zero time where the rebuilt state could not get all of them.
func (v *verification) whole(ctx context.Context, scratch *store.Redis) ([]time.Time, error) {
	buckets := v.buckets()
	floors, err := scratch.ReadFloors(ctx, buckets)
	if err != nil {
		return nil, err
	}
	gaps, err := scratch.Gaps(ctx, buckets)
	if err != nil {
		return nil, err
	}
	whole := make([]time.Time, len(buckets))
	for b := range whole {
		if len(gaps[b]) == 0 {
			whole[b] = floors[b].Created
		}
	}
	return whole, nil
}

func (v *verification) buckets() []compliance.Bucket {
	buckets := make([]compliance.Bucket, v.layout.Buckets)
	for b := range buckets {
		buckets[b] = compliance.Bucket(b)
	}
	return buckets
}

// patience is how long the rebuilt state may stand still before it has come far enough.
const patience = time.Minute

// catchUp waits until the rebuilt state has come to where the other one is now.
func (v *verification) catchUp(ctx context.Context, scratch *store.Redis) error {
	until, err := v.goal(ctx)
	if err != nil {
		return err
	}
	progress := newProgress(v.stderr, "merging the streams into a Redis of its own: reports", int(sum(until)), progressEvery)
	defer progress.end()
	moved, last := time.Now(), uint64(0)
	for {
		have, err := scratch.ReadFloors(ctx, v.buckets())
		if err != nil {
			return err
		}
		behind, at := 0, sum(have)
		for b := range until {
			if have[b].Sequence < until[b].Sequence {
				behind++
			}
		}
		switch {
		case behind == 0:
			return nil
		case at != last:
			moved, last = time.Now(), at
		case time.Since(moved) > patience:
			return fmt.Errorf("rebuild: no report of the streams was merged for %s, and %d buckets have not come to where the state is; check that NATS answers and that the streams are not made anew", patience, behind)
		}
		progress.set(int(min(at, sum(until))))
		wait(ctx, 100*time.Millisecond)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// sum adds up how far the buckets are.
func sum(floors []compliance.Floor) (n uint64) {
	for _, floor := range floors {
		n += floor.Sequence
	}
	return n
}

// goal returns the floors to which the rebuilt state has to come. It is an error where
// its stream does not lead to one of them.
func (v *verification) goal(ctx context.Context) ([]compliance.Floor, error) {
	floors, err := v.state.ReadFloors(ctx, v.buckets())
	if err != nil {
		return nil, err
	}
	streams := make([]ingest.StreamInfo, v.layout.Partitions)
	for n := range streams { // After the floors: a stream is never behind them by itself.
		if streams[n], err = ingest.NewJetStream(v.js, ingest.StreamName(v.layout, n)).Info(ctx); err != nil {
			return nil, err
		}
	}
	for b, floor := range floors {
		stream := streams[b%v.layout.Partitions]
		own := floor.Stream == stream.Stream && floor.Created.Equal(stream.Created)
		switch {
		case floor.Absent():
		case floor.Unreadable(), !own, floor.Sequence > stream.Last:
			return nil, fmt.Errorf("rebuild: bucket %02x was not merged from the stream %s as it is now: "+
				"it was made anew or rolled back, or the floor is wrong; complianced serve merges the bucket again, check when it is through", b, stream.Stream)
		}
	}
	return floors, nil
}
