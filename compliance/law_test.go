package compliance_test

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/complianced/complianced/compliance"
)

// A write is what one report does to one property. The tests of the law sort
// writes; they know nothing of Merge and of how versions and values compare in
// the package.
type write struct {
	time, id uint64
	// rank puts null before every text and cleared after it.
	rank int
	text string
}

const (
	rankNull = iota + 1
	rankText
	rankCleared
)

func compareWrites(a, b write) int {
	return cmp.Or(cmp.Compare(a.time, b.time), cmp.Compare(a.id, b.id), cmp.Compare(a.rank, b.rank), cmp.Compare(a.text, b.text))
}

// writeOf returns what a report does to a property, and false where it is absent.
func writeOf(r *compliance.Report, p compliance.Property) (write, bool) {
	w := write{time: uint64(r.Version.Time), id: r.Version.ID, text: r.Values[p].Text}
	switch r.Values[p].Kind {
	case compliance.Null:
		w.rank = rankNull
	case compliance.Text:
		w.rank = rankText
	case compliance.Cleared:
		w.rank = rankCleared
	case compliance.Unset, compliance.Unread:
		return write{}, false
	}
	return w, true
}

func (w write) value() compliance.Value {
	kinds := map[int]compliance.Kind{rankNull: compliance.Null, rankText: compliance.Text, rankCleared: compliance.Cleared}
	return compliance.Value{Kind: kinds[w.rank], Text: w.text}
}

// lawOf returns the record of a set of reports by the words of the law: of each
// property the greatest (event time, event id, value). It leaves out the store
// time of a tombstone.
func lawOf(reports []compliance.Report) compliance.Record {
	var record compliance.Record
	for _, p := range compliance.Properties() {
		var writes []write
		for i := range reports {
			if w, sets := writeOf(&reports[i], p); sets {
				writes = append(writes, w)
			}
		}
		if len(writes) == 0 {
			continue
		}
		slices.SortFunc(writes, compareWrites)
		last := writes[len(writes)-1]
		record.Values[p] = last.value()
		record.Versions[p] = compliance.Version{Time: compliance.Ticks(last.time), ID: last.id}
	}
	return record
}

// standingOf says by the words of the contract whether a record exists and in
// which status it counts.
func standingOf(r compliance.Record) compliance.Standing {
	if r.Values[compliance.ID].Kind != compliance.Text {
		return compliance.Standing{}
	}
	s := compliance.Standing{Exists: true}
	if v := r.Values[compliance.StatusProperty]; v.Kind == compliance.Text {
		s.Status = compliance.Status(v.Text[0] - '0')
	}
	return s
}

// outcomeOf says by the words of the contract what became of a report that led
// from one record to the next.
func outcomeOf(before, after compliance.Record, report *compliance.Report) (compliance.PropertySet, compliance.Outcome) {
	var moved compliance.PropertySet
	outcome := compliance.Stale
	for _, p := range compliance.Properties() {
		if before.Values[p] != after.Values[p] || before.Versions[p] != after.Versions[p] {
			moved = moved.With(p)
		}
		if report.Values[p].Kind != compliance.Unset && after.Values[p] == report.Values[p] && after.Versions[p] == report.Version {
			outcome = compliance.Unchanged
		}
	}
	if moved != 0 {
		outcome = compliance.Applied
	}
	return moved, outcome
}

