package compliance_test

import (
	"testing"
	"time"

	"github.com/complianced/complianced/compliance"
)

const subject = "compliance.status.policy.device"

var stored = time.Date(2026, 3, 4, 5, 6, 7, 123456789, time.UTC)

// envelope returns a report with this payload.
func envelope(body string) *compliance.Envelope {
	return &compliance.Envelope{Subject: subject, Body: []byte(body), Sequence: 7, Stored: stored}
}

// decode returns a report that must be right.
func decode(tb testing.TB, e *compliance.Envelope) compliance.Report {
	tb.Helper()
	report, rejection := compliance.Decode(e)
	if rejection != nil {
		tb.Fatalf("the report was refused: %+v", rejection.Violations)
	}
	return report
}

func TestTheEventIDOfAReportIsItsText(t *testing.T) {
	e := envelope(`{}`)
	e.Header = map[string][]string{"ce-id": {"report-1"}}
	if got := decode(t, e).EventID; got != "report-1" {
		t.Errorf("with ce-id the event id is %q", got)
	}
	e.Header = nil
	report := decode(t, e)
	if len(report.EventID) != 16 {
		t.Errorf("without one the event id is %q, want 16 hex digits", report.EventID)
	}
	e.Body = []byte(`{`)
	e.Header = map[string][]string{"Nats-Msg-Id": {"m"}}
	if _, rejection := compliance.Decode(e); rejection == nil || rejection.EventID != "m" {
		t.Errorf("a rejection lost the event id: %+v", rejection)
	}
}

func TestARejectionNamesItsRecordUnlessTheSubjectIsWrong(t *testing.T) {
	e := envelope(`{`)
	_, rejection := compliance.Decode(e)
	if want := (compliance.Key{Policy: "policy", Device: "device"}); rejection.Key != want {
		t.Errorf("the rejection is of %v, want %v", rejection.Key, want)
	}
	e.Subject = "compliance.status.policy"
	if _, rejection = compliance.Decode(e); rejection.Key != (compliance.Key{}) {
		t.Errorf("with a wrong subject the rejection is of %v", rejection.Key)
	}
}

// A report is kept while many others are read, so nothing in it may lie in the
// payload, which belongs to the caller.
func TestAReportDoesNotKeepThePayload(t *testing.T) {
	e := envelope(`{"userName":"somebody","deviceModel":"a\u0062c"}`)
	report := decode(t, e)
	for i := range e.Body {
		e.Body[i] = 'X'
	}
	decode(t, envelope(`{"userName":"nobody at all, but long","deviceModel":"other"}`))
	if got := report.Values[compliance.UserName].Text + report.Values[compliance.DeviceModel].Text; got != "somebodyabc" {
		t.Errorf("the report changed with its payload: %q", got)
	}
}

func TestPatterns(t *testing.T) {
	tests := []struct {
		name     string
		patterns compliance.Patterns
		policy   string
		want     bool
	}{
		{"no patterns take every policy", nil, "p", true},
		{"an empty list takes every policy", compliance.Patterns{}, "p", true},
		{"an exact name", compliance.Patterns{"p"}, "p", true},
		{"a part of the name is not enough", compliance.Patterns{"p"}, "pq", false},
		{"a star", compliance.Patterns{"win-*"}, "win-10", true},
		{"a star for nothing", compliance.Patterns{"win-*"}, "win-", true},
		{"a question mark", compliance.Patterns{"p?"}, "p1", true},
		{"a question mark is one character", compliance.Patterns{"p?"}, "p12", false},
		{"a range", compliance.Patterns{"p[0-4]"}, "p4", true},
		{"outside the range", compliance.Patterns{"p[0-4]"}, "p5", false},
		{"the second of two", compliance.Patterns{"x", "p"}, "p", true},
		{"none of two", compliance.Patterns{"x", "y"}, "p", false},
		{"a malformed pattern matches nothing", compliance.Patterns{"[p"}, "p", false},
		{"an empty pattern matches nothing", compliance.Patterns{""}, "p", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := test.patterns.Match(test.policy); got != test.want {
				t.Errorf("%q matches %v: %t, want %t", test.policy, test.patterns, got, test.want)
			}
		})
	}
	if err := (compliance.Patterns{"p*", "[a-z]?"}).Validate(); err != nil {
		t.Errorf("right patterns: %v", err)
	}
	for _, pattern := range []string{"[", "[a", "a[", `\`, "[]a]"} {
		if err := (compliance.Patterns{"p", pattern}).Validate(); err == nil {
			t.Errorf("the pattern %q is malformed and was taken", pattern)
		}
	}
}

func TestARejectionKnowsTheEventTimeThatTheReportHas(t *testing.T) {
	stored := envelope("").Stored
	for name, test := range map[string]struct {
		body, ceTime string
		want         string
	}{
		"of ce-time":              {`{"platform":null,"lastReportedDateTime":"2026-01-02T00:00:00Z"}`, "2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"},
		"of the body":             {`{"platform":null,"lastReportedDateTime":"2026-01-02T00:00:00Z"}`, "", "2026-01-02T00:00:00Z"},
		"of the body, too late":   {`{"lastReportedDateTime":"9999-01-02T00:00:00Z"}`, "", "9999-01-02T00:00:00Z"},
		"of storing":              {`{`, "", compliance.FormatStored(stored)},
		"none, by a wrong header": {`{"lastReportedDateTime":"2026-01-02T00:00:00Z"}`, "x", ""},
	} {
		e := envelope(test.body)
		if test.ceTime != "" {
			e.Header = map[string][]string{"ce-time": {test.ceTime}}
		}
		_, rejection := compliance.Decode(e)
		if rejection == nil {
			t.Fatalf("%s: the report is right", name)
		}
		var want compliance.Ticks
		if test.want != "" {
			at, err := compliance.ParseDateTimeOffset(test.want)
			if err != nil {
				t.Fatal(err)
			}
			want = at.Ticks()
		}
		if rejection.EventTime != want {
			t.Errorf("%s: %v, want %v", name, rejection.EventTime, want)
		}
	}
}
