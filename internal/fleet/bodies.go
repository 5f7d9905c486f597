package fleet

import (
	"strconv"
	"time"

	"github.com/complianced/complianced/compliance"
)

// bodySize is the room for a body; most are about 400 bytes.
const bodySize = 480

// platforms is how many platforms there are.
const platforms = 12

// graceDays is how long after its report the grace period of a device ends; in the
// mix Default it is so on the average of those that are neither short nor over.
const graceDays = 3

// values are the eight properties of a device that can differ between its reports.
type values struct {
	device uint64
	// version follows the names, so that they can change: 0 adds nothing.
	version  uint64
	platform uint64
	status   compliance.Status
	// grace is when the grace period ends; zero is never.
	grace    time.Time
	reported time.Time
}

// values returns a device as it is from the start, with a report's time.
func (f *Fleet) values(r *Report, device uint64) values {
	return values{
		device:   device,
		platform: device % platforms,
		status:   compliance.StatusCompliant,
		grace:    r.Time.Add(graceDays * 24 * time.Hour),
		reported: r.Time,
	}
}

// property appends one property as a member.
func (v *values) property(text []byte, p compliance.Property) []byte {
	text = append(text, '"')
	text = append(text, p.String()...)
	text = append(text, `":`...)
	switch p {
	case compliance.ID: // The subject names it.
	case compliance.DeviceDisplayName:
		text = v.name(text, "Device Display Name ")
	case compliance.UserName:
		text = v.name(text, "User Name ")
	case compliance.DeviceModel:
		text = v.name(text, "Device Model ")
	case compliance.Platform:
		text = strconv.AppendUint(text, v.platform, 10)
	case compliance.GracePeriodExpiration:
		if v.grace.IsZero() {
			return append(text, `"9999-12-31T23:59:59.9999999Z"`...)
		}
		text = v.date(text, v.grace)
	case compliance.StatusProperty:
		text = append(append(append(text, '"'), v.status.String()...), '"')
	case compliance.LastReported:
		text = v.date(text, v.reported)
	case compliance.UserPrincipalName:
		text = v.name(text, "user.principal.name.")
		text = append(text[:len(text)-1], `@example.com"`...)
	}
	return text
}

// name appends a text with the device's number in it.
func (v *values) name(text []byte, prefix string) []byte {
	text = append(append(text, '"'), prefix...)
	text = strconv.AppendUint(text, v.device, 10)
	if v.version > 0 {
		text = strconv.AppendUint(append(text, "-v"...), v.version, 10)
	}
	return append(text, '"')
}

// date appends a time with the offset of the place where the device is.
func (v *values) date(text []byte, t time.Time) []byte {
	return append(appendDateTime(append(text, '"'), t, int(v.device%27)-12), '"')
}

// whole is a full body.
func (v *values) whole() []byte {
	text := append(make([]byte, 0, bodySize), `{"@odata.type":"`+compliance.ODataType+`"`...)
	for p := compliance.DeviceDisplayName; p < compliance.NumProperties; p++ {
		text = v.property(append(text, ','), p)
	}
	return append(text, '}')
}

// part is a body with a subset of the properties, of which some are null; both are
// bits by the number of the property.
func (v *values) part(set, null uint16) []byte {
	text := append(make([]byte, 0, bodySize), '{')
	for p := compliance.DeviceDisplayName; p < compliance.NumProperties; p++ {
		if set&(1<<p) == 0 {
			continue
		}
		if len(text) > 1 {
			text = append(text, ',')
		}
		if null&(1<<p) == 0 {
			text = v.property(text, p)
			continue
		}
		text = append(append(text, '"'), p.String()...)
		text = append(text, `":null`...)
	}
	return append(text, '}')
}

// full is a report of the mix Default that sets everything. The names are those of
// the device; the status and the grace period are drawn.
func (f *Fleet) full(r Report) Report {
	_, device := f.split(r.record)
	v := f.values(&r, device)
	v.status, v.grace = f.drawStatus(), f.drawGrace(r.Time)
	r.Kind, r.Body = Full, v.whole()
	return r
}

// nullable are the properties that may be null.
const nullable uint16 = 1<<compliance.DeviceDisplayName | 1<<compliance.UserName |
	1<<compliance.DeviceModel | 1<<compliance.UserPrincipalName

// partial is a report of the mix Default with a random subset of the properties,
// with names that the device does not have from the start.
func (f *Fleet) partial(r Report) Report {
	_, device := f.split(r.record)
	v := f.values(&r, device)
	v.version = 1 + f.random.Uint64N(99)
	v.platform = f.random.Uint64N(platforms)
	v.status, v.grace = f.drawStatus(), f.drawGrace(r.Time)
	set := f.subset()
	null := uint16(0)
	for p := compliance.DeviceDisplayName; p < compliance.NumProperties; p++ {
		if nullable&(1<<p) != 0 && f.chance(f.options.Nulls) {
			null |= 1 << p
		}
	}
	r.Kind, r.Body = Partial, v.part(set, null)
	return r
}

// subset draws properties, as bits: each is in or out, never all, and one time in
// sixteen none.
func (f *Fleet) subset() uint16 {
	if f.random.IntN(16) == 0 {
		return 0
	}
	const all = 1<<compliance.NumProperties - 2 // without the id
	set := uint16(f.random.Uint32()) & all
	if set == all {
		set &^= 1 << compliance.DeviceModel
	}
	return set
}

// removal is a report that deletes its record.
func (f *Fleet) removal(r Report) Report {
	reason := "deleted"
	if f.random.IntN(2) == 0 {
		reason = "changed"
	}
	r.Kind, r.Body = Removal, []byte(`{"@removed":{"reason":"`+reason+`"}}`)
	return r
}

// drawStatus draws one as a healthy fleet has them.
func (f *Fleet) drawStatus() compliance.Status {
	switch n := f.random.IntN(100); {
	case n < 90:
		return compliance.StatusCompliant
	case n < 95:
		return compliance.StatusNonCompliant
	default:
		return compliance.Status(f.random.IntN(compliance.NumStatuses))
	}
}

// drawGrace draws when a grace period ends: never, up to an hour before the report,
// within a minute after it, or within some days.
func (f *Fleet) drawGrace(reported time.Time) time.Time {
	in := func(d time.Duration) time.Duration { return time.Duration(f.random.Int64N(int64(d/tick))) * tick }
	switch f.random.IntN(8) {
	case 0:
		return time.Time{}
	case 1:
		return reported.Add(-in(time.Hour))
	case 2:
		return reported.Add(in(time.Minute))
	default:
		return reported.Add(in(2 * graceDays * 24 * time.Hour))
	}
}