// merged merges reports one after the other and holds every step against the
// words of the contract.
func merged(tb testing.TB, reports []compliance.Report) compliance.Record {
	tb.Helper()
	var record compliance.Record
	for i := range reports {
		before, given := record, reports[i]
		change, outcome := record.Merge(&reports[i])
		if reports[i] != given {
			tb.Fatalf("Merge wrote to the report: %+v, was %+v", reports[i], given)
		}
		moved, wantOutcome := outcomeOf(before, record, &reports[i])
		want := compliance.Change{Moved: moved, Before: standingOf(before), After: standingOf(record)}
		if change != want || outcome != wantOutcome {
			tb.Fatalf("step %d: %+v %s, want %+v %s\nbefore %+v\nreport %+v", i, change, outcome, want, wantOutcome, before, reports[i])
		}
		if record.Exists() != want.After.Exists || record.Standing() != want.After || record.Newest() != record.Versions[compliance.ID] {
			tb.Fatalf("step %d: the record says that it exists: %t, %+v", i, record.Exists(), record.Standing())
		}
		if record.Empty() || record.Tombstone() == record.Exists() {
			tb.Fatalf("step %d: the record is no record and no tombstone, or both", i)
		}
	}
	return record
}

// withoutStored returns the part of a record that no store time is in.
func withoutStored(r compliance.Record) compliance.Record {
	r.StoredMillis = 0
	return r
}

// chance is where random reports come from.
type chance struct{ intN func(n int) int }

// report returns a random report from a small world, so that event times, event
// ids and values are often equal.
func (c chance) report() compliance.Report {
	texts := []string{"", "a", "b", "ab", "\x00", "é", "10", "9"}
	r := compliance.Report{
		Key:     compliance.Key{Policy: "policy", Device: "device"},
		Version: compliance.Version{Time: compliance.Ticks(1 + c.intN(4)), ID: uint64(c.intN(3))},
		Stored:  time.UnixMilli(int64(1 + c.intN(1000))).UTC(),
	}
	if c.intN(6) == 0 {
		r.Removed = true
		for p := range r.Values {
			r.Values[p] = compliance.Value{Kind: compliance.Cleared}
		}
		return r
	}
	r.Values[compliance.ID] = compliance.TextValue("device")
	density := []int{0, 1, 5, 10}[c.intN(4)] // {} · few · half · full
	for _, p := range compliance.Properties()[1:] {
		if c.intN(10) >= density {
			continue
		}
		switch p {
		case compliance.StatusProperty:
			r.Values[p] = compliance.TextValue(string(rune('0' + c.intN(8))))
		case compliance.Platform:
			r.Values[p] = compliance.TextValue([]string{"0", "8", "-1", "10"}[c.intN(4)])
		case compliance.GracePeriodExpiration, compliance.LastReported:
			r.Values[p] = compliance.TextValue([]string{"2026-01-01T00:00Z", "2026-01-01T00:00:00Z", "2025-01-01T00:00Z"}[c.intN(3)])
		case compliance.ID, compliance.DeviceDisplayName, compliance.UserName, compliance.DeviceModel, compliance.UserPrincipalName:
			if c.intN(4) == 0 {
				r.Values[p] = compliance.Value{Kind: compliance.Null}
			} else {
				r.Values[p] = compliance.TextValue(texts[c.intN(len(texts))])
			}
		}
	}
	return r
}

func (c chance) history(n int) []compliance.Report {
	reports := make([]compliance.Report, n)
	for i := range reports {
		reports[i] = c.report()
	}
	return reports
}

// redelivered returns the reports in a random order, some of them again.
func (c chance) redelivered(reports []compliance.Report) []compliance.Report {
	again := slices.Clone(reports)
	for range c.intN(4) {
		again = append(again, reports[c.intN(len(reports))])
	}
	for i := len(again) - 1; i > 0; i-- {
		j := c.intN(i + 1)
		again[i], again[j] = again[j], again[i]
	}
	return again
}

