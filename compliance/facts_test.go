package compliance_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/complianced/complianced/compliance"
)

func TestAGracePeriodCountsWhileTheRecordIsNonCompliant(t *testing.T) {
	// The store time of the reports is theirs, so it is their event time.
	for _, c := range []struct {
		name, body string
		want       time.Time
	}{
		{"compliant", `{"status":"compliant","complianceGracePeriodExpirationDateTime":"2100-01-01T00:00:00Z"}`, time.Time{}},
		{"never set", `{"status":"nonCompliant"}`, time.Time{}},
		{"in the future", `{"status":"nonCompliant","complianceGracePeriodExpirationDateTime":"2100-01-01T00:00:00Z"}`, time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)},
		{"rounded up", `{"status":"nonCompliant","complianceGracePeriodExpirationDateTime":"2100-01-01T02:00:00.0000001+02:00"}`, time.Date(2100, 1, 1, 0, 0, 0, 1e6, time.UTC)},
		{"the last one", `{"status":"nonCompliant","complianceGracePeriodExpirationDateTime":"9998-12-31T23:59:59.999Z"}`, time.Date(9998, 12, 31, 23, 59, 59, 999e6, time.UTC)},
		{"the sentinel", `{"status":"nonCompliant","complianceGracePeriodExpirationDateTime":"9999-12-31T23:59:59.9999999Z"}`, time.Time{}},
		{"the first instant of the year 9999", `{"status":"nonCompliant","complianceGracePeriodExpirationDateTime":"9999-01-01T00:00:00Z"}`, time.Time{}},
		{"year 1", `{"status":"nonCompliant","complianceGracePeriodExpirationDateTime":"0001-01-01T00:00:00Z"}`, time.Time{}},
		{"ended ten minutes before the newest event", `{"status":"nonCompliant","complianceGracePeriodExpirationDateTime":"` + stored.Add(-10*time.Minute).Format(time.RFC3339) + `"}`, time.Time{}},
		{"ended a second less before it", `{"status":"nonCompliant","complianceGracePeriodExpirationDateTime":"` + stored.Truncate(time.Second).Add(time.Second-10*time.Minute).Format(time.RFC3339) + `"}`, stored.Truncate(time.Second).Add(time.Second - 10*time.Minute)},
	} {
		t.Run(c.name, func(t *testing.T) {
			report, rejection := compliance.Decode(&compliance.Envelope{Subject: "compliance.status.p.d", Body: []byte(c.body), Sequence: 1, Stored: stored})
			if rejection != nil {
				t.Fatal(rejection.Violations)
			}
			var record compliance.Record
			record.Merge(&report)
			want := int64(0)
			if !c.want.IsZero() {
				want = c.want.UnixMilli()
			}
			f := record.Facts()
			if f.GraceEnds != want {
				t.Errorf("it ends at %d, not %d", f.GraceEnds, want)
			}
			if want != 0 && (!f.InGrace(time.UnixMilli(want-1)) || f.InGrace(time.UnixMilli(want))) {
				t.Error("it does not end when it ends")
			}
		})
	}
}

// The newest event decides too, so that each case has its own.
func TestAGracePeriodAtEachLimit(t *testing.T) {
	const long = "0001-01-01T00:00:00Z" // Before every end.
	utc := func(y int, m time.Month, d, h, minute, s, ms int) int64 {
		return time.Date(y, m, d, h, minute, s, ms*1e6, time.UTC).UnixMilli()
	}
	for _, c := range []struct {
		name, end, event string
		want             int64
	}{
		{"the sentinel of the year 1", "0001-01-01T00:00:00Z", long, 0},
		{"the last tick of the year 1", "0001-12-31T23:59:59.9999999Z", long, 0},
		{"the year 2", "0002-01-01T00:00:00Z", long, 0},
		{"the last whole millisecond before 1970", "1969-12-31T23:59:59.999Z", long, 0},
		{"the last tick before 1970 is rounded up to its beginning", "1969-12-31T23:59:59.9999999Z", long, 0},
		{"the beginning of 1970", "1970-01-01T00:00:00Z", long, 0},
		{"the beginning of 1970, digits past the seventh", "1970-01-01T00:00:00.00000009Z", long, 0},
		{"the first tick of 1970", "1970-01-01T00:00:00.0000001Z", long, 1},
		{"the first tick of 1970 with an offset", "1970-01-01T14:00:00.0000001+14:00", long, 1},
		{"the first millisecond of 1970", "1970-01-01T00:00:00.001Z", long, 1},
		{"a whole millisecond", "2100-01-01T00:00:00.001Z", long, utc(2100, 1, 1, 0, 0, 0, 1)},
		{"a tick before it", "2100-01-01T00:00:00.0009999Z", long, utc(2100, 1, 1, 0, 0, 0, 1)},
		{"a tick after it", "2100-01-01T00:00:00.0010001Z", long, utc(2100, 1, 1, 0, 0, 0, 2)},
		{"less than a tick after it", "2100-01-01T00:00:00.001000099999Z", long, utc(2100, 1, 1, 0, 0, 0, 1)},
		{"the last whole millisecond of 9998", "9998-12-31T23:59:59.999Z", long, utc(9998, 12, 31, 23, 59, 59, 999)},
		{"a tick later it is rounded up to 9999", "9998-12-31T23:59:59.9990001Z", long, 0},
		{"the beginning of 9999", "9999-01-01T00:00:00Z", long, 0},
		{"the beginning of 9999 where it is still 9998", "9998-12-31T12:00:00-12:00", long, 0},
		{"9999 where it is still 9998 in UTC", "9999-01-01T00:00:00+00:01", long, utc(9998, 12, 31, 23, 59, 0, 0)},
		{"the sentinel", "9999-12-31T23:59:59.9999999Z", long, 0},
		{"ten minutes before the event", "2026-01-01T11:50:00Z", "2026-01-01T12:00:00Z", 0},
		{"and a tick less", "2026-01-01T11:50:00.0000001Z", "2026-01-01T12:00:00Z", utc(2026, 1, 1, 11, 50, 0, 1)},
		{"ten minutes and a tick", "2026-01-01T11:49:59.9999999Z", "2026-01-01T12:00:00Z", 0},
		{"of the event the millisecond counts", "2026-01-01T11:50:00.0010000Z", "2026-01-01T12:00:00.0019999Z", 0},
		{"of the end the next one", "2026-01-01T11:50:00.0010001Z", "2026-01-01T12:00:00.0019999Z", utc(2026, 1, 1, 11, 50, 0, 2)},
		{"an event of 1970", "1970-01-01T00:00:00.001Z", "1970-01-01T00:10:00Z", 1},
		{"an event a millisecond later", "1970-01-01T00:00:00.001Z", "1970-01-01T00:10:00.001Z", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			report, rejection := compliance.Decode(&compliance.Envelope{
				Subject: "compliance.status.p.d", Sequence: 1, Stored: stored, Header: map[string][]string{"ce-time": {c.event}},
				Body: []byte(`{"status":"nonCompliant","complianceGracePeriodExpirationDateTime":"` + c.end + `"}`),
			})
			if rejection != nil {
				t.Fatal(rejection.Violations)
			}
			var record compliance.Record
			record.Merge(&report)
			if have := record.Facts().GraceEnds; have != c.want {
				t.Errorf("it ends at %d, not %d", have, c.want)
			}
		})
	}
}

