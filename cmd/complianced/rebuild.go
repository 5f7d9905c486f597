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
	whole := make([]bool, v.layout.Partitions)
	for partition := range whole {
		info, err := ingest.NewJetStream(v.js, ingest.StreamName(v.layout, partition)).Info(ctx)
		if err != nil {
			return err
		}
		whole[partition] = info.First == 1
	}
	if err := v.catchUp(ctx, scratch); err != nil {
		return err
	}
	touched := ingest.NewTouched(v.js, v.layout)
	defer touched.Close()
	result, err := v.state.Compare(ctx, scratch, store.CompareOptions{
		Touched: touched.Between,
		Whole:   func(b compliance.Bucket) bool { return whole[int(b)%v.layout.Partitions] },
		Found:   v.found.add,
	})
	v.Compared, v.PassedOver = result.Records-result.PassedOver, result.PassedOver
	return err
}

// catchUp waits until the rebuilt state has come to where the other one is now.
func (v *verification) catchUp(ctx context.Context, scratch *store.Redis) error {
	var buckets []compliance.Bucket
	for b := range compliance.Bucket(v.layout.Buckets) {
		buckets = append(buckets, b)
	}
	until, err := v.state.ReadFloors(ctx, buckets)
	if err != nil {
		return err
	}
	for {
		have, err := scratch.ReadFloors(ctx, buckets)
		if err != nil {
			return err
		}
		behind := false
		for i := range until {
			behind = behind || have[i].Sequence < until[i].Sequence
		}
		if !behind {
			return nil
		}
		wait(ctx, 100*time.Millisecond)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}
