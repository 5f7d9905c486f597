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
