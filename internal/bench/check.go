package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/ingest"
)

// errWrong says that a run did not do what it had to: it has no figures.
var errWrong = errors.New("the run is wrong")

func wrongf(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errWrong}, args...)...)
}

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

// checkState compares records, counts and the number of keys with what they must be.
func (d *deployment) checkState(ctx context.Context, e *expected) error {
	counts, err := d.state.Counts(ctx)
	if err != nil {
		return err
	}
	if !maps.Equal(counts, e.counts) {
		return wrongf("the counts are %v, not %v", counts, e.counts)
	}
	keys, err := d.client.DBSize(ctx).Result()
	if err != nil {
		return err
	}
	withCounts := map[compliance.Bucket]bool{}
	for key := range e.numbers {
		withCounts[d.layout.BucketOf(key.Device)] = true
	}
	floors, err := d.state.Floors(ctx, d.all())
	if err != nil {
		return err
	}
	// A bucket without reports has its floor only after a while.
	floors = slices.DeleteFunc(floors, compliance.Floor.Absent)
	const meta = 1
	if want := len(e.numbers) + len(withCounts) + len(floors) + meta; keys != int64(want) {
		return wrongf("Redis has %d keys, not %d", keys, want)
	}
	for key, want := range e.samples {
		record, err := d.state.Get(ctx, key)
		if err != nil {
			return err
		}
		for p, value := range want {
			if record.Values[p] != compliance.TextValue(value) {
				return wrongf("a record has another %s than was sent", compliance.Property(p))
			}
		}
	}
	return nil
}

// checkBareKeys compares the number of hashes of the bare work.
func (d *deployment) checkBareKeys(ctx context.Context, e *expected) error {
	keys, err := d.other.DBSize(ctx).Result()
	if err != nil {
		return err
	}
	if keys != int64(len(e.numbers)) {
		return wrongf("the bare work has %d keys, not %d", keys, len(e.numbers))
	}
	return nil
}

// checkBare compares the hashes of the bare work.
func (d *deployment) checkBare(ctx context.Context, e *expected) error {
	if err := d.checkBareKeys(ctx, e); err != nil {
		return err
	}
	for key, want := range e.samples {
		hash, err := d.other.HGetAll(ctx, bareKey(d.layout, key)).Result()
		if err != nil {
			return err
		}
		for p, value := range want {
			if hash[bareField(compliance.Property(p))] != value {
				return wrongf("a hash of the bare work has another %s than was sent", compliance.Property(p))
			}
		}
	}
	return nil
}

// checkDead compares the number of dead letters.
func (d *deployment) checkDead(ctx context.Context, want int) error {
	stream, err := d.js.Stream(ctx, ingest.DeadStream)
	if err != nil {
		return fmt.Errorf("read the stream of dead letters: %w", err)
	}
	if got := stream.CachedInfo().State.Msgs; got != uint64(want) {
		return wrongf("there are %d dead letters, not %d", got, want)
	}
	return nil
}
