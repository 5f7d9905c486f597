package store

import (
	"strconv"

	"github.com/complianced/complianced/compliance"
)

// part is one of the keys of a bucket that a check compares entry by entry.
type part int

const (
	partCounts part = iota
	partWorst
	partDays
	partGraceDays
	partRollup
	partGaps
	partGrace
	partAttention
	partDevices
	partTombstones

	// partRecords stands for the records themselves, which lie in keys of their own.
	partRecords

	numParts = int(partRecords)
)

// isHash tells the hashes from the sorted sets.
func (p part) isHash() bool { return p < partGrace }

func (b *bucketKeys) part(p part) string {
	return [numParts]string{
		partCounts: b.counts, partWorst: b.worst, partDays: b.days, partGraceDays: b.graceDays, partRollup: b.rollup,
		partGaps: b.gaps, partGrace: b.grace, partAttention: b.attention, partDevices: b.devices, partTombstones: b.tombstones,
	}[p]
}

// kind names what is wrong where an entry of the part is.
func (p part) kind() Kind {
	return [numParts]Kind{
		partCounts: KindCount, partWorst: KindDeviceCount, partDays: KindDayCount, partGraceDays: KindGraceCount,
		partRollup: KindRollup, partGaps: KindGap, partGrace: KindGrace, partAttention: KindAttention,
		partDevices: KindDevice, partTombstones: KindTombstone,
	}[p]
}

// entryID names a field of a hash or a member of a sorted set.
type entryID struct {
	part part
	name string
}

// text returns what an entry must hold, as Redis shows it: a number, a score or a
// roll-up. It is empty where the entry must not be there.
func (d *derived) text(e entryID) string {
	switch e.part {
	case partCounts:
		policy, status, ok := parseCountField(e.name)
		return number(d.counts, counter{policy, int32(status)}, ok)
	case partWorst:
		status, ok := compliance.ParseStatus(e.name)
		return number(d.worst, counter{of: int32(status)}, ok)
	case partDays, partGraceDays:
		policy, day, ok := parseDayField(e.name)
		of := d.days
		if e.part == partGraceDays {
			of = d.graceDays
		}
		return number(of, counter{policy, int32(day)}, ok)
	case partRollup:
		return d.rollups[e.name].encode()
	case partGrace:
		return score(d.grace, e.name)
	case partTombstones:
		return score(d.tombstones, e.name)
	case partAttention:
		return score(d.attention, e.name)
	case partDevices:
		if _, ok := d.rollups[e.name]; ok {
			return "0"
		}
	case partGaps, partRecords:
	}
	return ""
}

func number(of map[counter]int64, c counter, ok bool) string {
	if n := of[c]; ok && n != 0 {
		return strconv.FormatInt(n, 10)
	}
	return ""
}

func score(of map[string]int64, name string) string {
	if n, ok := of[name]; ok {
		return strconv.FormatInt(n, 10)
	}
	return ""
}

// each calls for the name of every entry that must be in a part.
func (d *derived) each(p part, call func(name string)) {
	counters := func(of map[counter]int64, field func(counter) string) {
		for c := range of {
			call(field(c))
		}
	}
	switch p {
	case partCounts:
		counters(d.counts, statusCounterField)
	case partWorst:
		counters(d.worst, worstField)
	case partDays:
		counters(d.days, dayCounterField)
	case partGraceDays:
		counters(d.graceDays, dayCounterField)
	case partGrace:
		eachKey(d.grace, call)
	case partTombstones:
		eachKey(d.tombstones, call)
	case partAttention:
		eachKey(d.attention, call)
	case partRollup, partDevices:
		eachKey(d.rollups, call)
	case partGaps, partRecords:
	}
}

func eachKey[V any](of map[string]V, call func(string)) {
	for name := range of {
		call(name)
	}
}
