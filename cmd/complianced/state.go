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
	// validity is how many UTC days a newest event is fresh.
	validity int
}

// read returns the counts, and of NATS what can be had.
func (s *stateReader) read(ctx context.Context) (metrics.Snapshot, error) {
	totals, err := s.store.Totals(ctx, time.Now(), s.validity)
	if err != nil {
		return metrics.Snapshot{}, err
	}
	snapshot := metrics.Snapshot{Policies: map[string]metrics.Policy{}, Devices: totals.Devices}
	for policy, of := range totals.Policies {
		snapshot.Policies[policy] = metrics.Policy{Statuses: of.Statuses, InGrace: of.InGrace, Stale: of.Stale}
	}
	drift, verified, known, err := s.store.LastVerify(ctx)
	if err != nil {
		return metrics.Snapshot{}, err
	}
	if known {
		snapshot.Drift, snapshot.Verified = &drift, verified
	}
	lowest := make([]compliance.Floor, s.layout.Partitions)
	for n := range lowest {
		partition, floor, err := s.partition(ctx, n)
		if err != nil {
			return metrics.Snapshot{}, err
		}
		snapshot.Partitions = append(snapshot.Partitions, partition)
		lowest[n] = floor
	}
	ctx, cancel := context.WithTimeout(ctx, natsTimeout)
	defer cancel()
	for n := range lowest {
		if lag, err := s.lag(ctx, n, lowest[n]); err == nil {
			snapshot.Partitions[n].Lag = &lag
		}
	}
	if dead, err := s.js.Stream(ctx, ingest.DeadStream); err == nil {
		letters := dead.CachedInfo().State.Msgs
		snapshot.DeadLetters = &letters
	}
	return snapshot, nil
}

// natsTimeout is how long a scrape waits for NATS. It is well below the time that
// the whole read has, so that a NATS that hangs takes only its own series away.
const natsTimeout = 2 * time.Second

// partition reads what Redis knows of a partition, and its lowest floor.
func (s *stateReader) partition(ctx context.Context, n int) (metrics.Partition, compliance.Floor, error) {
	buckets := s.layout.BucketsOf(n)
	gaps, err := s.store.Gaps(ctx, buckets)
	if err != nil {
		return metrics.Partition{}, compliance.Floor{}, err
	}
	floors, err := s.store.ReadFloors(ctx, buckets)
	if err != nil {
		return metrics.Partition{}, compliance.Floor{}, err
	}
	lowest := slices.MinFunc(floors, func(a, b compliance.Floor) int { return cmp.Compare(a.Sequence, b.Sequence) })
	return metrics.Partition{Number: n, GapReports: lost(gaps)}, lowest, nil
}

// errRemoved says that the report whose age is asked for is gone.
var errRemoved = errors.New("the report is not in the stream any more")

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
	if err == nil && stored.IsZero() {
		err = errRemoved
	}
	if err != nil {
		return metrics.Lag{}, err
	}
	return metrics.Lag{Messages: info.Last - next + 1, Age: max(0, time.Since(stored))}, nil
}

// joined are the gaps of all buckets without what they have in common, in sequence.
func joined(gaps [][]compliance.Gap) []compliance.Gap {
	all := slices.Concat(gaps...)
	slices.SortFunc(all, func(a, b compliance.Gap) int { return cmp.Compare(a.First, b.First) })
	var list []compliance.Gap
	for _, gap := range all {
		if n := len(list); n > 0 && gap.First <= list[n-1].Last {
			list[n-1].Last = max(list[n-1].Last, gap.Last)
			continue
		}
		list = append(list, gap)
	}
	return list
}

// lost counts the reports that the buckets' gaps cover, each once.
func lost(gaps [][]compliance.Gap) (n uint64) {
	for _, gap := range joined(gaps) {
		n += gap.Last - gap.First + 1
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
