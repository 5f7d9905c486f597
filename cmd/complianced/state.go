package main

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/ingest"
	"github.com/complianced/complianced/metrics"
	"github.com/complianced/complianced/store"
)

// stateReader reads what the state metrics show.
type stateReader struct {
	js     jetstream.JetStream
	store  *store.Redis
	layout compliance.Layout
}

// read returns the counts, and of NATS what can be had.
func (s *stateReader) read(ctx context.Context) (metrics.Snapshot, error) {
	counts, err := s.store.Counts(ctx)
	if err != nil {
		return metrics.Snapshot{}, err
	}
	snapshot := metrics.Snapshot{Policies: counts}
	for n := range s.layout.Partitions {
		partition, err := s.partition(ctx, n)
		if err != nil {
			return metrics.Snapshot{}, err
		}
		snapshot.Partitions = append(snapshot.Partitions, partition)
	}
	if dead, err := s.js.Stream(ctx, ingest.DeadStream); err == nil {
		letters := dead.CachedInfo().State.Msgs
		snapshot.DeadLetters = &letters
	}
	return snapshot, nil
}

func (s *stateReader) partition(ctx context.Context, n int) (metrics.Partition, error) {
	buckets := s.layout.BucketsOf(n)
	gaps, err := s.store.Gaps(ctx, buckets)
	if err != nil {
		return metrics.Partition{}, err
	}
	floors, err := s.store.Floors(ctx, buckets)
	if err != nil {
		return metrics.Partition{}, err
	}
	p := metrics.Partition{Number: n, GapReports: lost(gaps)}
	lowest := slices.MinFunc(floors, func(a, b compliance.Floor) int { return cmp.Compare(a.Sequence, b.Sequence) })
	if lag, err := s.lag(ctx, n, lowest); err == nil {
		p.Lag = &lag
	}
	return p, nil
}

// lag is how far the lowest floor is behind the stream.
func (s *stateReader) lag(ctx context.Context, n int, lowest compliance.Floor) (metrics.Lag, error) {
	source := ingest.NewJetStream(s.js, ingest.StreamName(s.layout, n))
	info, err := source.Info(ctx)
	if err != nil {
		return metrics.Lag{}, err
	}
	next := max(lowest.Sequence+1, info.First)
	if !lowest.Absent() && !info.Created.Equal(lowest.Created) {
		next = info.First
	}
	if next > info.Last {
		return metrics.Lag{}, nil
	}
	stored, err := source.StoredAt(ctx, next)
	if err != nil {
		return metrics.Lag{}, err
	}
	lag := metrics.Lag{Messages: info.Last - next + 1}
	if !stored.IsZero() {
		lag.Age = max(0, time.Since(stored))
	}
	return lag, nil
}

// lost counts the reports that the buckets' gaps cover, each once.
func lost(gaps [][]compliance.Gap) uint64 {
	all := slices.Concat(gaps...)
	slices.SortFunc(all, func(a, b compliance.Gap) int { return cmp.Compare(a.First, b.First) })
	var n, covered uint64
	for _, gap := range all {
		if first := max(gap.First, covered+1); first <= gap.Last {
			n += gap.Last - first + 1
			covered = gap.Last
		}
	}
	return n
}

// gaps counts the reports that the streams lost before they were merged.
func (s *stateReader) gaps(ctx context.Context) (uint64, error) {
	var n uint64
	var errs []error
	for partition := range s.layout.Partitions {
		gaps, err := s.store.Gaps(ctx, s.layout.BucketsOf(partition))
		n += lost(gaps)
		errs = append(errs, err)
	}
	return n, errors.Join(errs...)
}