// The record is a function of the set of reports: 20,000 random histories, each
// in four random orders with random redelivery, against the words of the law.
func TestTheRecordIsAFunctionOfTheSetOfReports(t *testing.T) {
	const histories, orders = 20_000, 4
	random := rand.New(rand.NewPCG(1, 2))
	c := chance{intN: random.IntN}
	tombstones, ties, seen := 0, 0, map[compliance.Outcome]int{}
	for range histories {
		reports := c.history(1 + c.intN(8))
		want := lawOf(reports)
		for range orders {
			got := merged(t, c.redelivered(reports))
			if withoutStored(got) != want {
				t.Fatalf("the record is\n%+v, want\n%+v, of\n%+v", got, want, reports)
			}
		}
		if want.Values[compliance.ID].Kind == compliance.Cleared {
			tombstones++
		}
		var record compliance.Record
		for i := range reports {
			if record.Ties(&reports[i]) {
				ties++
			}
			_, outcome := record.Merge(&reports[i])
			seen[outcome]++
		}
	}
	t.Logf("%d histories: %d end as tombstones, %d ties, outcomes %v", histories, tombstones, ties, seen)
	if tombstones < histories/20 || ties < histories/20 || len(seen) != 3 {
		t.Error("the histories are too tame to show anything")
	}
}

// The same in the hands of rapid, which makes a failing history small.
func TestOrderAndRedeliveryChangeNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := chance{intN: func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "n") }}
		reports := c.history(rapid.IntRange(1, 6).Draw(t, "reports"))
		want := lawOf(reports)
		var record compliance.Record
		for _, report := range c.redelivered(reports) {
			record.Merge(&report)
		}
		if withoutStored(record) != want {
			t.Fatalf("the record is\n%+v, want\n%+v", record, want)
		}
	})
}

// In ascending order of their store times, which is the order of a stream, the
// store time of a tombstone is the greatest of the reports merged into it.
func TestATombstoneHasTheGreatestStoreTime(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := chance{intN: func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "n") }}
		reports := c.history(rapid.IntRange(1, 8).Draw(t, "reports"))
		slices.SortFunc(reports, func(a, b compliance.Report) int { return a.Stored.Compare(b.Stored) })
		var record compliance.Record
		for i := range reports {
			record.Merge(&reports[i])
			want := int64(0)
			if record.Tombstone() {
				want = reports[i].Stored.UnixMilli()
			}
			if record.StoredMillis != want {
				t.Fatalf("after report %d of %+v\nthe store time is %d, want %d", i, reports, record.StoredMillis, want)
			}
		}
	})
}

func TestARedeliveredReportDoesNotSetATombstoneBack(t *testing.T) {
	removal := decode(t, envelope(`{"@removed":{}}`))
	late := removal
	late.Stored = removal.Stored.Add(time.Hour)
	var record compliance.Record
	record.Merge(&late)
	record.Merge(&removal)
	if want := late.Stored.UnixMilli(); record.StoredMillis != want {
		t.Errorf("the store time is %d, want %d", record.StoredMillis, want)
	}
}

// In another order than that of the store times, the store time of a tombstone
// can be that of an earlier report, and nothing else differs.
func TestOnlyTheStoreTimeOfATombstoneDependsOnTheOrder(t *testing.T) {
	removal := decode(t, envelope(`{"@removed":{}}`))
	earlier := decode(t, envelope(`{}`))
	earlier.Version.Time--
	earlier.Stored = removal.Stored.Add(time.Hour)
	var kept, removed compliance.Record
	kept.Merge(&earlier)
	kept.Merge(&removal)
	removed.Merge(&removal)
	removed.Merge(&earlier)
	if kept.StoredMillis != removal.Stored.UnixMilli() || removed.StoredMillis != earlier.Stored.UnixMilli() {
		t.Errorf("the store times are %d and %d", kept.StoredMillis, removed.StoredMillis)
	}
	kept.StoredMillis = removed.StoredMillis
	if kept != removed {
		t.Errorf("the order gives %+v and %+v", kept, removed)
	}
}

