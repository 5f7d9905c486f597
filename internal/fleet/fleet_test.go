package fleet_test

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/internal/fleet"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// everything has all shares on.
var everything = fleet.Options{
	Devices: 300, Policies: 3, Seed: 7, Start: start, Rate: 5000,
	Partial: .3, Nulls: .25, Removed: .03, Bad: .1, Duplicates: .05, Reorder: .2, Late: .1, ClockSkew: 2 * time.Minute,
}

func take(f *fleet.Fleet, n int) []fleet.Report {
	reports := make([]fleet.Report, n)
	for i := range reports {
		reports[i] = f.Next()
	}
	return reports
}

func decode(r *fleet.Report, stored time.Time) (compliance.Report, *compliance.Rejection) {
	return compliance.Decode(&compliance.Envelope{
		Subject: r.Subject, Header: r.Message().Header, Body: r.Body, Sequence: 1, Stored: stored,
	})
}

func same(t *testing.T, want, have fleet.Report) {
	t.Helper()
	if !reflect.DeepEqual(want, have) {
		t.Fatal(cmp.Diff(want, have, cmpopts.IgnoreUnexported(fleet.Report{})))
	}
}

func TestTheSameOptionsGiveTheSameReports(t *testing.T) {
	for _, mix := range fleet.Mixes() {
		options := fleet.Options{Devices: 50, Policies: 2, Seed: 3, Mix: mix, Start: start}
		if mix == fleet.Default {
			options = everything
		}
		first := take(fleet.New(options), 3000)
		again := fleet.New(options)
		for _, r := range first {
			same(t, r, again.Next())
			one := again.At(r.Index)
			one.Duplicate, one.Reordered = r.Duplicate, r.Reordered
			same(t, r, one)
		}
		options.Seed++
		other := take(fleet.New(options), 3000)
		for i := range other {
			if other[i].EventID == first[i].EventID {
				t.Fatalf("%s: another seed gives report %d the same id", mix, i)
			}
		}
		options.Seed--
		options.Start = start.Add(time.Hour)
		for i, moved := range take(fleet.New(options), 3000) {
			if moved.EventID != first[i].EventID || !moved.Time.Equal(first[i].Time.Add(time.Hour)) {
				t.Fatalf("%s: a later start does more than move report %d", mix, i)
			}
		}
	}
}

func TestEveryReportHasATimeAndAnIDOfItsOwn(t *testing.T) {
	const n = 20_000
	slow, fast, odd := everything, everything, everything
	slow.Rate, fast.Rate, odd.Rate = 7, 0, 29999
	slow.Late, fast.Late, odd.Late = .5, .5, .5
	for _, options := range []fleet.Options{everything, slow, fast, odd, {Devices: 1000, Mix: fleet.Steady}, {Devices: 1000, Mix: fleet.Worst}} {
		times, ids := make(map[time.Time]string, n), make(map[string]time.Time, n)
		duplicates := 0
		for _, r := range take(fleet.New(options), n) {
			if !r.Time.Equal(r.Time.Truncate(100 * time.Nanosecond)) {
				t.Fatalf("%v is no tick", r.Time)
			}
			at, known := ids[r.EventID]
			if other, taken := times[r.Time]; taken && other != r.EventID || known && !at.Equal(r.Time) {
				t.Fatalf("rate %g: two reports have the time %v or the id %s", options.Rate, r.Time, r.EventID)
			}
			if known {
				duplicates++
			}
			times[r.Time], ids[r.EventID] = r.EventID, r.Time
		}
		if options.Duplicates > 0 && duplicates < n/50 {
			t.Errorf("only %d duplicates", duplicates)
		}
	}
}

