package compliance

import "time"

// MaxValidity is the greatest validity in days.
const MaxValidity = 120

// Effective is what a record counts as at an instant. It stands beside the reported
// status, which is never rewritten.
type Effective struct {
	// Status is [EffectiveStale] where the record is stale, else [EffectiveInGrace]
	// where it is in its grace period, else the name of the reported status.
	Status  string
	InGrace bool
	Stale   bool
}

// What a record counts as beside the members of complianceStatus.
const (
	EffectiveInGrace = "inGracePeriod"
	EffectiveStale   = "stale"
)

// At returns what the record counts as at an instant, where a newest event is valid
// for so many UTC days.
func (f Facts) At(now time.Time, validity int) Effective {
	e := Effective{Status: f.Status.String(), InGrace: f.InGrace(now), Stale: f.Stale(now, validity)}
	switch {
	case e.Stale:
		e.Status = EffectiveStale
	case e.InGrace:
		e.Status = EffectiveInGrace
	}
	return e
}

// Annotate adds OData instance annotations (OData JSON Format 4.01, section 20) after
// the members of the documented object. They change nothing in it: members with an @ in
// their names are ignored where it is sent as a report.
func (e Effective) Annotate(object []byte) []byte {
	annotated := append([]byte(nil), object[:len(object)-1]...)
	annotated = appendQuoted(append(annotated, `,"@compliance.effectiveStatus":`...), e.Status)
	annotated = appendBool(append(annotated, `,"@compliance.inGrace":`...), e.InGrace)
	annotated = appendBool(append(annotated, `,"@compliance.stale":`...), e.Stale)
	return append(annotated, '}')
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, "true"...)
	}
	return append(b, "false"...)
}
