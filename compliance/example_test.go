package compliance_test

import (
	"fmt"
	"time"

	"github.com/complianced/complianced/compliance"
)

// A report is right, or every rule that it breaks is listed.
func ExampleDecode() {
	e := &compliance.Envelope{
		Subject: "compliance.status.policy-1.device-1",
		Header:  map[string][]string{"ce-id": {"report-1"}},
		Body:    []byte(`{"status":"nonCompliant","userName":null,"lastReportedDateTime":"2026-03-04T05:06:00+01:00"}`),
		Stored:  time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC),
	}
	report, _ := compliance.Decode(e)
	fmt.Println(report.Key.Policy, report.Key.Device, report.EventID, report.Version.Time.Time())

	e.Body = []byte(`{"Status":"nonCompliant","platform":null}`)
	_, rejection := compliance.Decode(e)
	for _, v := range rejection.Violations {
		fmt.Printf("%s %s at byte %d: %s\n", v.Code, v.Target, v.Offset, v.Message)
	}
	// Output:
	// policy-1 device-1 report-1 2026-03-04 04:06:00 +0000 UTC
	// unknownProperty Status at byte 1: no property of deviceComplianceDeviceStatus has this name; the nearest is status
	// nullNotAllowed platform at byte 36: the property cannot be null; leave it out to keep its value
}

// Two reports come in the wrong order, and the older one once more. Each property
// has the newest value that was sent for it.
func ExampleRecord_Merge() {
	report := func(at, body string) compliance.Report {
		report, _ := compliance.Decode(&compliance.Envelope{
			Subject: "compliance.status.policy-1.device-1",
			Header:  map[string][]string{"ce-time": {at}},
			Body:    []byte(body),
			Stored:  time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC),
		})
		return report
	}
	older := report("2026-03-04T08:00:00Z", `{"status":"compliant","deviceModel":"T14"}`)
	newer := report("2026-03-04T09:00:00Z", `{"status":"nonCompliant"}`)

	var record compliance.Record
	for _, report := range []compliance.Report{newer, older, older} {
		change, outcome := record.Merge(&report)
		fmt.Println(outcome, change.Before.Status, "to", change.After.Status)
	}
	fmt.Println(string(record.JSON("device-1")))
	// Output:
	// applied unknown to nonCompliant
	// applied nonCompliant to nonCompliant
	// unchanged nonCompliant to nonCompliant
	// {"@odata.type":"#microsoft.graph.deviceComplianceDeviceStatus","id":"device-1","deviceDisplayName":null,"userName":null,"deviceModel":"T14","platform":0,"complianceGracePeriodExpirationDateTime":"9999-12-31T23:59:59.9999999Z","status":"nonCompliant","lastReportedDateTime":"0001-01-01T00:00:00Z","userPrincipalName":null}
}