func TestEventTimesKeepUpWithTheRate(t *testing.T) {
	for _, rate := range []float64{0.5, 30, 5000, 20000, fleet.MaxRate} {
		options := everything
		options.Rate, options.Late, options.Reorder = rate, 0, 0
		const n = 20_000
		reports := take(fleet.New(options), n)
		last := reports[n-1].Time.Sub(start).Seconds()
		want := n / rate
		// A duplicate is a send without a report, so the number made is binomial; five
		// deviations. The rest is the clock error.
		tolerance := 5*math.Sqrt(n*options.Duplicates)/rate + options.ClockSkew.Seconds() + 0.01*want
		if math.Abs(last-want) > tolerance {
			t.Errorf("at %g a second report %d is made after %.3f s, not %.3f", rate, n, last, want)
		}
	}
}

func TestARightReportIsAcceptedAndABadOneRefusedWithItsCode(t *testing.T) {
	seen := map[compliance.Code]int{}
	for _, mix := range fleet.Mixes() {
		options := fleet.Options{Devices: 50, Seed: 3, Mix: mix, Start: start, Rate: 5000}
		if mix == fleet.Default {
			options = everything
		}
		for _, r := range take(fleet.New(options), 20_000) {
			// A device's clock may be ahead; the report is stored when it is made.
			stored := start.Add(time.Duration(float64(r.Index) / options.Rate * float64(time.Second)))
			report, rejection := decode(&r, stored)
			switch {
			case r.Kind == fleet.Bad && (rejection == nil || rejection.Code() != r.Code || len(rejection.Violations) != 1):
				t.Fatalf("want %s: %s %s: %+v", r.Code, r.Subject, r.Body, rejection)
			case r.Kind != fleet.Bad && rejection != nil:
				t.Fatalf("want it right: %s: %+v", r.Body, rejection)
			case r.Kind != fleet.Bad && r.Code != "":
				t.Fatalf("a right report with the code %s", r.Code)
			}
			if rejection == nil {
				if report.Key != r.Key || report.EventID != r.EventID || !report.Version.Time.Time().Equal(r.Time) ||
					report.Removed != (r.Kind == fleet.Removal) {
					t.Fatalf("%+v is not %+v", report, r)
				}
			}
			seen[r.Code]++
		}
	}
	for _, code := range compliance.Codes() {
		if seen[code] == 0 && code != compliance.PolicyNotAllowed {
			t.Errorf("no report is refused with %s", code)
		}
	}
	if have := len(seen) - 1; have != len(compliance.Codes())-1 { // One is that of right reports.
		t.Errorf("%d codes", have)
	}
}

