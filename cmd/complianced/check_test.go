package main_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCheckSaysWhatIsWrongAndWhere(t *testing.T) {
	for _, c := range []struct {
		name, body string
		args       []string
		status     int
		out        string
	}{
		{
			"every fault with its place", "{\n  \"platform\": \"8\",\n\t\"statuss\": \"compliant\", \"userName\": \"中\x7f\", \"status\":\"Compliant\"\n}", nil, 1,
			"2:15: platform: typeMismatch: the property is not a JSON number without fraction and exponent\n" +
				"      \"platform\": \"8\",\n" +
				"                  ^\n" +
				"3:2: statuss: unknownProperty: no property of deviceComplianceDeviceStatus has this name; the nearest is status\n" +
				"    \\t\"statuss\": \"compliant\", \"userName\": \"中\\u007f\", \"sta…\n" +
				"      ^\n" +
				"3:53: status: invalidStatus: the status is none of unknown, notApplicable, compliant, remediated, nonCompliant, error, conflict, notAssigned; the nearest is compliant\n" +
				"    …\", \"userName\": \"中\\u007f\", \"status\":\"Compliant\"\n" +
				"                                         ^\n",
		},
		{
			"what is no JSON", "{\"status\":\"\x1b[2J\"}", nil, 1,
			"1:12: malformedJson: the payload is not one JSON text in UTF-8: wrong or no UTF-8 at byte 11\n" +
				"    {\"status\":\"\\u001b[2J\"}\n" +
				"               ^\n",
		},
		{
			"a header", `{}`,
			[]string{"--header", "Ce-Time: today"},
			1,
			"report: ce-time: invalidDateTime: not a DateTimeOffset: ",
		},
		{"the event time", `{}`, []string{"--event-time", "2026-01-31T12:00:00Z", "-o", "json"}, 0, `"eventTime":"2026-01-31T12:00:00.000000000Z"`},
		{"the id of another device", `{"id":"d"}`, []string{"--device", "e"}, 1, "1:7: id: idMismatch: "},
		{"the id of the device", `{"id":"d"}`, []string{"--device", "d"}, 0, "the report is right"},
		{"an id alone", `{"id":"d","status":"error"}`, nil, 0, "the report is right; of a device without a record it makes this one:\n"},
		{"a name that is none beside it", `{"id":"a","ID":"b"}`, nil, 1, "1:11: ID: unknownProperty: "},
		{"two event times", `{}`, []string{"--event-time", "2026-01-31T12:00:00Z", "--header", "CE-Time: 2026-01-30T12:00:00Z"}, 2, ""},
		{"no id", `{"id":"a b"}`, nil, 1, "1:7: id: idMismatch: "},
		{"no policy", `{}`, []string{"--policy", "a.b"}, 1, "report: invalidSubject: "},
		{"a policy that is not taken", `{"platform":null}`, []string{"--policy", "other", "--allow-policies", "disk-*,virus"}, 1, "report: policyNotAllowed: "},
		{"what else is wrong with it", `{"platform":null}`, []string{"--policy", "other", "--allow-policies", "disk-*,virus"}, 1, "platform: nullNotAllowed: "},
		{"a policy that is taken", `{}`, []string{"--policy", "disk-1", "--allow-policies", "disk-*,virus"}, 0, "the report is right"},
		{"a deletion under a policy that is not taken", `{"@removed":{}}`, []string{"--policy", "other", "--allow-policies", "disk"}, 0, "the report is right"},
		{"policies and none of the report", `{}`, []string{"--allow-policies", "disk"}, 2, ""},
		{"a pattern that is none", `{}`, []string{"--policy", "disk", "--allow-policies", "["}, 2, ""},
		{"policies that are empty", `{}`, []string{"--policy", "disk", "--allow-policies="}, 2, ""},
		{"a policy that is empty", `{}`, []string{"--policy="}, 2, ""},
		{"a deletion", `{"@removed":{}}`, []string{"--event-time", "2026-01-31T12:00:00Z"}, 0, "the report is right: it removes the record, as of 2026-01-31T12:00:00.000000000Z\n"},
		{"a deletion in JSON", `{"@removed":{}}`, []string{"--header", "ce-id:7", "-o", "json"}, 0, `"eventId":"7","removed":true}`},
		{"JSON", `{"platform":null}`, []string{"-o", "json"}, 1, `{"right":false,"faults":[{"code":"nullNotAllowed","target":"platform",` +
			`"message":"the property cannot be null; leave it out to keep its value","place":{"line":1,"column":13,"offset":12}}]}` + "\n"},
		{"JSON of a right one", `{"id":"d","platform":8}`, []string{"-o", "json"}, 0, `"id":"d"`},
		{"too large", `{"a@b":"` + strings.Repeat("x", 1<<14) + `"}`, nil, 1, "report: tooLarge: "},
		{"a header that is none", `{}`, []string{"--header", "x"}, 2, ""},
		{"another output", `{}`, []string{"-o", "xml"}, 2, ""},
		{"an argument", `{}`, []string{"report.json"}, 2, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, stderr, status := command(t, c.body, append([]string{"check"}, c.args...)...)
			if status != c.status || strings.Count(stderr, "\n") != min(c.status, 1) {
				t.Errorf("status %d: %s%s", status, out, stderr)
			}
			if strings.HasPrefix(c.out, "2:15") {
				if diff := cmp.Diff(c.out, out); diff != "" {
					t.Error(diff)
				}
			} else if !strings.Contains(out, c.out) || strings.Contains(out, "idMismatch") != strings.Contains(c.out, "idMismatch") {
				t.Errorf("%s\nwant %s", out, c.out)
			}
		})
	}
}

func TestCheckTakesThePoliciesOfTheEnvironmentWhereThePolicyIsKnown(t *testing.T) {
	t.Setenv("COMPLIANCED_ALLOW_POLICIES", "disk")
	if _, stderr, status := command(t, `{}`, "check"); status != 0 {
		t.Errorf("status %d: %s", status, stderr)
	}
	if out, _, status := command(t, `{}`, "check", "--policy", "other"); status != 1 || !strings.Contains(out, "policyNotAllowed") {
		t.Errorf("status %d: %s", status, out)
	}
}
