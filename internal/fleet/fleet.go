// Package fleet makes up the reports of a synthetic fleet of devices. The same
// seed gives the same fleet and, but for the times, the same reports.
package fleet

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/complianced/complianced/compliance"
)

// Options describe a fleet. Shares are from 0 to 1.
type Options struct {
	// Devices and Policies are how many there are. Each defaults to 1.
	Devices  int
	Policies int
	Seed     uint64
	// Partial is the share of reports that set the status alone.
	Partial float64
	// Duplicates is the share of reports that are sent twice.
	Duplicates float64
	// Late is the share of reports that are sent out of order: up to a minute
	// after they were made.
	Late float64
	// Bad is the share of reports that break a rule.
	Bad float64
}

// Report is one report to publish.
type Report struct {
	Key     compliance.Key
	EventID string
	Time    time.Time
	Body    []byte
}

// Fleet makes reports. It keeps nothing of a device: all there is of one follows
// from its number, so that any number of devices costs no memory. It is not safe
// for concurrent use.
type Fleet struct {
	options Options
	random  *rand.Rand
	again   *Report
}

// New returns a fleet.
func New(options Options) *Fleet {
	options.Devices, options.Policies = max(options.Devices, 1), max(options.Policies, 1)
	return &Fleet{options: options, random: rand.New(rand.NewPCG(options.Seed, 1))}
}

// First returns the first report of a device under a policy: the i-th of all,
// from 0, as each device says once who it is.
func (f *Fleet) First(i int, now time.Time) Report {
	return f.full(i%f.options.Devices, i/f.options.Devices%f.options.Policies, now)
}

// Next returns the next report, made about now.
func (f *Fleet) Next(now time.Time) Report {
	if f.again != nil {
		report := *f.again
		f.again = nil
		return report
	}
	device, policy := f.random.IntN(f.options.Devices), f.random.IntN(f.options.Policies)
	if f.random.Float64() < f.options.Late {
		now = now.Add(-time.Duration(f.random.Int64N(int64(time.Minute))))
	}
	var report Report
	switch {
	case f.random.Float64() < f.options.Bad:
		report = f.bad(device, policy, now)
	case f.random.Float64() < f.options.Partial:
		report = f.report(device, policy, now, fmt.Sprintf(`{"status":%q,"lastReportedDateTime":%q}`, f.status(), stamp(now)))
	default:
		report = f.full(device, policy, now)
	}
	if f.random.Float64() < f.options.Duplicates {
		f.again = &report
	}
	return report
}

func (f *Fleet) full(device, policy int, now time.Time) Report {
	n := strconv.Itoa(device)
	return f.report(device, policy, now, `{"@odata.type":"`+compliance.ODataType+`","deviceDisplayName":"Device `+n+
		`","userName":"User `+n+`","deviceModel":"Model `+strconv.Itoa(device%17)+`","platform":`+strconv.Itoa(device%12)+
		`,"complianceGracePeriodExpirationDateTime":"`+stamp(now.Add(72*time.Hour))+`","status":"`+f.status()+
		`","lastReportedDateTime":"`+stamp(now)+`","userPrincipalName":"user`+n+`@example.com"}`)
}

func (f *Fleet) bad(device, policy int, now time.Time) Report {
	bodies := []string{
		`{"status":"Compliant"}`, `{"status":4}`, `{"state":"compliant"}`, `{"platform":1.5}`, `{"status":`,
		`{"lastReportedDateTime":"2026-01-01 00:00"}`,
	}
	return f.report(device, policy, now, bodies[f.random.IntN(len(bodies))])
}

func (f *Fleet) report(device, policy int, now time.Time, body string) Report {
	return Report{
		Key:     f.Key(device, policy),
		EventID: f.id().String(),
		Time:    now,
		Body:    []byte(body),
	}
}

// Key returns the ids of a device and a policy by their numbers.
func (f *Fleet) Key(device, policy int) compliance.Key {
	return compliance.Key{Policy: f.guid(1, policy), Device: f.guid(2, device)}
}

func (f *Fleet) guid(kind uint64, n int) string {
	return guid(rand.New(rand.NewPCG(f.options.Seed<<2|kind, uint64(n)))).String()
}

func (f *Fleet) id() uuid.UUID { return guid(f.random) }

func guid(random *rand.Rand) uuid.UUID {
	var id uuid.UUID
	for i := range id {
		id[i] = byte(random.UintN(256))
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id
}

// status draws one as a healthy fleet has them.
func (f *Fleet) status() string {
	switch n := f.random.IntN(100); {
	case n < 80:
		return compliance.StatusCompliant.String()
	case n < 90:
		return compliance.StatusNonCompliant.String()
	default:
		return compliance.Status(n % compliance.NumStatuses).String()
	}
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.0000000Z") }