func TestSharesHold(t *testing.T) {
	const n = 40_000
	many := everything
	many.Devices = n // Half of the reports introduce a record.
	odd := many
	odd.Partial, odd.Removed, odd.Bad = .5, .05, .15 // 0.7 together: only 0.3 can introduce one.
	most := many
	most.Partial, most.Removed, most.Bad = .5, .19, .3
	for _, options := range []fleet.Options{everything, many, odd, most} {
		f := fleet.New(options)
		shares := map[string]float64{}
		values, nulls, empty := 0., 0., 0.
		for i := range uint64(n) {
			r := f.At(i)
			shares[fmt.Sprint("kind ", r.Kind)]++
			if r.Late {
				shares["late"]++
			}
			if r.Late && r.Code != compliance.FutureEventTime {
				late := start.Add(time.Duration(float64(i) * (1 + options.Duplicates) / options.Rate * float64(time.Second))).Sub(r.Time)
				if late < -options.ClockSkew || late > 2*time.Hour+options.ClockSkew {
					t.Fatalf("late by %s", late)
				}
			}
			if r.Kind != fleet.Partial {
				continue
			}
			report, _ := decode(&r, start.Add(time.Hour))
			set := 0
			for p, v := range report.Values {
				if p := compliance.Property(p); p == compliance.ID || v.Kind == compliance.Unset {
					continue
				} else if set++; p == compliance.DeviceDisplayName || p == compliance.UserName || p == compliance.DeviceModel || p == compliance.UserPrincipalName {
					values++
					if v.Kind == compliance.Null {
						nulls++
					}
				}
			}
			switch set {
			case 0:
				empty++
			case compliance.NumProperties - 1:
				t.Fatalf("a partial report sets everything: %s", r.Body)
			}
		}
		holds := func(what string, share, of, n float64) {
			t.Helper()
			// Five standard deviations of a binomial: one run in a million fails; this
			// one is always the same.
			if tolerance := 5 * math.Sqrt(share*(1-share)/n); math.Abs(of/n-share) > tolerance {
				t.Errorf("%s: %.4f, want %.4f ± %.4f", what, of/n, share, tolerance)
			}
		}
		holds("partial", options.Partial, shares[fmt.Sprint("kind ", fleet.Partial)], n)
		holds("removed", options.Removed, shares[fmt.Sprint("kind ", fleet.Removal)], n)
		holds("bad", options.Bad, shares[fmt.Sprint("kind ", fleet.Bad)], n)
		holds("late", options.Late, shares["late"], n)
		holds("nulls", options.Nulls, nulls, values)
		holds("empty", 1./16+15./16/256, empty, shares[fmt.Sprint("kind ", fleet.Partial)])

		duplicates, reordered, overtaken := 0., 0., 0
		newest := uint64(0)
		sent := take(fleet.New(options), n)
		for _, r := range sent {
			if r.Duplicate {
				duplicates++
				continue
			}
			newest = max(newest, r.Index)
			if !r.Reordered {
				if r.Index < newest {
					t.Fatalf("report %d is late without having been held back", r.Index)
				}
				continue
			}
			reordered++
			if r.Index < newest {
				overtaken++
			}
		}
		made := n - duplicates
		holds("duplicates", options.Duplicates, duplicates, made)
		holds("reorder", options.Reorder, reordered, made+1024*options.Reorder)
		if float64(overtaken) < .98*reordered {
			t.Errorf("of %.0f reports held back only %d were sent after later ones", reordered, overtaken)
		}
	}
}

func TestGracePeriodsEndBeforeAndAfterTheirReports(t *testing.T) {
	f := fleet.New(everything)
	ends := map[string]int{}
	for i := range uint64(4000) {
		r := f.At(i)
		if r.Kind != fleet.Full {
			continue
		}
		text, _ := members(t, r.Body)["complianceGracePeriodExpirationDateTime"].(string)
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			t.Fatal(err)
		}
		switch left := at.Sub(r.Time); {
		case text == "9999-12-31T23:59:59.9999999Z":
			ends["never"]++
		case -time.Hour <= left && left <= 0:
			ends["before"]++
		case 0 < left && left <= time.Minute:
			ends["within a minute"]++
		case 0 < left && left <= 6*24*time.Hour:
			ends["within days"]++
		default:
			t.Fatalf("a grace period of %s", left)
		}
	}
	for _, when := range []string{"never", "before", "within a minute", "within days"} {
		if ends[when] < 100 {
			t.Errorf("%d grace periods end %s", ends[when], when)
		}
	}
}

func TestNothingIsLostInTheQueue(t *testing.T) {
	for _, share := range []float64{.01, .5, 1} {
		f := fleet.New(fleet.Options{Devices: 10, Seed: 5, Reorder: share, Duplicates: share})
		sent := map[uint64]int{}
		made, copies := uint64(0), 0
		note := func(r fleet.Report) {
			sent[r.Index]++
			if r.Duplicate {
				copies++
			} else {
				made++
			}
			if f.Held() > 1024 {
				t.Fatalf("%d reports wait", f.Held())
			}
		}
		for range 5000 {
			note(f.Next())
		}
		for r, ok := f.Drain(); ok; r, ok = f.Drain() {
			note(r)
		}
		for i := range made {
			if n := sent[i]; n == 0 || n > 2 {
				t.Fatalf("share %g: report %d was sent %d times", share, i, n)
			}
		}
		if have := float64(copies) / float64(made); math.Abs(have-share) > .05 {
			t.Errorf("share %g: %g were duplicates", share, have)
		}
	}
}

