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
//	|grace      sorted set  <policy>:<device>              by the end of the grace period in Unix ms
//	|attention  sorted set  <policy>|<number>|<device>     records that need attention, by name
//	|devices    sorted set  <device>                       devices with a record, by name
//	|rollup     hash        <device>                       its policies and their statuses; see rollup
//	|tombs      sorted set  <policy>:<device>              tombstones by store time in Unix ms
//
// No hash has a field at 0, and what is empty is not there.
type derived struct {
	tallies[map[counter]int64]

	grace      map[string]int64
	attention  map[string]struct{}
	rollups    map[string]rollup
	tombstones map[string]int64
}

func newDerived() *derived {
	return &derived{
		tallies: tallies[map[counter]int64]{map[counter]int64{}, map[counter]int64{}, map[counter]int64{}, map[counter]int64{}},
		grace:   map[string]int64{}, attention: map[string]struct{}{}, rollups: map[string]rollup{}, tombstones: map[string]int64{},
	}
}

// add adds a record or tombstone. When all are there, finish is called.
func (d *derived) add(key compliance.Key, r *compliance.Record) {
	if r.Tombstone() {
		d.tombstones[member(key)] = r.StoredMillis
		return
	}
	f := r.Facts()
	if !f.Exists {
		return
	}
	d.counts[counter{key.Policy, int32(f.Status)}]++
	d.days[counter{key.Policy, int32(f.Day)}]++
	if f.GraceEnds != 0 {
		d.grace[member(key)] = f.GraceEnds
		d.graceDays[counter{key.Policy, int32(compliance.DayOfMillis(f.GraceEnds))}]++
	}
	if f.Status.NeedsAttention() {
		d.attention[attentionMember(key, f.Status)] = struct{}{}
	}
	d.rollups[key.Device] = d.rollups[key.Device].set(key.Policy, f.Standing)
}

func (d *derived) finish() {
	for _, r := range d.rollups {
		if worst, ok := r.worst(); ok {
			d.worst[counter{of: int32(worst)}]++
		}
	}
}

// The fields of the hashes of numbers.

func statusCounterField(c counter) string { return countField(c.policy, compliance.Status(c.of)) }
func worstField(c counter) string         { return compliance.Status(c.of).String() }
func dayCounterField(c counter) string    { return dayField(c.policy, compliance.Day(c.of)) }
