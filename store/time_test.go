package store_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/store"
)

var full = flag.Bool("full", false, "run at full length")

// No report arrives while the clock goes on.
func TestGracePeriodsEndByThemselvesEachInItsMillisecond(t *testing.T) {
	s := startServer(t)
	r := s.open(t, store.Options{})
	random := rand.New(rand.NewPCG(1, 1))
	// They end around midnight, so that some days end with them.
	from := began.Truncate(24 * time.Hour).Add(24*time.Hour - 30*time.Second)
	var ends []time.Time
	var reports []*compliance.Report
	for i := range 1000 {
		end := from.Add(time.Duration(random.Int64N(int64(time.Minute))))
		ends = append(ends, end)
		reports = append(reports, report(t, uint64(i+1), compliance.Key{Policy: fmt.Sprint("p", i%7), Device: device.Device},
			fmt.Sprintf(`{"status":"nonCompliant","complianceGracePeriodExpirationDateTime":%q}`, end.Format(time.RFC3339Nano))))
		// Each its own device of the bucket, so that all thousand stand beside each other.
		reports[i].Key.Device = fmt.Sprint(device.Device, "-", i)
	}
	apply(t, r, compliance.Floor{}, floor(1000, "a"), reports...)
	for now := from; !now.After(from.Add(time.Minute)); now = now.Add(time.Second + 1) {
		want, have := 0, 0
		for _, end := range ends {
			if end.After(now.Truncate(time.Millisecond)) {
				want++
			}
		}
		totals, err := r.Totals(t.Context(), now, 30)
		if err != nil {
			t.Fatal(err)
		}
		for _, of := range totals.Policies {
			have += of.InGrace
		}
		if have != want {
			t.Errorf("at %v: %d are in grace, not %d", now, have, want)
		}
	}
}

func TestTheNumbersEqualARecountAfterManyReports(t *testing.T) {
	s := startServer(t)
	n := 20_000
	if *full {
		n = 500_000
	}
	// Ten reports a record, and tombstones that expire and some that do not.
	devices, keep := n/50, time.Duration(n/50)*time.Second
	r, m := s.open(t, store.Options{Tombstones: keep}), store.NewMemory(keep)
	random := rand.New(rand.NewPCG(2, 2))
	statuses := compliance.Statuses()
	at, perBatch := compliance.Floor{}, 500
	for first := 0; first < n; first += perBatch {
		var reports []*compliance.Report
		for i := first; i < first+perBatch; i++ {
			body := fmt.Sprintf(`{"status":%q}`, statuses[random.IntN(len(statuses))])
			when := began.Add(-time.Duration(random.Int64N(int64(200 * 24 * time.Hour))))
			switch random.IntN(20) {
			case 0:
				body = `{"@removed":{}}`
			case 1, 2, 3:
				body = fmt.Sprintf(`{"complianceGracePeriodExpirationDateTime":%q}`, when.AddDate(0, 0, random.IntN(9)).Format(time.RFC3339))
			case 4:
				body = `{}`
			}
			key := compliance.Key{Policy: fmt.Sprint("p", random.IntN(5)), Device: fmt.Sprint("d", random.IntN(devices))}
			reports = append(reports, report(t, uint64(i+1), key, body, "ce-time", when.Format(time.RFC3339Nano), "ce-id", fmt.Sprint(i)))
		}
		to := floor(uint64(first+perBatch), fmt.Sprint("w", first))
		if diff := cmp.Diff(apply(t, m, at, to, reports...), apply(t, r, at, to, reports...)); diff != "" {
			t.Fatalf("outcomes (-memory +redis):\n%s", diff)
		}
		at = to
	}
	want := m.Derived(0)
	for _, name := range []string{"counts", "worst", "days", "gracedays", "grace", "attention", "devices", "rollup", "tombs"} {
		if want["cs:{00}:|"+name] == nil {
			t.Errorf("there is no %s: the reports show nothing", name)
		}
	}
	have := s.dump(t)
	delete(have, "cs:{00}:|floor")
	delete(have, "cs:{00}:|seal")
	for key, hash := range m.Dump() {
		want[key] = hash
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("after %d reports (-recount +redis):\n%s", n, diff)
	}
	wantDays(t, r, have, at.Stored)
	tombstones, _ := have["cs:{00}:|tombs"].(map[string]float64)
	t.Logf("%d reports left %d keys and %d tombstones", n, len(have), len(tombstones))
}

// wantDays holds the histogram of days, and how many records are stale as the clock goes
// on, against the records as they are stored.
func wantDays(t *testing.T, r *store.Redis, dump map[string]any, now time.Time) {
	t.Helper()
	days := map[string]map[compliance.Day]int{}
	for key, hash := range dump {
		record, is := hash.(map[string]string)
		if head := record["v"]; is && !strings.Contains(key, "|") && head[0] != 't' {
			policy, _, _ := strings.Cut(key[len("cs:{00}:"):], ":")
			ticks := ticksOfHead(head)
			if days[policy] == nil {
				days[policy] = map[compliance.Day]int{}
			}
			days[policy][compliance.Day(ticks/oneDay)]++
		}
	}
	have, err := r.Days(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(days, have); diff != "" {
		t.Errorf("days (-recount +redis):\n%s", diff)
	}
	stale := map[int]bool{}
	for later := range 150 {
		now := now.AddDate(0, 0, later)
		for _, validity := range []int{1, 30, 120} {
			totals, err := r.Totals(t.Context(), now, validity)
			if err != nil {
				t.Fatal(err)
			}
			for policy, of := range days {
				want := 0
				for day, n := range of {
					if age := int(now.Sub(day.Start()).Hours()) / 24; age > validity {
						want += n
					}
				}
				if have := totals.Policies[policy].Stale; have != want {
					t.Fatalf("%d days later, of %s with a validity of %d days: %d are stale, not %d", later, policy, validity, have, want)
				}
				stale[want] = true
			}
		}
	}
	if len(stale) < 100 {
		t.Errorf("only %d numbers of stale records were seen", len(stale))
	}
}
