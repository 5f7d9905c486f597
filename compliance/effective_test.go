package compliance_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/complianced/complianced/compliance"
)

func TestTheEffectiveStatusIsStaleThenInGraceThenTheReportedOne(t *testing.T) {
	now := time.Date(2026, 3, 31, 12, 0, 0, 0, time.UTC)
	today := compliance.DayOf(now)
	ends := now.Add(time.Hour).UnixMilli()
	facts := func(status compliance.Status, day compliance.Day, ends int64) compliance.Facts {
		return compliance.Facts{Standing: compliance.Standing{Exists: true, Status: status}, Day: day, GraceEnds: ends}
	}
	for _, test := range []struct {
		facts compliance.Facts
		want  compliance.Effective
	}{
		{facts(compliance.StatusCompliant, today, 0), compliance.Effective{Status: "compliant"}},
		{facts(compliance.StatusNonCompliant, today, 0), compliance.Effective{Status: "nonCompliant"}},
		{facts(compliance.StatusNonCompliant, today, ends), compliance.Effective{Status: "inGracePeriod", InGrace: true}},
		{facts(compliance.StatusNonCompliant, today, now.UnixMilli()), compliance.Effective{Status: "nonCompliant"}},
		{facts(compliance.StatusNonCompliant, today-30, ends), compliance.Effective{Status: "inGracePeriod", InGrace: true}},
		{facts(compliance.StatusNonCompliant, today-31, ends), compliance.Effective{Status: "stale", InGrace: true, Stale: true}},
		{facts(compliance.StatusError, today-31, 0), compliance.Effective{Status: "stale", Stale: true}},
	} {
		if diff := cmp.Diff(test.want, test.facts.At(now, 30)); diff != "" {
			t.Errorf("%+v:\n%s", test.facts, diff)
		}
	}
}

func TestAnAnnotatedRecordIsTheSameReport(t *testing.T) {
	key := compliance.Key{Policy: "policy", Device: "device"}
	decode := func(body string) compliance.Report {
		t.Helper()
		r, rejection := compliance.Decode(&compliance.Envelope{
			Subject: key.Subject(), Body: []byte(body), Stored: time.Unix(1_800_000_000, 0), Header: map[string][]string{"ce-id": {"id"}},
		})
		if rejection != nil {
			t.Fatal(rejection.Violations)
		}
		return r
	}
	var record compliance.Record
	report := decode(`{"status":"nonCompliant","userName":null,"deviceModel":"}","platform":-1}`)
	record.Merge(&report)
	object := record.JSON(key.Device)
	annotated := compliance.Effective{Status: compliance.EffectiveStale, InGrace: true, Stale: true}.Annotate(object)
	want := string(object[:len(object)-1]) + `,"@compliance.effectiveStatus":"stale","@compliance.inGrace":true,"@compliance.stale":true}`
	if diff := cmp.Diff(want, string(annotated)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(decode(string(object)), decode(string(annotated))); diff != "" {
		t.Errorf("as a report it is another one:\n%s", diff)
	}
}
