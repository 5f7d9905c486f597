package store

import (
	"github.com/complianced/complianced/compliance"
)

// counter is one of the numbers that a hash of a bucket holds: of a policy's records
// with a status or on a day, or of the devices with a status, where there is no policy.
type counter struct {
	policy string
	of     int32
}

// tallies are the hashes of numbers of a bucket.
type tallies[T any] struct {
	// counts has the records of each policy by status, worst the devices by their
	// worst status, days the records of each policy by the UTC day of their newest
	// event, and graceDays those with a grace period by the UTC day on which it ends.
	counts, worst, days, graceDays T
}

// derived is all that follows from the records of a bucket. A transaction moves it
// from one state to the next; a recount, a check and the tests derive it anew.
//
//	|counts     hash        <policy>|<status>              records
//	|worst      hash        <status>                       devices of which it is the worst
//	|days       hash        <policy>|<day>                 records whose newest event lies on the UTC day
//	|gracedays  hash        <policy>|<day>                 records whose grace period ends on it
//	|grace      sorted set  <packed policy><packed device> by the end of the grace period in Unix ms; see packKey
//	|attention  sorted set  <packed policy><packed device> records that need attention, by policy and status; see attentionScore
//	|devices    sorted set  <device>                       devices with a record, by name
//	|rollup     hash        <device>                       its policies and their statuses; see rollup
//	|tombs      sorted set  <policy>:<device>              tombstones by store time in Unix ms
//
// No hash has a field at 0, and what is empty is not there.
type derived struct {
	tallies[map[counter]int64]

	grace      map[string]int64
	attention  map[string]int64
	rollups    map[string]rollup
	tombstones map[string]int64
}

func newDerived() *derived {
	return &derived{
		tallies: tallies[map[counter]int64]{map[counter]int64{}, map[counter]int64{}, map[counter]int64{}, map[counter]int64{}},
		grace:   map[string]int64{}, attention: map[string]int64{}, rollups: map[string]rollup{}, tombstones: map[string]int64{},
	}
}

// known is what all that follows from a record or tombstone follows from. The zero
// value is that of a key that is not there.
type known struct {
	compliance.Facts

	tombstone bool
	// stored is the store time of a tombstone in Unix milliseconds.
	stored int64
}

func knownOf(r *compliance.Record) known {
	if r.Tombstone() {
		return known{tombstone: true, stored: r.StoredMillis}
	}
	return known{Facts: r.Facts()}
}

// add adds a record or tombstone that was not there.
func (d *derived) add(key compliance.Key, r *compliance.Record) { d.move(key, known{}, knownOf(r)) }

// move leads from what follows with a record as it was to what follows with it as it is.
func (d *derived) move(key compliance.Key, before, after known) {
	if before == after {
		return
	}
	d.take(key, before)
	d.put(key, after)
}

func (d *derived) put(key compliance.Key, k known) {
	if k.tombstone {
		d.tombstones[member(key)] = k.stored
	}
	if !k.Exists {
		return
	}
	bump(d.counts, counter{key.Policy, int32(k.Status)}, 1)
	bump(d.days, counter{key.Policy, int32(k.Day)}, 1)
	if k.GraceEnds != 0 {
		d.grace[packKey(key)] = k.GraceEnds
		bump(d.graceDays, counter{key.Policy, int32(compliance.DayOfMillis(k.GraceEnds))}, 1)
	}
	if k.Status.NeedsAttention() {
		d.attention[packKey(key)] = attentionScore(key, k.Status)
	}
	d.rollUp(key, k.Standing)
}

// take is the inverse of put.
func (d *derived) take(key compliance.Key, k known) {
	if k.tombstone {
		delete(d.tombstones, member(key))
	}
	if !k.Exists {
		return
	}
	bump(d.counts, counter{key.Policy, int32(k.Status)}, -1)
	bump(d.days, counter{key.Policy, int32(k.Day)}, -1)
	if k.GraceEnds != 0 {
		delete(d.grace, packKey(key))
		bump(d.graceDays, counter{key.Policy, int32(compliance.DayOfMillis(k.GraceEnds))}, -1)
	}
	if k.Status.NeedsAttention() {
		delete(d.attention, packKey(key))
	}
	d.rollUp(key, compliance.Standing{})
}

// rollUp gives a device's policy its standing.
func (d *derived) rollUp(key compliance.Key, s compliance.Standing) {
	r := d.rollups[key.Device]
	if worst, ok := r.worst(); ok {
		bump(d.worst, counter{of: int32(worst)}, -1)
	}
	r = r.set(key.Policy, s)
	worst, ok := r.worst()
	if !ok {
		delete(d.rollups, key.Device)
		return
	}
	d.rollups[key.Device] = r
	bump(d.worst, counter{of: int32(worst)}, 1)
}

// bump moves a number; one at 0 is not there.
func bump(numbers map[counter]int64, c counter, n int64) {
	if numbers[c] += n; numbers[c] == 0 {
		delete(numbers, c)
	}
}

// The fields of the hashes of numbers.

func statusCounterField(c counter) string { return countField(c.policy, compliance.Status(c.of)) }
func worstField(c counter) string         { return compliance.Status(c.of).String() }
func dayCounterField(c counter) string    { return dayField(c.policy, compliance.Day(c.of)) }
