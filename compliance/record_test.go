package compliance_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/complianced/complianced/compliance"
)

// recordOf returns the record after reports with these payloads, each a second
// newer than the one before.
func recordOf(tb testing.TB, bodies ...string) *compliance.Record {
	tb.Helper()
	var record compliance.Record
	for i, body := range bodies {
		report := decode(tb, envelope(body))
		report.Version.Time += compliance.Ticks(i) * 10_000_000
		record.Merge(&report)
	}
	return &record
}

func TestARecordIsTheDocumentedObject(t *testing.T) {
	const empty = `{"@odata.type":"#microsoft.graph.deviceComplianceDeviceStatus","id":"device",` +
		`"deviceDisplayName":null,"userName":null,"deviceModel":null,"platform":0,` +
		`"complianceGracePeriodExpirationDateTime":"9999-12-31T23:59:59.9999999Z","status":"unknown",` +
		`"lastReportedDateTime":"0001-01-01T00:00:00Z","userPrincipalName":null}`
	full := strings.NewReplacer("\n", "", "  ", "", `": `, `":`).Replace(string(documented(t)))
	full = strings.Replace(full, `"deviceDisplayName"`, `"id":"device","deviceDisplayName"`, 1)
	tests := []struct {
		name   string
		bodies []string
		want   string
	}{
		{"of a device of which nothing is known, the defaults", []string{`{}`}, empty},
		{"of the documented example, the example and the id", []string{string(documented(t))}, full},
		{"null is given back as null", []string{string(documented(t)), `{"userName":null}`}, strings.Replace(full, `"User Name value"`, `null`, 1)},
		{"an empty text is given back as an empty text", []string{string(documented(t)), `{"userName":""}`}, strings.Replace(full, `"User Name value"`, `""`, 1)},
		{"a removed record that came back has the defaults", []string{string(documented(t)), `{"@removed":{}}`, `{}`}, empty},
		{"a date is given back as it was sent", []string{`{"lastReportedDateTime":"2026-01-02T03:04+05:30"}`}, strings.Replace(empty, `0001-01-01T00:00:00Z`, `2026-01-02T03:04+05:30`, 1)},
		{"minus zero is zero", []string{`{"platform":-0}`}, empty},
		{"a text is escaped", []string{`{"userName":"\"\\\n\u0000é😀"}`}, strings.Replace(empty, `"userName":null`, `"userName":"\"\\\n\u0000é😀"`, 1)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := recordOf(t, test.bodies...).JSON("device")
			if diff := cmp.Diff(test.want, string(got)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestStatusesOfARecord(t *testing.T) {
	for i, status := range compliance.Statuses() {
		if int(status) != i || !status.Valid() {
			t.Errorf("the status %s has number %d, want %d", status, status, i)
		}
		if got, ok := compliance.ParseStatus(status.String()); got != status || !ok {
			t.Errorf("%s reads as %s, %t", status, got, ok)
		}
		record := recordOf(t, `{"status":"`+status.String()+`"}`)
		if want := (compliance.Standing{Exists: true, Status: status}); record.Status() != status || record.Standing() != want {
			t.Errorf("a record with %s stands as %+v", status, record.Standing())
		}
	}
	if compliance.Status(8).Valid() || compliance.Status(8).String() != "unknown" {
		t.Error("8 is a status")
	}
	var none compliance.Record
	if !none.Empty() || none.Exists() || none.Tombstone() || none.Standing() != (compliance.Standing{}) {
		t.Error("the zero record is something")
	}
	gone := recordOf(t, `{"status":"error"}`, `{"@removed":{}}`)
	if gone.Empty() || gone.Exists() || !gone.Tombstone() || gone.Standing() != (compliance.Standing{}) {
		t.Errorf("a tombstone stands as %+v", gone.Standing())
	}
}

// Bytes of the sink that rotted do not stop a read, and what is read is JSON.
func TestARecordIsJSONWhateverTextsItHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var record compliance.Record
		for _, p := range compliance.Properties() {
			if p == compliance.Platform {
				continue
			}
			record.Values[p] = compliance.TextValue(string(rapid.SliceOfN(rapid.Byte(), 0, 8).Draw(t, p.String())))
		}
		text := record.JSON("device")
		var object map[string]any
		if err := json.Unmarshal(text, &object); err != nil || !utf8.Valid(text) {
			t.Fatalf("%q: %v", text, err)
		}
		if want := record.Values[compliance.UserName].Text; utf8.ValidString(want) && object["userName"] != want {
			t.Fatalf("the text %q is given back as %q", want, object["userName"])
		}
	})
}

// What a record is given back as is a report that says the same.
func TestARecordReadsBackAsAReport(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		members := map[string]any{}
		for _, p := range []compliance.Property{compliance.DeviceDisplayName, compliance.UserName, compliance.DeviceModel, compliance.UserPrincipalName} {
			members[p.String()] = rapid.StringN(0, compliance.MaxText, -1).Draw(t, p.String())
		}
		members["platform"] = rapid.Int32().Draw(t, "platform")
		members["status"] = rapid.SampledFrom(compliance.Statuses()).Draw(t, "status").String()
		members["complianceGracePeriodExpirationDateTime"] = "2026-01-02T03:04:05.5+01:00"
		body, err := json.Marshal(members)
		if err != nil {
			t.Fatal(err)
		}
		report, rejection := compliance.Decode(envelope(string(body)))
		if rejection != nil {
			t.Fatalf("%s: %+v", body, rejection.Violations)
		}
		var record compliance.Record
		record.Merge(&report)
		again, rejection := compliance.Decode(envelope(string(record.JSON("device"))))
		if rejection != nil {
			t.Fatalf("%s: %+v", record.JSON("device"), rejection.Violations)
		}
		again.Values[compliance.LastReported] = compliance.Value{} // Named because it has a default.
		if again.Values != report.Values {
			t.Fatalf("%+v became %+v", report.Values, again.Values)
		}
	})
}

func TestPropertiesHaveTheDocumentedOrder(t *testing.T) {
	decoder := json.NewDecoder(bytes.NewReader(recordOf(t, `{}`).JSON("device")))
	var names []string
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			t.Fatal(err)
		}
		if name, ok := token.(string); ok {
			names = append(names, name)
			if _, err := decoder.Token(); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := []string{"@odata.type"}
	for i, p := range compliance.Properties() {
		if int(p) != i {
			t.Errorf("%s has number %d, want %d", p, p, i)
		}
		want = append(want, p.String())
	}
	if diff := cmp.Diff(want, names); diff != "" || len(want) != compliance.NumProperties+1 {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestTheClosedSets(t *testing.T) {
	set := map[compliance.Code]bool{}
	for _, code := range compliance.Codes() {
		set[code] = true
	}
	if len(set) != 15 || len(compliance.Codes()) != 15 {
		t.Errorf("there are %d codes, want 15: %v", len(set), maps.Keys(set))
	}
	if diff := cmp.Diff([]compliance.Outcome{"applied", "unchanged", "stale", "rejected"}, compliance.Outcomes()); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
}