func TestEveryDeviceIntroducesItselfInFull(t *testing.T) {
	options := everything
	options.Devices, options.Policies = 40, 5
	f := fleet.New(options)
	introduced, names := map[compliance.Key]bool{}, map[string]string{}
	for i := range 2 * f.Records() {
		r := f.At(i)
		if r.Kind != fleet.Full {
			continue
		}
		introduced[r.Key] = true
		name, _ := members(t, r.Body)["userPrincipalName"].(string)
		if owner, taken := names[name]; taken && owner != r.Key.Device {
			t.Fatalf("two devices are %s", name)
		}
		names[name] = r.Key.Device
	}
	if len(names) != 40 {
		t.Errorf("%d names of 40 devices", len(names))
	}
	t.Run("also where fewer reports are full", func(t *testing.T) {
		options.Partial, options.Removed, options.Bad = .5, .05, .15
		f, introduced := fleet.New(options), map[compliance.Key]bool{}
		for i := range f.Records()*10/3 + 1 {
			if r := f.At(i); r.Kind == fleet.Full {
				introduced[r.Key] = true
			}
		}
		if len(introduced) != 200 {
			t.Errorf("%d of 200 records", len(introduced))
		}
	})
	if len(introduced) != 200 {
		t.Errorf("%d of 200 records", len(introduced))
	}
	if key := f.Key(39, 4); !introduced[key] || !key.Valid() {
		t.Errorf("%v is none of the fleet's", key)
	}
}

