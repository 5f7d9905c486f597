package compliance

// Standing is what the counts need to know of a record.
type Standing struct {
	// Exists says that there is a record, which is exactly while its id is set.
	Exists bool
	// Status is what the record's status reads as; unknown where there is none.
	Status Status
}

// Change says what merging a report did to a record.
type Change struct {
	// Moved are the properties whose version or value moved.
	Moved PropertySet
	// Before and After are the record's standing.
	Before Standing
	After  Standing
}

// PropertySet is a set of properties.
type PropertySet uint16

// Has reports whether p is in the set.
func (s PropertySet) Has(p Property) bool { return s&(1<<p) != 0 }

// With returns the set and p.
func (s PropertySet) With(p Property) PropertySet { return s | 1<<p }

// Merge is the merge law. Each property keeps the value of the greatest (event
// time, event id, value) that set it; null is a value like any other and lower
// than the empty string; a deletion sets all nine properties to cleared, which is
// greater than every other value. It follows that the record is a function of
// the set of reports that were merged, whatever their order and number.
//
// A tombstone keeps the greatest store time of the reports merged into it, where
// store times ascend in the order of merging, as they do within a stream. In
// another order it can be that of an earlier one, as a record that exists keeps
// none. No other field depends on the order, and this one decides nothing but
// when the tombstone is taken away.
//
// Merge panics where the law needs a value that was not read from the sink; see
// [Record.Ties].
func (r *Record) Merge(report *Report) (Change, Outcome) {
	change := Change{Before: r.Standing()}
	wasTombstone := r.Tombstone()
	outcome := Stale
	for p := range r.Values {
		value := report.Values[p]
		if value.Kind == Unset {
			continue
		}
		if r.Values[p].Kind != Unset {
			order := report.Version.Compare(r.Versions[p])
			if order == 0 {
				order = r.tie(Property(p), value)
			}
			if order == 0 && outcome == Stale {
				outcome = Unchanged
			}
			if order <= 0 {
				continue
			}
		}
		r.Values[p], r.Versions[p] = value, report.Version
		change.Moved = change.Moved.With(Property(p))
		outcome = Applied
	}
	change.After = r.Standing()
	switch stored := report.Stored.UnixMilli(); {
	case change.After.Exists:
		r.StoredMillis = 0
	case wasTombstone:
		r.StoredMillis = max(r.StoredMillis, stored)
	default:
		r.StoredMillis = stored
	}
	return change, outcome
}

// Ties reports whether a property that the report sets has the report's version
// already, so that the values decide. A record read without its values can be
// merged with any number of reports that do not tie with it.
func (r *Record) Ties(report *Report) bool {
	for p, value := range report.Values {
		if value.Kind != Unset && r.Values[p].Kind != Unset && r.Versions[p] == report.Version {
			return true
		}
	}
	return false
}

// NeedsValues reports whether merging the report, or the facts of what comes of it,
// needs values that may not have been read: where it ties, or where it makes the record
// nonCompliant without saying until when that is excused.
func (r *Record) NeedsValues(report *Report) bool { return r.Ties(report) || r.needsGrace(report) }

func (r *Record) needsGrace(report *Report) bool {
	if r.Values[GracePeriodExpiration].Kind != Unread || r.UnreadGrace != GraceUnknown ||
		report.Values[StatusProperty] != TextValue(StatusNonCompliant.stored()) ||
		report.Version.Compare(r.Versions[StatusProperty]) < 0 {
		return false
	}
	return report.Values[GracePeriodExpiration].Kind == Unset || report.Version.Compare(r.Versions[GracePeriodExpiration]) < 0
}

func (r *Record) tie(p Property, value Value) int {
	if r.Values[p].Kind == Unread {
		panic("compliance: Merge needs the value of " + p.String() + ", which was not read")
	}
	return value.compare(r.Values[p])
}
