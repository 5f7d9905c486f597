package fleet

import (
	"time"

	"github.com/complianced/complianced/compliance"
)

// round returns the record that report i is of, and how many reports of the record
// there were before.
func (f *Fleet) round(i uint64) (record, before uint64) {
	return f.rounds.of(i % f.records), i / f.records
}

// worst is a report of the mix Worst. Status and platform go round, the names carry
// the number of the round, and the dates follow the report's time.
func (f *Fleet) worst(i uint64) Report {
	record, before := f.round(i)
	r := f.report(i, record, false)
	_, device := f.split(record)
	v := f.values(&r, device)
	v.version = 1 + before
	v.platform = (device + before) % platforms
	v.status = compliance.Status((device + before) % compliance.NumStatuses)
	r.Kind, r.Body = Full, v.whole()
	return r
}

// In the mix Steady, 2 of statusCycle reports of a record change its status: 3 of the
// 99 of 100 that are no duplicate. For statusAway of them the record is not compliant,
// so that nine in ten of the fleet are.
const (
	statusCycle = 66
	statusAway  = 7
)

// steady is a report of the mix Steady. What a device is now follows from how often
// its status changed, and that from the number of the round: nothing is kept.
func (f *Fleet) steady(i uint64) Report {
	record, before := f.round(i)
	r := f.report(i, record, false)
	_, device := f.split(record)
	v := f.values(&r, device)
	v.status = f.statusAt(record, before+f.number(forStatuses, record)%statusCycle)
	v.grace = defaultGrace.Add(time.Duration(device%1000) * time.Hour)
	if before > 0 && f.chance(f.options.Partial) {
		r.Kind, r.Body = Partial, v.part(f.subset(), 0)
		return r
	}
	r.Kind, r.Body = Full, v.whole()
	return r
}

// defaultGrace is about when grace periods end in a fleet at rest.
var defaultGrace = time.Date(2027, 1, 1, 0, 2, 41, 436920300, time.UTC)

// statusAt returns the status of a record at a report: compliant, and at the end of each
// cycle one of the others.
func (f *Fleet) statusAt(record, report uint64) compliance.Status {
	cycle := report / statusCycle
	if report%statusCycle < statusCycle-statusAway {
		return compliance.StatusCompliant
	}
	others := [...]compliance.Status{
		compliance.StatusNonCompliant, compliance.StatusRemediated, compliance.StatusError,
		compliance.StatusNonCompliant, compliance.StatusConflict, compliance.StatusNonCompliant,
	}
	return others[f.number(forStatuses, record^cycle<<40)%uint64(len(others))]
}
