package main

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/complianced/complianced/compliance"
)

// Mix is what the measured reports change.
type Mix string

// The mixes.
const (
	WorstCase   Mix = "worst case"
	SteadyFleet Mix = "steady fleet"
)

// Shares of the steady fleet, in percent; the rest changes lastReportedDateTime alone.
const (
	steadyStatus    = 3
	steadyPartial   = 1
	steadyDuplicate = 1
)

// LoadOptions describe a load. The same options give the same reports.
type LoadOptions struct {
	Mix      Mix       `json:"mix"`
	Devices  int       `json:"devices"`
	Policies int       `json:"policies"`
	Seed     uint64    `json:"seed"`
	Epoch    time.Time `json:"epoch"`
}

// values are those of the nine properties, in their documented order, as they are stored.
type values [compliance.NumProperties]string

// outgoing is a report to publish.
type outgoing struct {
	key     compliance.Key
	eventID string
	time    time.Time
	body    []byte
	// again says that it is the report before once more.
	again bool
	pair  int
}

// load makes reports and keeps of every record what it must be after them.
type load struct {
	options  LoadOptions
	random   *rand.Rand
	devices  []string
	policies []string
	pairs    []pair
	// made is how many event times were given out.
	made int
	last outgoing
}

// pair is what a record must be: all its values follow from this and its number.
type pair struct {
	// changes is how often all values changed.
	changes uint16
	status  compliance.Status
	// reported is the number of the event whose time is lastReportedDateTime.
	reported int32
}

func newLoad(options LoadOptions) *load {
	l := &load{
		options:  options,
		random:   rand.New(rand.NewPCG(options.Seed, 0)),
		devices:  make([]string, options.Devices),
		policies: make([]string, options.Policies),
		pairs:    make([]pair, options.Devices*options.Policies),
	}
	for i := range l.policies {
		l.policies[i] = l.guid()
	}
	for i := range l.devices {
		l.devices[i] = l.guid()
	}
	return l
}

func (l *load) guid() string {
	var id uuid.UUID
	binary.LittleEndian.PutUint64(id[:8], l.random.Uint64())
	binary.LittleEndian.PutUint64(id[8:], l.random.Uint64())
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id.String()
}

// key returns the ids of a record.
func (l *load) key(n int) compliance.Key {
	return compliance.Key{Policy: l.policies[n/len(l.devices)], Device: l.devices[n%len(l.devices)]}
}

// first returns the report that creates the n-th record.
func (l *load) first(n int) outgoing {
	l.pairs[n].status = compliance.Status(n % compliance.NumStatuses)
	return l.full(n)
}

// next returns the next report of the mix.
func (l *load) next() outgoing {
	n := l.random.IntN(len(l.pairs))
	p := &l.pairs[n]
	if l.options.Mix == WorstCase {
		p.changes++
		p.status = otherStatus(p.status)
		return l.full(n)
	}
	switch share := l.random.IntN(100); {
	case share < steadyDuplicate && l.last.body != nil:
		report := l.last
		report.again = true
		return report
	case share < steadyDuplicate+steadyPartial:
		return l.partial(n)
	case share < steadyDuplicate+steadyPartial+steadyStatus:
		p.status = otherStatus(p.status)
	}
	return l.full(n)
}

func otherStatus(s compliance.Status) compliance.Status { return (s + 1) % compliance.NumStatuses }

// full returns a report with every property but id, as in the documented example.
func (l *load) full(n int) outgoing {
	report := l.event(n)
	l.pairs[n].reported = int32(l.made)
	v := l.values(n)
	report.body = fmt.Appendf(make([]byte, 0, 512), `{"@odata.type":"%s","deviceDisplayName":"%s","userName":"%s","deviceModel":"%s","platform":%s,`+
		`"complianceGracePeriodExpirationDateTime":"%s","status":"%s","lastReportedDateTime":"%s","userPrincipalName":"%s"}`,
		compliance.ODataType, v[compliance.DeviceDisplayName], v[compliance.UserName], v[compliance.DeviceModel],
		v[compliance.Platform], v[compliance.GracePeriodExpiration], l.pairs[n].status, v[compliance.LastReported],
		v[compliance.UserPrincipalName])
	l.last = report
	return report
}

// partial returns a report with the status, as it was, and a new lastReportedDateTime.
func (l *load) partial(n int) outgoing {
	report := l.event(n)
	l.pairs[n].reported = int32(l.made)
	report.body = fmt.Appendf(nil, `{"status":"%s","lastReportedDateTime":"%s"}`, l.pairs[n].status, l.stamp(l.pairs[n].reported))
	l.last = report
	return report
}

// single returns a report with one property alone.
func (l *load) single(n int, property compliance.Property) outgoing {
	report := l.event(n)
	if property == compliance.LastReported {
		l.pairs[n].reported = int32(l.made)
	}
	value := l.values(n)[property]
	switch property {
	case compliance.Platform:
	case compliance.StatusProperty:
		value = strconv.Quote(l.pairs[n].status.String())
	case compliance.ID, compliance.DeviceDisplayName, compliance.UserName, compliance.DeviceModel,
		compliance.GracePeriodExpiration, compliance.LastReported, compliance.UserPrincipalName:
		value = strconv.Quote(value)
	}
	report.body = fmt.Appendf(nil, `{"%s":%s}`, property, value)
	return report
}

// event returns a report without a body, with a time and an id of its own.
func (l *load) event(n int) outgoing {
	l.made++
	return outgoing{key: l.key(n), eventID: l.guid(), time: l.time(int32(l.made)), pair: n}
}

// eventStep lies between the times of two events. It is so small that the times
// are never much ahead of the clock.
const eventStep = 10 * time.Microsecond

func (l *load) time(made int32) time.Time {
	return l.options.Epoch.Add(time.Duration(made) * eventStep)
}

// dateTimeLayout has the length of the documented example's times.
const dateTimeLayout = "2006-01-02T15:04:05.0000000-07:00"

func (l *load) stamp(made int32) string { return l.time(made).UTC().Format(dateTimeLayout) }

// values returns what the n-th record must hold. The lengths are those of the
// documented example.
func (l *load) values(n int) values {
	p := l.pairs[n]
	tag := fmt.Sprintf("%03x%02x", n%len(l.devices)&0xfff, p.changes&0xff)
	return values{
		compliance.ID:                    l.devices[n%len(l.devices)],
		compliance.DeviceDisplayName:     "Device Display Name " + tag,
		compliance.UserName:              "User Name " + tag,
		compliance.DeviceModel:           "Device Model " + tag,
		compliance.Platform:              strconv.Itoa((n + int(p.changes)) % 10),
		compliance.GracePeriodExpiration: l.options.Epoch.Add(72*time.Hour + time.Duration(p.changes)*time.Second).UTC().Format(dateTimeLayout),
		compliance.StatusProperty:        strconv.Itoa(int(p.status)),
		compliance.LastReported:          l.stamp(p.reported),
		compliance.UserPrincipalName:     "user" + tag + "@contoso.example",
	}
}

// counts returns of each policy the records in each status, of the first n records.
func (l *load) counts(n int) map[string][compliance.NumStatuses]int {
	counts := make(map[string][compliance.NumStatuses]int, len(l.policies))
	for i, p := range l.pairs[:n] {
		policy := l.key(i).Policy
		of := counts[policy]
		of[p.status]++
		counts[policy] = of
	}
	return counts
}
