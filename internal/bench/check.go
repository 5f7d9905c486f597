package main

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/complianced/complianced/compliance"
)

// errWrong says that a run did not do what it had to: it has no figures.
var errWrong = errors.New("the run is wrong")

func wrongf(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errWrong}, args...)...)
}

// samples is how many records are compared value by value.
const samples = 500

// checkOutcomes compares the worker's counters, from its start, with what was sent
// to it.
func checkOutcomes(metrics scraped, want sent) error {
	for outcome, n := range map[compliance.Outcome]int{
		compliance.Applied: want.applied(), compliance.Unchanged: want.unchanged,
		compliance.Stale: 0, compliance.Rejected: want.rejected,
	} {
		if got := metrics.value("compliance_reports_total", string(outcome)); got != float64(n) {
			return wrongf("%.0f reports are %s, not %d", got, outcome, n)
		}
	}
	return nil
}

// outcomes waits until the worker has counted what it merged, which it does after
// the floor moved, and checks it.
func (d *deployment) outcomes(ctx context.Context, want sent) (scraped, error) {
	const tries = 100
	for n := 0; ; n++ {
		metrics, err := scrape(ctx, d.worker)
		if err != nil {
			return nil, err
		}
		if err = checkOutcomes(metrics, want); err == nil || n == tries {
			return metrics, err
		}
		if err := pause(ctx, pollEvery); err != nil {
			return nil, err
		}
	}
}

// checkState compares records, counts and the number of keys with what the first n
// records of the load must be.
func (d *deployment) checkState(ctx context.Context, l *load, n int) error {
	counts, err := d.state.Counts(ctx)
	if err != nil {
		return err
	}
	if want := l.counts(n); !maps.Equal(counts, want) {
		return wrongf("the counts are %v, not %v", counts, want)
	}
	keys, err := d.client.DBSize(ctx).Result()
	if err != nil {
		return err
	}
	withCounts := map[compliance.Bucket]bool{}
	for i := range n {
		withCounts[d.layout.BucketOf(l.key(i).Device)] = true
	}
	const meta = 1
	if want := n + len(withCounts) + d.layout.Buckets + meta; keys != int64(want) {
		return wrongf("Redis has %d keys, not %d", keys, want)
	}
	for i := 0; i < n; i += max(1, n/samples) {
		record, err := d.state.Get(ctx, l.key(i))
		if err != nil {
			return err
		}
		for p, want := range l.values(i) {
			if record.Values[p] != compliance.TextValue(want) {
				return wrongf("a record has another %s than was sent", compliance.Property(p))
			}
		}
	}
	return nil
}

// checkBare compares the hashes of the bare work.
func (d *deployment) checkBare(ctx context.Context, l *load) error {
	keys, err := d.other.DBSize(ctx).Result()
	if err != nil {
		return err
	}
	if keys != int64(len(l.pairs)) {
		return wrongf("the bare work has %d keys, not %d", keys, len(l.pairs))
	}
	for i := 0; i < len(l.pairs); i += max(1, len(l.pairs)/samples) {
		hash, err := d.other.HGetAll(ctx, bareKey(d.layout, l.key(i))).Result()
		if err != nil {
			return err
		}
		for p, want := range l.values(i) {
			if hash[bareFields[p]] != want {
				return wrongf("a hash of the bare work has another %s than was sent", compliance.Property(p))
			}
		}
	}
	return nil
}
