package oracle

import (
	"cmp"
	"slices"
	"strings"
)

// Record is what must be known of one device under one policy.
type Record struct {
	Values   [NumProperties]Value
	Versions [NumProperties]Version
	// StoreMillis are, of a tombstone, the store times in Unix milliseconds that
	// it can have, in order.
	StoreMillis []int64
}

// Tombstone reports whether this is what is left of a removed record.
func (r Record) Tombstone() bool { return r.Values[propertyID].Kind == Cleared }

// status returns the name of the record's status, which is unknown until it is set.
func (r Record) status() string {
	if r.Values[propertyStatus].Kind != Text {
		return statuses[0]
	}
	return statuses[r.Values[propertyStatus].Text[0]-'0']
}

// Rejected is a message that must have a dead letter.
type Rejected struct {
	Message Message
	Verdict Verdict
	// Optional says that the message lies in a gap: it may have a dead letter.
	Optional bool
}

// State is what must be there.
type State struct {
	Config Config
	// Records are all records and tombstones.
	Records map[Key]Record
	// Ends are where the streams end, by name: the floor of each bucket.
	Ends map[string]End
	// Rejected are the messages that are no reports.
	Rejected []Rejected
}

// Fold computes the state from the messages. Their order, and how often each of
// them comes, makes no difference.
func Fold(h History, c Config) State {
	state := State{Config: c, Records: map[Key]Record{}, Ends: h.ends()}
	reports := map[Key][]*report{}
	seen := map[place]bool{}
	for _, m := range h.Messages {
		if at := placeOf(m); !seen[at] {
			seen[at] = true
			state.take(m, reports)
		}
	}
	for key, of := range reports {
		if record, ok := state.foldRecord(key, of); ok {
			state.Records[key] = record
		}
	}
	return state
}

// place tells messages apart.
type place struct {
	stream          string
	created, stored int64
	sequence        uint64
}

func placeOf(m Message) place {
	return place{m.Stream, m.Created.UnixNano(), m.Stored.UnixNano(), m.Sequence}
}

// report is an accepted message.
type report struct {
	message Message
	verdict Verdict
}

// take sorts a message to the reports of its record or to the rejected ones.
func (s *State) take(m Message, reports map[Key][]*report) {
	verdict := Judge(m, s.Config)
	if len(verdict.Violations) > 0 {
		s.Rejected = append(s.Rejected, Rejected{m, verdict, s.inGap(m, anyBucket)})
		return
	}
	if s.inGap(m, share(verdict.Key.Device, s.Config.buckets())) {
		return
	}
	m.Body, m.Header = nil, nil // The verdict has all that is needed of them.
	reports[verdict.Key] = append(reports[verdict.Key], &report{m, verdict})
}

// anyBucket stands for the bucket of a message that has none.
const anyBucket = -1

func (s *State) inGap(m Message, bucket int) bool {
	return slices.ContainsFunc(s.Config.Gaps, func(g Gap) bool {
		if bucket == anyBucket {
			g.Buckets = nil
		}
		return g.covers(m, s.Ends[m.Stream], bucket)
	})
}

// foldRecord returns the record that the reports make; false where it expired.
func (s *State) foldRecord(key Key, reports []*report) (Record, bool) {
	var millis int64
	if s.Config.InSequence {
		reports, millis = s.replay(reports)
	}
	var record Record
	var winners []*report
	for p := range record.Values {
		top := greatest(reports, p)
		if len(top) == 0 {
			continue
		}
		record.Values[p], record.Versions[p] = top[0].verdict.Values[p], top[0].verdict.Version
		if p == propertyID {
			winners = top
		}
	}
	if !record.Tombstone() {
		return record, true
	}
	record.StoreMillis = []int64{millis}
	if !s.Config.InSequence {
		record.StoreMillis = storeMillis(reports, winners)
	}
	return record, !s.expired(key, millis)
}

// greatest returns the reports that set a property to its greatest (event time,
// event id, value). Several do where a report came several times.
func greatest(reports []*report, p int) []*report {
	var setters []*report
	for _, r := range reports {
		if r.verdict.Values[p].Kind != Unset {
			setters = append(setters, r)
		}
	}
	descending := func(a, b *report) int { return -a.verdict.compare(b.verdict, p) }
	slices.SortStableFunc(setters, descending)
	n := 0
	for n < len(setters) && descending(setters[0], setters[n]) == 0 {
		n++
	}
	return setters[:n]
}

// compare orders what two reports set a property to.
func (v Verdict) compare(w Verdict, p int) int {
	return cmp.Or(
		cmp.Compare(v.Version.Time, w.Version.Time),
		cmp.Compare(v.Version.ID, w.Version.ID),
		cmp.Compare(v.Values[p].Kind, w.Values[p].Kind),
		strings.Compare(v.Values[p].Text, w.Values[p].Text),
	)
}