func TestDaysAreUTCDays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := time.Unix(rapid.Int64Range(-62135596800, 253402300799).Draw(t, "seconds"), 0).UTC()
		day := compliance.DayOf(at)
		if want := at.Format(time.DateOnly); day.String() != want || !day.Start().Equal(at.Truncate(24*time.Hour)) {
			t.Fatalf("%v lies on %v", at, day)
		}
		if ticks, ok := compliance.TicksOf(at); !ok || ticks.Day() != day {
			t.Fatalf("%v lies on %v by its ticks", at, ticks.Day())
		}
		if at.Unix() >= 0 && compliance.DayOfMillis(at.UnixMilli()) != day {
			t.Fatalf("%v lies on %v by its milliseconds", at, compliance.DayOfMillis(at.UnixMilli()))
		}
		if back, err := compliance.ParseDay(day.String()); err != nil || back != day {
			t.Fatalf("%v reads as %v, %v", day, back, err)
		}
	})
	for _, text := range []string{"", "2026-1-1", "0000-12-31", "2026-02-30", "2026-01-01 "} {
		if _, err := compliance.ParseDay(text); err == nil {
			t.Errorf("%q is taken for a day", text)
		}
	}
}

// Whoever reads the head alone, and all values where NeedsValues asks for them, finds
// the same facts as whoever reads everything.
func TestFactsNeedNoMoreThanNeedsValuesSays(t *testing.T) {
	asked := 0
	rapid.Check(t, func(t *rapid.T) {
		body := rapid.SampledFrom([]string{
			`{}`, `{"status":"nonCompliant"}`, `{"status":"compliant"}`, `{"platform":1}`, `{"@removed":{}}`,
			`{"complianceGracePeriodExpirationDateTime":"2100-01-01T00:00:00Z"}`,
			`{"status":"nonCompliant","complianceGracePeriodExpirationDateTime":"2101-01-01T00:00:00Z"}`,
			`{"status":"error","complianceGracePeriodExpirationDateTime":"0001-01-01T00:00:00Z"}`,
		})
		var whole compliance.Record
		n := rapid.IntRange(1, 12).Draw(t, "reports")
		light := whole
		for i := range n {
			report, rejection := compliance.Decode(&compliance.Envelope{
				Subject: "compliance.status.p.d", Body: []byte(body.Draw(t, "body")), Sequence: uint64(i + 1), Stored: stored,
				Header: map[string][]string{
					"ce-time": {stored.Add(-time.Duration(rapid.IntRange(0, 5).Draw(t, "age")) * time.Second).Format(time.RFC3339)},
					"ce-id":   {rapid.SampledFrom([]string{"a", "b"}).Draw(t, "id")},
				},
			})
			if rejection != nil {
				t.Fatal(rejection.Violations)
			}
			if light.NeedsValues(&report) {
				asked++
				light = whole
			}
			whole.Merge(&report)
			light.Merge(&report)
			if have, want := light.Facts(), whole.Facts(); have != want {
				t.Fatalf("report %d: the facts are %+v, not %+v", i, have, want)
			}
			light = head(whole)
		}
	})
	if asked == 0 {
		t.Error("no report needed values")
	}
}

// head is what the head of a record tells: versions, which properties are set, the
// status, and the grace period of what is nonCompliant.
func head(r compliance.Record) compliance.Record {
	if !r.Exists() {
		return r
	}
	r.UnreadGrace = compliance.GraceUnknown
	if r.Status() == compliance.StatusNonCompliant {
		r.UnreadGrace = r.Facts().GraceEnds
	}
	for _, p := range compliance.Properties() {
		if p != compliance.StatusProperty && r.Values[p].Kind != compliance.Unset {
			r.Values[p] = compliance.Value{Kind: compliance.Unread}
		}
	}
	return r
}