func TestATombstoneExpires(t *testing.T) {
	removal := decode(t, envelope(`{"@removed":{}}`))
	var record compliance.Record
	if record.Expired(stored.Add(time.Hour), time.Minute) {
		t.Error("a record of which nothing came expired")
	}
	record.Merge(&removal)
	for _, test := range []struct {
		name  string
		after time.Duration
		keep  time.Duration
		want  bool
	}{
		{"it is kept for a time", 59_999 * time.Millisecond, time.Minute, false},
		{"then it goes", time.Minute, time.Minute, true},
		{"it stays gone", time.Hour, time.Minute, true},
		{"a keep of 0 is for ever", 1000 * time.Hour, 0, false},
		{"a bucket behind takes nothing away", -time.Hour, time.Minute, false},
	} {
		if got := record.Expired(stored.Add(test.after), test.keep); got != test.want {
			t.Errorf("%s: %t, want %t", test.name, got, test.want)
		}
	}
	newer := decode(t, envelope(`{"lastReportedDateTime":"2026-03-04T05:06:08Z"}`))
	record.Merge(&newer)
	if record.Expired(stored.Add(time.Hour), time.Minute) {
		t.Error("a record that came back expired")
	}
}

// unread returns the record as a sink gives it that read its versions, id and
// status alone.
func unread(r compliance.Record) compliance.Record {
	for p := range r.Values {
		switch {
		case r.Values[p].Kind == compliance.Unset,
			compliance.Property(p) == compliance.ID, compliance.Property(p) == compliance.StatusProperty:
		default:
			r.Values[p] = compliance.Value{Kind: compliance.Unread}
		}
	}
	return r
}

// A record whose values were not read goes the same way as the full one, until a
// report ties with it; then Merge refuses to guess.
func TestValuesThatWereNotReadAreNotNeededUntilATie(t *testing.T) {
	ties, panics := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		c := chance{intN: func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "n") }}
		full := compliance.Record{}
		for _, report := range c.history(rapid.IntRange(1, 5).Draw(t, "before")) {
			full.Merge(&report)
		}
		part := unread(full)
		for _, report := range c.history(rapid.IntRange(1, 5).Draw(t, "after")) {
			wantTies, mustPanic := false, false
			for p, v := range report.Values {
				if v.Kind != compliance.Unset && part.Values[p].Kind != compliance.Unset && part.Versions[p] == report.Version {
					wantTies = true
					mustPanic = mustPanic || part.Values[p].Kind == compliance.Unread
				}
			}
			if part.Ties(&report) != wantTies {
				t.Fatalf("it ties: %t, want %t", part.Ties(&report), wantTies)
			}
			if wantTies {
				ties++
			}
			if mustPanic {
				panics++
				if !panicked(func() { part.Merge(&report) }) {
					t.Fatalf("Merge guessed a value that was not read: %+v", report)
				}
				return
			}
			wantChange, wantOutcome := full.Merge(&report)
			change, outcome := part.Merge(&report)
			if change != wantChange || outcome != wantOutcome || part.Versions != full.Versions || part.StoredMillis != full.StoredMillis {
				t.Fatalf("%+v %s, want %+v %s", change, outcome, wantChange, wantOutcome)
			}
			for p, v := range part.Values {
				if v.Kind != compliance.Unread && v != full.Values[p] {
					t.Fatalf("%s is %+v, want %+v", compliance.Property(p), v, full.Values[p])
				}
			}
		}
	})
	if ties == 0 || panics == 0 {
		t.Errorf("%d ties and %d panics: nothing was shown", ties, panics)
	}
}

func panicked(f func()) (yes bool) {
	defer func() { yes = recover() != nil }()
	f()
	return false
}

func TestAPropertySetHasWhatWasPutIn(t *testing.T) {
	var set compliance.PropertySet
	for i, p := range compliance.Properties() {
		if set.Has(p) {
			t.Errorf("%s is in the set before it was put in", p)
		}
		set = set.With(p)
		for j, q := range compliance.Properties() {
			if set.Has(q) != (j <= i) {
				t.Errorf("with %s in the set: it has %s: %t", p, q, set.Has(q))
			}
		}
	}
}
