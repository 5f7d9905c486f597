package main

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
)

// Quantiles are those of one run, in seconds.
type Quantiles struct {
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p999"`
	Max  float64 `json:"max"`
}

// quantilesOf returns the quantiles of at least one duration, which it sorts.
func quantilesOf(all []time.Duration) Quantiles {
	slices.Sort(all)
	at := func(q float64) float64 {
		return all[max(1, int(math.Ceil(q*float64(len(all)))))-1].Seconds()
	}
	return Quantiles{at(.5), at(.99), at(.999), at(1)}
}

// live counts reports as they are stored, and writes at once what waits. It says when
// it is ready for the first one.
func (w *bareWork) live(ctx context.Context, lot *lot, start BareStart, ready func() error) (r BareResult, err error) {
	group, ctx := errgroup.WithContext(ctx)
	stored := make(chan time.Time, pullReports)
	var readers []jetstream.MessagesContext
	stop := func() {
		for _, messages := range readers {
			messages.Stop()
		}
	}
	defer stop()
	for partition, first := range start.First {
		messages, err := w.messages(ctx, partition, first)
		if err != nil {
			return r, err
		}
		readers = append(readers, messages)
	}
	if err := ready(); err != nil {
		return r, err
	}
	for _, messages := range readers {
		group.Go(func() error { return readTimes(ctx, messages, stored) })
	}
	group.Go(func() error {
		defer stop()
		latencies, err := w.writeLive(ctx, lot, stored)
		if err == nil {
			r.Read, r.Written, r.Latency = len(latencies), len(latencies), quantilesOf(latencies)
		}
		return err
	})
	return r, group.Wait()
}

// readTimes passes on the store time of each report until the reader is stopped.
func readTimes(ctx context.Context, messages jetstream.MessagesContext, stored chan<- time.Time) error {
	for {
		message, err := messages.Next()
		if errors.Is(err, jetstream.ErrMsgIteratorClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		meta, err := message.Metadata()
		if err != nil {
			return err
		}
		select {
		case stored <- meta.Timestamp:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// writeLive writes one command for each report, those that wait in one pipeline, and
// returns the time from the store time of each to the reply.
func (w *bareWork) writeLive(ctx context.Context, lot *lot, stored <-chan time.Time) ([]time.Duration, error) {
	latencies := make([]time.Duration, 0, len(lot.shard))
	room := make([]values, w.options.Settings.Pipeline)
	next := make([]int, len(lot.shards))
	var waiting []time.Time
	var commands []command
	for len(latencies) < len(lot.shard) {
		waiting, commands = waiting[:0], commands[:0]
		select {
		case at := <-stored:
			waiting = append(waiting, at)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		most := min(len(room), len(lot.shard)-len(latencies))
		for more := true; more && len(waiting) < most; {
			select {
			case at := <-stored:
				waiting = append(waiting, at)
			default:
				more = false
			}
		}
		for i := range waiting {
			shard := lot.shard[len(latencies)+i]
			commands = append(commands, lot.shards[shard][next[shard]])
			next[shard]++
		}
		if err := w.send(ctx, lot, commands, room); err != nil {
			return nil, err
		}
		now := time.Now()
		for _, at := range waiting {
			latencies = append(latencies, now.Sub(at))
		}
	}
	return latencies, nil
}
