package oracle

import (
	"maps"
	"slices"
)

// storeMillis returns the store times that a tombstone can have. It is at least
// that of each deletion which made it, for it is a tombstone from then on.
func storeMillis(reports, winners []*report) []int64 {
	least := int64(0)
	for _, r := range winners {
		least = max(least, r.message.Stored.UnixMilli())
	}
	times := map[int64]bool{}
	for _, r := range reports {
		if at := r.message.Stored.UnixMilli(); at >= least {
			times[at] = true
		}
	}
	return slices.Sorted(maps.Keys(times))
}

// replay follows a record in sequence. It returns the reports since it was last
// forgotten, and the store time of the tombstone at the end.
func (s *State) replay(reports []*report) ([]*report, int64) {
	slices.SortFunc(reports, func(a, b *report) int { return inSequence(a.message, b.message) })
	var millis int64
	var tombstone bool
	since, id := 0, reports[0].verdict
	for i, r := range reports {
		stored := r.message.Stored.UnixMilli()
		if tombstone && s.past(stored, millis) {
			since, id, tombstone = i, r.verdict, false
		}
		if r.verdict.compare(id, propertyID) > 0 {
			id = r.verdict
		}
		if !tombstone {
			millis = 0
		}
		tombstone = id.Removed
		if tombstone {
			millis = max(millis, stored)
		}
	}
	return reports[since:], millis
}

// expired reports whether a tombstone was taken away by the end of its stream.
func (s *State) expired(key Key, millis int64) bool {
	end := s.Ends[streamOf(share(key.Device, s.Config.partitions()), s.Config)]
	return s.Config.InSequence && s.past(end.Stored.UnixMilli(), millis)
}

func (s *State) past(now, millis int64) bool {
	return s.Config.Tombstones > 0 && now-millis >= s.Config.Tombstones.Milliseconds()
}
