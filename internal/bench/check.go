package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/ingest"
	"github.com/complianced/complianced/store"
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
	if err := d.checkTotals(ctx, e); err != nil {
		return err
	}
	if err := d.checkKeys(ctx, e); err != nil {
		return err
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

// validity is the default one, in days. No figure depends on it.
const validity = 30

// checkTotals compares the records by status and the devices by their worst status,
// and the records by day as far as their number.
func (d *deployment) checkTotals(ctx context.Context, e *expected) error {
	totals, err := d.state.Totals(ctx, time.Now(), validity)
	if err != nil {
		return err
	}
	if d.countsAlone {
		return checkCounts(totals, e)
	}
	days, err := d.state.Days(ctx)
	if err != nil {
		return err
	}
	for policy, of := range totals.Policies {
		onDays, records := 0, 0
		for _, n := range days[policy] {
			onDays += n
		}
		for _, n := range of.Statuses {
			records += n
		}
		if onDays != records {
			return wrongf("%d records of a policy lie on a day, not %d", onDays, records)
		}
	}
	if devices := e.devices(); totals.Devices != devices {
		return wrongf("the counts of devices are %v, not %v", totals.Devices, devices)
	}
	return checkCounts(totals, e)
}

// checkCounts compares the records by status.
func checkCounts(totals store.Totals, e *expected) error {
	counts := map[string][compliance.NumStatuses]int{}
	for policy, of := range totals.Policies {
		counts[policy] = of.Statuses
	}
	if !maps.Equal(counts, e.counts) {
		return wrongf("the counts are %v, not %v", counts, e.counts)
	}
	return nil
}

// checkKeys compares the number of keys.
func (d *deployment) checkKeys(ctx context.Context, e *expected) error {
	keys, err := d.client.DBSize(ctx).Result()
	if err != nil {
		return err
	}
	floors, err := d.state.Floors(ctx, d.all())
	if err != nil {
		return err
	}
	// A bucket without reports has its floor only after a while.
	floors = slices.DeleteFunc(floors, compliance.Floor.Absent)
	derived, err := d.derivedKeys(ctx, e)
	if err != nil {
		return err
	}
	const meta = 1
	const perFloor = 2 // Its seal beside it.
	if want := len(e.numbers) + derived + perFloor*len(floors) + meta; keys != int64(want) {
		return wrongf("Redis has %d keys, not %d", keys, want)
	}
	return nil
}

// derivedKeys returns how many keys there must be that follow from the records. Which
// grace periods there are is taken from Redis: only nonCompliant records have one, and
// the index and the days must have the same number.
func (d *deployment) derivedKeys(ctx context.Context, e *expected) (int, error) {
	// |counts, |worst, |days, |rollup and |devices are there where any record is.
	const always = 5
	keys := map[compliance.Bucket]int{}
	attention, nonCompliant := map[compliance.Bucket]bool{}, map[compliance.Bucket]int64{}
	for key, n := range e.numbers {
		bucket, status := d.layout.BucketOf(key.Device), e.statuses[n]
		keys[bucket] = always
		if status.NeedsAttention() {
			attention[bucket] = true
		}
		if status == compliance.StatusNonCompliant {
			nonCompliant[bucket]++
		}
	}
	if d.countsAlone {
		return len(keys), nil
	}
	total := len(attention)
	for bucket, n := range keys {
		total += n
		inGrace, onDays, err := d.gracePeriods(ctx, bucket)
		switch {
		case err != nil:
			return 0, err
		case inGrace != onDays || inGrace > nonCompliant[bucket]:
			return 0, wrongf("%d grace periods are in the index and %d on a day, with %d records that are nonCompliant", inGrace, onDays, nonCompliant[bucket])
		case inGrace > 0:
			total += 2
		}
	}
	return total, nil
}

// gracePeriods returns how many the index of a bucket has, and how many its days.
func (d *deployment) gracePeriods(ctx context.Context, bucket compliance.Bucket) (inIndex, onDays int64, err error) {
	inIndex, err = d.client.ZCard(ctx, fmt.Sprintf("cs:{%02x}:|grace", int(bucket))).Result()
	if err != nil {
		return 0, 0, err
	}
	days, err := d.client.HVals(ctx, fmt.Sprintf("cs:{%02x}:|gracedays", int(bucket))).Result()
	if err != nil {
		return 0, 0, err
	}
	for _, text := range days {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return 0, 0, wrongf("the counts of grace periods have %q", text)
		}
		onDays += n
	}
	return inIndex, onDays, nil
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
