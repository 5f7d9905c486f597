package compliance_test

import (
	"fmt"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/complianced/complianced/compliance"
)

// rejected returns the rejection of a report that must be wrong.
func rejected(tb testing.TB, e *compliance.Envelope) *compliance.Rejection {
	tb.Helper()
	_, rejection := compliance.Decode(e)
	if rejection == nil {
		tb.Fatalf("the report was taken")
	}
	return rejection
}

func TestAnErrorObject(t *testing.T) {
	e := envelope(`{"platform":"8","stauts":"compliant","status":"Compliant"}`)
	e.Header = map[string][]string{"ce-id": {"report-1"}}
	object := rejected(t, e).ErrorObject()
	const want = `{"code":"badRequest","message":"the property is not a JSON number without fraction and exponent","target":"platform",` +
		`"details":[{"code":"typeMismatch","message":"the property is not a JSON number without fraction and exponent","target":"platform"},` +
		`{"code":"unknownProperty","message":"no property of deviceComplianceDeviceStatus has this name; the nearest is status","target":"stauts"},` +
		`{"code":"invalidStatus","message":"the status is none of unknown, notApplicable, compliant, remediated, nonCompliant, error, conflict, notAssigned; the nearest is compliant","target":"status"}],` +
		`"innerError":{"code":"typeMismatch","date":"2026-03-04T05:06:07.123456789Z","request-id":"report-1"}}`
	if diff := cmp.Diff(want, string(object.JSON())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTheNearestNameIsShown(t *testing.T) {
	for body, want := range map[string]string{
		`{"Status":"x"}`:                      "status",
		`{"DEVICEDISPLAYNAME":1}`:             "deviceDisplayName",
		`{"lastReportedDate":1}`:              "lastReportedDateTime",
		`{"user_name":1}`:                     "userName",
		`{"status":"non-compliant"}`:          "nonCompliant",
		`{"status":"NotApplicable"}`:          "notApplicable",
		`{"complianceGracePeriodExpiry":"x"}`: "complianceGracePeriodExpirationDateTime",
	} {
		message := rejected(t, envelope(body)).Violations[0].Message
		if _, got, _ := strings.Cut(message, "the nearest is "); got != want {
			t.Errorf("%s: the nearest is %q, want %q", body, got, want)
		}
	}
}

// However much is wrong with a report, its error object stays small, and nothing
// in it can end a line or drive a terminal.
func TestAnErrorObjectIsBounded(t *testing.T) {
	names := map[string]func(i int) string{
		"short names":                 func(i int) string { return fmt.Sprintf("%x", i) },
		"long names":                  func(i int) string { return fmt.Sprintf("%03x%s", i, strings.Repeat("n", 200)) },
		"names of quotes":             func(i int) string { return fmt.Sprintf("%03x%s", i, strings.Repeat(`\"`, 90)) },
		"names of control characters": func(i int) string { return fmt.Sprintf("%03x%s", i, strings.Repeat(`\u0007`, 90)) },
		"names of wide characters":    func(i int) string { return fmt.Sprintf("%03x%s", i, strings.Repeat("😀", 80)) },
		"names of line separators":    func(i int) string { return fmt.Sprintf("%03x%s", i, strings.Repeat("\u2028", 80)) },
	}
	for name, of := range names {
		t.Run(name, func(t *testing.T) {
			var body strings.Builder
			body.WriteString(`{"":1`)
			for i := 0; body.Len() < compliance.MaxBody-600; i++ {
				fmt.Fprintf(&body, `,"%s":1`, of(i))
			}
			body.WriteString(`}`)
			e := envelope(body.String())
			e.Header = map[string][]string{"ce-id": {strings.Repeat("\"\n😀", 1000)}}
			rejection := rejected(t, e)
			checkBounded(t, rejection, 16)
		})
	}
}

func TestAnErrorObjectOf4000ViolationsIsBounded(t *testing.T) {
	e := envelope(`{"@x":{"a":1` + strings.Repeat(`,"a":1`, 2500) + `}}`)
	rejection := rejected(t, e)
	if len(rejection.Violations) != 2500 {
		t.Fatalf("there are %d violations, want 2500", len(rejection.Violations))
	}
	for len(rejection.Violations) < 4000 {
		rejection.Violations = append(rejection.Violations, compliance.Violation{
			Code: compliance.UnknownProperty, Target: strings.Repeat("n", 64), Message: strings.Repeat("m", 200), Offset: -1,
		})
	}
	checkBounded(t, rejection, 16)
	for i := range rejection.Violations {
		rejection.Violations[i].Message = strings.Repeat("\"", 700)
	}
	if got := rejection.ErrorObject(); len(got.JSON()) > 8<<10 || len(got.Details) < 2 {
		t.Errorf("with long messages the object has %d bytes and %d details", len(got.JSON()), len(got.Details))
	}
}

func checkBounded(tb testing.TB, rejection *compliance.Rejection, details int) {
	tb.Helper()
	object := rejection.ErrorObject()
	text := object.JSON()
	if len(text) > 8<<10 || !utf8.Valid(text) {
		tb.Errorf("the error object has %d bytes", len(text))
	}
	if len(object.Details) != details {
		tb.Errorf("there are %d details, want %d", len(object.Details), details)
	}
	for _, d := range object.Details {
		if n := utf8.RuneCountInString(d.Target); n > 64 {
			tb.Errorf("a target has %d characters", n)
		}
	}
	for _, r := range string(text) {
		if r < ' ' || unicode.IsControl(r) || r == '\u2028' || r == unicode.ReplacementChar {
			tb.Errorf("the error object has the character %U", r)
		}
	}
}

// Messages go to logs and to dead letters: no value of a report is in them.
func TestMessagesHoldNoValueOfAReport(t *testing.T) {
	const secret = "zqsecretqz"
	bodies := []string{
		`{"status":"` + secret + `"}`, `{"userName":["` + secret + `"]}`, `{"id":"` + secret + `"}`,
		`{"lastReportedDateTime":"` + secret + `"}`, `{"@odata.type":"` + secret + `"}`, `{"@removed":"` + secret + `"}`,
		`{"userName":"` + secret, `{"userName":"` + secret + "\xff\"}", `{"userName":"` + secret + `\ud800"}`,
		`{"userName":"` + strings.Repeat(secret, 30) + `"}`, `"` + secret + `"`, `{}` + secret,
	}
	for _, body := range bodies {
		e := envelope(body)
		e.Subject = "compliance.status.policy." + secret + "x"
		if text := rejected(t, e).ErrorObject(); strings.Contains(text.Message+fmt.Sprint(text.Details), secret) {
			t.Errorf("%s: %+v", body, text)
		}
	}
	e := envelope(`{}`)
	e.Subject = "compliance.status." + secret + ".d.e"
	e.Header = map[string][]string{"ce-time": {secret}, "Compliance-Stored": {secret}}
	if text := string(rejected(t, e).ErrorObject().JSON()); strings.Contains(text, secret) {
		t.Errorf("the subject or a header is in %s", text)
	}
}

func TestResultsGoRound(t *testing.T) {
	object := rejected(t, envelope(`{"platform":null}`)).ErrorObject()
	for name, test := range map[string]struct {
		result compliance.Result
		want   string
	}{
		"applied": {
			compliance.Result{Outcome: compliance.Applied, Stream: "COMPLIANCE_STATUS", Sequence: 18446744073709551615, Record: []byte(`{"id":"d"}`)},
			`{"outcome":"applied","stream":"COMPLIANCE_STATUS","sequence":18446744073709551615,"record":{"id":"d"}}`,
		},
		"rejected": {
			compliance.Result{Outcome: compliance.Rejected, Stream: "S", Sequence: 1, Error: &object},
			`{"outcome":"rejected","stream":"S","sequence":1,"error":` + string(object.JSON()) + `}`,
		},
		"without a record": {
			compliance.Result{Outcome: compliance.Stale, Stream: "S", Sequence: 2},
			`{"outcome":"stale","stream":"S","sequence":2}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			text, err := test.result.JSON()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, string(text)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			back, err := compliance.ParseResult(text)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.result, back); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if _, err := compliance.ParseResult([]byte(`{"outcome":`)); err == nil {
		t.Error("half a result was read")
	}
	if _, err := (compliance.Result{Record: []byte(`{`)}).JSON(); err == nil {
		t.Error("a result with half a record was written")
	}
}

// Of any text as a payload the error object is bounded and JSON.
func TestAnyPayloadHasABoundedErrorObject(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.String().Draw(t, "name")
		rejection := compliance.Rejection{
			EventID:    string(rapid.SliceOf(rapid.Byte()).Draw(t, "id")),
			Stored:     stored,
			Violations: []compliance.Violation{{Code: compliance.UnknownProperty, Target: "x", Message: "m"}},
		}
		if text := rejection.ErrorObject().JSON(); !utf8.Valid(text) || len(text) > 8<<10 {
			t.Fatalf("%q", text)
		}
		_, refused := compliance.Decode(envelope(name))
		if refused != nil && len(refused.ErrorObject().JSON()) > 8<<10 {
			t.Fatalf("the error object of %q is too large", name)
		}
	})
}