// members reads a body.
func members(t *testing.T, body []byte) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(body, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestInTheWorstCaseEveryPropertyDiffersFromTheReportBefore(t *testing.T) {
	f := fleet.New(fleet.Options{Devices: 30, Policies: 4, Seed: 2, Mix: fleet.Worst})
	before := map[compliance.Key]map[string]any{}
	var size, n int
	for i := range 20 * f.Records() {
		r := f.Next()
		if r.Index != i || r.Kind != fleet.Full {
			t.Fatalf("%+v", r)
		}
		now := members(t, r.Body)
		if i >= f.Records() && before[r.Key] == nil {
			t.Fatal("a record was left out of the first round")
		}
		for p := compliance.DeviceDisplayName; p < compliance.NumProperties; p++ {
			if was := before[r.Key]; now[p.String()] == nil || was != nil && was[p.String()] == now[p.String()] {
				t.Fatalf("%s is %v as before", p, now[p.String()])
			}
		}
		before[r.Key] = now
		size, n = size+len(r.Body), n+1
	}
	if size /= n; size < 380 || size > 460 {
		t.Errorf("a body is %d bytes, not about 400", size)
	}
}

func TestASteadyFleetChangesAsItsDefinitionSays(t *testing.T) {
	f := fleet.New(fleet.Options{Devices: 200, Policies: 5, Seed: 2, Mix: fleet.Steady})
	state := map[compliance.Key]map[string]any{}
	for range f.Records() {
		r := f.At(uint64(len(state)))
		state[r.Key] = members(t, r.Body)
		if r.Kind != fleet.Full {
			t.Fatal("a first report that is not full")
		}
	}
	f.Seek(f.Records())
	const n = 40_000
	have := map[string]float64{}
	newest := map[compliance.Key]time.Time{}
	size := 0
	for range n {
		r := f.Next()
		size += len(r.Body)
		if r.Duplicate {
			have["duplicate"]++
			continue
		}
		if r.Time.Before(newest[r.Key]) {
			t.Fatal("a report is out of order")
		}
		newest[r.Key] = r.Time
		was, now := state[r.Key], members(t, r.Body)
		changed := map[string]bool{}
		for name, value := range now {
			if was[name] != value {
				changed[name] = true
			}
			was[name] = value
		}
		switch {
		case r.Kind == fleet.Partial:
			have["partial"]++
			delete(changed, "lastReportedDateTime")
			delete(changed, "status")
			if len(changed) > 0 || len(now) > 7 {
				t.Fatalf("a partial report changes more than it may: %s", r.Body)
			}
		case len(now) == 9 && len(changed) == 1 && changed["lastReportedDateTime"]:
			have["time"]++
		case len(now) == 9 && len(changed) == 2 && changed["lastReportedDateTime"] && changed["status"]:
			have["status"]++
		default:
			t.Fatalf("%v changed", changed)
		}
	}
	for what, share := range map[string]float64{"time": .95, "status": .03, "partial": .01, "duplicate": .01} {
		if tolerance := 5 * math.Sqrt(share*(1-share)/n); math.Abs(have[what]/n-share) > tolerance {
			t.Errorf("%s: %.4f, want %.2f ± %.4f", what, have[what]/n, share, tolerance)
		}
	}
	if size /= n; size < 380 || size > 440 {
		t.Errorf("a body is %d bytes, not about 400", size)
	}
}

func TestMemoryDoesNotGrowWithTheFleet(t *testing.T) {
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for _, mix := range fleet.Mixes() {
		n := 100_000
		options := fleet.Options{Devices: 10_000_000, Policies: 5, Mix: mix}
		if mix == fleet.Default {
			options.Partial, options.Bad, options.Duplicates, options.Reorder, options.Late = .1, .001, .1, .2, .1
			if !testing.Short() {
				n = 1_000_000
			}
		}
		before := heap()
		f := fleet.New(options)
		var last fleet.Report
		for range n {
			last = f.Next()
		}
		after := heap()
		// The queue is 1,024 places of reports with bodies and ids, under 1 KiB each.
		if grown := int64(after) - int64(before); grown > 2<<20 {
			t.Errorf("%s: the heap grew by %d bytes", mix, grown)
		} else {
			t.Logf("%s: the heap grew by %d bytes over %d reports", mix, grown, n)
		}
		runtime.KeepAlive(f)
		runtime.KeepAlive(last)
	}
}

var flagFirst = regexp.MustCompile(`^(devices|policies|rate|partial|nulls|removed|bad|duplicates|reorder|late|clock-skew|start|mix)\b`)

func TestOptionsThatMakeNoSenseAreRefused(t *testing.T) {
	for want, options := range map[string]fleet.Options{
		"devices":    {Devices: -1},
		"policies":   {Policies: fleet.MaxPolicies + 1},
		"rate":       {Rate: math.NaN()},
		"slow":       {Rate: .0001},
		"fast":       {Rate: 1e6},
		"bad":        {Bad: 1.1},
		"nan":        {Late: math.NaN()},
		"sum":        {Bad: .5, Partial: .5, Removed: .1},
		"no full":    {Bad: .5, Partial: .5},
		"clock-skew": {ClockSkew: 6 * time.Minute},
		"start":      {Start: time.Date(1, 1, 1, 0, 0, 1, 0, time.UTC)},
		"mix":        {Mix: "other"},
		"mix shares": {Mix: fleet.Worst, Partial: .1},
		"mix clocks": {Mix: fleet.Steady, ClockSkew: time.Second},
	} {
		if err := options.Validate(); err == nil {
			t.Errorf("%s: %+v is taken", want, options)
		} else if !flagFirst.MatchString(err.Error()) {
			t.Errorf("%s: %q does not begin with a flag", want, err)
		}
	}
	if err := everything.Validate(); err != nil {
		t.Error(err)
	}
	if err := (fleet.Options{}).Validate(); err != nil {
		t.Error(err)
	}
}

func BenchmarkNext(b *testing.B) {
	for _, mix := range fleet.Mixes() {
		b.Run(string(mix), func(b *testing.B) {
			options := fleet.Options{Devices: 100_000, Policies: 5, Mix: mix}
			if mix == fleet.Default {
				options.Partial, options.Nulls, options.Duplicates, options.Reorder, options.Late, options.Bad = .1, .1, .02, .05, .01, .01
			}
			f := fleet.New(options)
			b.ReportAllocs()
			bytes := 0
			for b.Loop() {
				r := f.Next()
				bytes += len(r.Body)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "reports/s")
			b.ReportMetric(float64(bytes)/float64(b.N), "body-B/report")
		})
	}
}
