package fleet

import (
	"strings"

	"github.com/complianced/complianced/compliance"
)

// fault is a way to be wrong, with bodies that are wrong in this way alone. Where
// there are none, a full report is made wrong by spoil.
type fault struct {
	code   compliance.Code
	bodies []string
	spoil  func(f *Fleet, r *Report)
}

// faults are all that a report itself can be the cause of. Only policyNotAllowed is
// left out, which is of the deployment's configuration.
var faults = []fault{
	{code: compliance.InvalidSubject, spoil: spoilSubject},
	{code: compliance.TooLarge, bodies: []string{
		`{"deviceDisplayName":"` + strings.Repeat("x", compliance.MaxBody) + `"}`,
		`{"status":"compliant"` + strings.Repeat(" ", compliance.MaxBody) + `}`,
	}},
	{code: compliance.MalformedJSON, spoil: spoilText},
	{code: compliance.DuplicateProperty, bodies: []string{
		`{"status":"compliant","status":"compliant"}`,
		`{"platform":1,"userName":"User","platform":2}`,
	}},
	{code: compliance.UnknownProperty, bodies: []string{
		`{"state":"compliant"}`, `{"Status":"compliant"}`, `{"status":"compliant","osVersion":"10.0"}`,
	}},
	{code: compliance.TypeMismatch, bodies: []string{
		`{"status":4}`, `{"platform":1.5}`, `{"platform":"8"}`, `{"userName":["User"]}`, `[]`, `"compliant"`, `null`,
	}},
	{code: compliance.NullNotAllowed, bodies: []string{
		`{"status":null}`, `{"platform":null}`, `{"lastReportedDateTime":null}`,
		`{"complianceGracePeriodExpirationDateTime":null}`, `{"id":null}`,
	}},
	{code: compliance.InvalidStatus, bodies: []string{
		`{"status":"Compliant"}`, `{"status":"String"}`, `{"status":""}`,
	}},
	{code: compliance.InvalidDateTime, bodies: []string{
		`{"lastReportedDateTime":"2026-01-01 00:00"}`, `{"lastReportedDateTime":"2026-01-01T00:00:00"}`,
		`{"complianceGracePeriodExpirationDateTime":"2026-02-30T00:00:00Z"}`,
	}},
	{code: compliance.OutOfRange, bodies: []string{`{"platform":2147483648}`, `{"platform":-2147483649}`}},
	{code: compliance.ValueTooLong, bodies: []string{
		`{"userName":"` + strings.Repeat("é", compliance.MaxText+1) + `"}`,
		`{"deviceModel":"` + strings.Repeat("x", compliance.MaxText+1) + `"}`,
	}},
	{code: compliance.IDMismatch, bodies: []string{`{"id":"another-device"}`, `{"id":""}`}},
	{code: compliance.WrongType, bodies: []string{
		`{"@odata.type":"#microsoft.graph.managedDevice"}`, `{"@odata.type":"` + compliance.ODataType[1:] + `"}`,
	}},
	{code: compliance.FutureEventTime, spoil: spoilTime},
}

// bad is a report that breaks one rule.
func (f *Fleet) bad(r Report) Report {
	fault := &faults[f.random.IntN(len(faults))]
	if fault.spoil != nil {
		r = f.full(r)
		fault.spoil(f, &r)
	} else {
		r.Body = []byte(fault.bodies[f.random.IntN(len(fault.bodies))])
	}
	r.Kind, r.Code = Bad, fault.code
	return r
}

func spoilSubject(f *Fleet, r *Report) {
	switch f.random.IntN(3) {
	case 0:
		r.Subject += ".more"
	case 1:
		r.Subject += "~"
	case 2:
		r.Subject = compliance.StatusPrefix + r.Key.Device
	}
	r.Key = compliance.Key{}
}

func spoilText(f *Fleet, r *Report) {
	switch f.random.IntN(4) {
	case 0:
		r.Body = r.Body[:1+f.random.IntN(len(r.Body)-1)]
	case 1:
		r.Body = append(r.Body, '}')
	case 2:
		r.Body = append([]byte("\ufeff"), r.Body...)
	case 3:
		r.Body = []byte("{\"userName\":\"\xff\"}")
	}
}

// spoilTime makes a clock wrong that is far ahead.
func spoilTime(f *Fleet, r *Report) {
	r.Time = r.Time.Add(farFuture)
	*r = f.full(*r)
}
