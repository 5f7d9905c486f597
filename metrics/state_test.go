package metrics_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/metrics"
)

type byStatus = [compliance.NumStatuses]int

// statuses are policies of which nothing else is of interest.
func statuses(of map[string]byStatus) map[string]metrics.Policy {
	policies := map[string]metrics.Policy{}
	for name, counts := range of {
		policies[name] = metrics.Policy{Statuses: counts}
	}
	return policies
}

// setupState returns a registry that holds a collector of the state and nothing
// else. Being pedantic, it refuses what was not described.
func setupState(t *testing.T, read func(context.Context) (metrics.Snapshot, error), options metrics.StateOptions) *prometheus.Registry {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(metrics.NewState(read, options)); err != nil {
		t.Fatal(err)
	}
	return registry
}

// always returns a read that comes back with a snapshot at once.
func always(snapshot metrics.Snapshot) func(context.Context) (metrics.Snapshot, error) {
	return func(context.Context) (metrics.Snapshot, error) { return snapshot, nil }
}

// pause waits on the clock of a synctest bubble.
func pause(d time.Duration) { <-time.NewTimer(d).C }

// collected returns all series of a snapshot but the time it took, and those of
// devices, grace and staleness, which TestTheWholeState is about.
func collected(t *testing.T, snapshot metrics.Snapshot, options metrics.StateOptions) map[string]float64 {
	t.Helper()
	got := series(t, setupState(t, always(snapshot), options))
	delete(got, "compliance_state_collect_duration_seconds")
	for _, other := range []string{"compliance_devices{", "compliance_policy_devices_in_grace{", "compliance_policy_devices_stale{"} {
		for name := range named(got, other) {
			delete(got, name)
		}
	}
	return got
}

func TestTheWholeState(t *testing.T) {
	letters, drift := uint64(12), 3
	registry := setupState(t, always(metrics.Snapshot{
		Policies: map[string]metrics.Policy{
			"largest":  {Statuses: byStatus{1, 2, 3, 4, 5, 6, 7, 800}, InGrace: 5, Stale: 20},
			"tie-b":    {Statuses: byStatus{0, 0, 10, 0, 0, 0, 0, 0}},
			"tie-a":    {Statuses: byStatus{0, 0, 0, 0, 10, 0, 0, 0}, InGrace: 1},
			"tie-c":    {Statuses: byStatus{0, 10, 0, 0, 0, 0, 0, 0}, Stale: 4},
			"smallest": {Statuses: byStatus{0, 0, 0, 0, 0, 1, 0, 0}, Stale: 1},
		},
		Devices: byStatus{8, 7, 6, 5, 4, 3, 2, 1},
		Drift:   &drift, Verified: time.Unix(1_800_000_000, 0),
		Partitions: []metrics.Partition{
			{Number: 0, Lag: &metrics.Lag{Messages: 5, Age: 1500 * time.Millisecond}, GapReports: 7},
			{Number: 1, Lag: &metrics.Lag{}},
			{Number: 2, GapReports: 3},
		},
		DeadLetters: &letters,
	}), metrics.StateOptions{MaxPolicies: 3, PolicyNames: map[string]string{
		"largest":  `Disks are "encrypted"`,
		"smallest": "back\\slash and\nline",
		"unseen":   "Über",
	}})
	golden(t, "state.golden", registry)
	lint(t, registry)
}

func TestEachStatusHasItsOwnSeries(t *testing.T) {
	for _, status := range compliance.Statuses() {
		t.Run(status.String(), func(t *testing.T) {
			var counts byStatus
			counts[status] = 9
			got := named(collected(t, metrics.Snapshot{Policies: statuses(map[string]byStatus{"p": counts})}, metrics.StateOptions{}), "compliance_policy_devices{")
			if len(got) != compliance.NumStatuses {
				t.Errorf("there are %d series, want one for each status: %v", len(got), got)
			}
			maps.DeleteFunc(got, func(_ string, n float64) bool { return n == 0 })
			want := map[string]float64{fmt.Sprintf(`compliance_policy_devices{policy="p",status=%q}`, status): 9}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("other than 0 (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAReadThatFailsShowsNoState(t *testing.T) {
	letters := uint64(1)
	registry := setupState(t, func(context.Context) (metrics.Snapshot, error) {
		return metrics.Snapshot{
			Policies: statuses(map[string]byStatus{"p": {1}}), Partitions: []metrics.Partition{{Lag: &metrics.Lag{}}}, DeadLetters: &letters,
		}, errors.New("no connection")
	}, metrics.StateOptions{PolicyNames: map[string]string{"p": "P"}})
	got := series(t, registry)
	if took, ok := got["compliance_state_collect_duration_seconds"]; !ok || took < 0 {
		t.Errorf("the time of the read is %g, %t", took, ok)
	}
	delete(got, "compliance_state_collect_duration_seconds")
	if diff := cmp.Diff(map[string]float64{"compliance_state_up": 0}, got); diff != "" {
		t.Errorf("the series (-want +got):\n%s", diff)
	}
	lint(t, registry)
}

func TestWhatCouldNotBeReadIsNotShown(t *testing.T) {
	got := collected(t, metrics.Snapshot{
		Partitions: []metrics.Partition{{Number: 0, GapReports: 2}, {Number: 3, Lag: &metrics.Lag{Messages: 1, Age: time.Minute}}},
	}, metrics.StateOptions{})
	want := map[string]float64{
		"compliance_state_up":                           1,
		"compliance_policies":                           0,
		"compliance_policy_series_dropped":              0,
		`compliance_stream_gap_reports{partition="0"}`:  2,
		`compliance_stream_gap_reports{partition="3"}`:  0,
		`compliance_stream_lag_messages{partition="3"}`: 1,
		`compliance_stream_lag_seconds{partition="3"}`:  60,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the series (-want +got):\n%s", diff)
	}
}

func TestWithoutDeadLettersThereIsAZero(t *testing.T) {
	none := uint64(0)
	got := collected(t, metrics.Snapshot{DeadLetters: &none}, metrics.StateOptions{})
	if n, ok := got["compliance_dead_letters"]; !ok || n != 0 {
		t.Errorf("dead letters are %g, %t; want a 0", n, ok)
	}
}

func TestMorePoliciesThanLabels(t *testing.T) {
	policies := map[string]byStatus{
		"c": {0, 0, 5}, "a": {0, 0, 0, 0, 5}, "b": {2, 0, 3}, "small": {1, 1}, "large": {0, 0, 0, 0, 0, 0, 0, 6},
	}
	tests := []struct {
		name    string
		max     int
		shown   []string
		dropped float64
		other   float64
	}{
		{"the largest one alone", 1, []string{"large"}, 4, 17},
		{"of a tie the lower ids", 3, []string{"large", "a", "b"}, 2, 7},
		{"all but one", 4, []string{"large", "a", "b", "c"}, 1, 2},
		{"exactly as many", 5, []string{"large", "a", "b", "c", "small"}, 0, 0},
		{"room for more", 6, []string{"large", "a", "b", "c", "small"}, 0, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := collected(t, metrics.Snapshot{Policies: statuses(policies)}, metrics.StateOptions{MaxPolicies: test.max})
			want := map[string]float64{
				"compliance_state_up": 1, "compliance_policies": 5, "compliance_policy_series_dropped": test.dropped,
			}
			for _, policy := range test.shown {
				addPolicy(want, policy, policies[policy])
			}
			if test.dropped > 0 {
				var sum byStatus
				for policy, counts := range policies {
					if _, ok := want[devicesSeries(policy, 0)]; !ok {
						for status, n := range counts {
							sum[status] += n
						}
					}
				}
				addPolicy(want, metrics.OtherPolicy, sum)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("the series (-want +got):\n%s", diff)
			}
			if n := total(got, metrics.OtherPolicy); n != test.other {
				t.Errorf("%g devices are summed, want %g", n, test.other)
			}
		})
	}
}

func devicesSeries(policy string, status compliance.Status) string {
	return fmt.Sprintf("compliance_policy_devices{policy=%q,status=%q}", policy, status)
}

func addPolicy(to map[string]float64, policy string, counts byStatus) {
	for status, n := range counts {
		to[devicesSeries(policy, compliance.Status(status))] = float64(n)
	}
}

func total(of map[string]float64, policy string) float64 {
	var n float64
	for _, status := range compliance.Statuses() {
		n += of[devicesSeries(policy, status)]
	}
	return n
}

func TestUnlessToldOtherwiseTwoThousandPoliciesAreLabels(t *testing.T) {
	policies := map[string]byStatus{}
	for i := range 2001 {
		policies[fmt.Sprintf("policy-%04d", i)] = byStatus{1}
	}
	got := collected(t, metrics.Snapshot{Policies: statuses(policies)}, metrics.StateOptions{})
	if got["compliance_policies"] != 2001 || got["compliance_policy_series_dropped"] != 1 {
		t.Errorf("%g policies, %g of them summed; want 2001 and 1", got["compliance_policies"], got["compliance_policy_series_dropped"])
	}
	if n := len(named(got, "compliance_policy_devices")); n != 2001*compliance.NumStatuses {
		t.Errorf("%d series, want those of 2000 policies and of the rest", n)
	}
	if _, ok := got[devicesSeries("policy-2000", 0)]; ok || got[devicesSeries(metrics.OtherPolicy, 0)] != 1 {
		t.Error("of equal policies the highest id is not the one that is summed")
	}
}

// __other__ is a right policy id: without care an agent could break every scrape
// with it.
func TestAPolicyNamedLikeTheSumIsSummed(t *testing.T) {
	tests := []struct {
		name            string
		max             int
		dropped, summed float64
	}{
		{"with nothing else to sum", 2, 1, 100},
		{"with others to sum", 1, 2, 101},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := collected(t, metrics.Snapshot{Policies: statuses(map[string]byStatus{
				metrics.OtherPolicy: {100}, "a": {2}, "b": {1},
			})}, metrics.StateOptions{MaxPolicies: test.max})
			if n := got[devicesSeries(metrics.OtherPolicy, 0)]; n != test.summed {
				t.Errorf("%g devices are summed, want %g", n, test.summed)
			}
			if got["compliance_policy_series_dropped"] != test.dropped || got["compliance_policies"] != 3 {
				t.Errorf("the series are %v", got)
			}
			if _, ok := got[devicesSeries("a", 0)]; !ok {
				t.Error("the policy named like the sum took the place of another")
			}
		})
	}
}

func TestWhatIsNotUTF8DoesNotBreakAScrape(t *testing.T) {
	names := map[string]string{"a": "A", "b": "\xff", "\xff": "C"}
	got := collected(t, metrics.Snapshot{Policies: statuses(map[string]byStatus{"a": {2}, "\xff": {1}})}, metrics.StateOptions{PolicyNames: names})
	if got[devicesSeries("a", 0)] != 2 || got[devicesSeries(metrics.OtherPolicy, 0)] != 1 {
		t.Errorf("the series are %v", got)
	}
	want := map[string]float64{`compliance_policy_info{name="A",policy="a"}`: 1}
	if diff := cmp.Diff(want, named(got, "compliance_policy_info")); diff != "" {
		t.Errorf("the names (-want +got):\n%s", diff)
	}
	if len(names) != 3 {
		t.Error("the caller's names were changed")
	}
}

func TestAReadThatHangsEndsWithTheTimeout(t *testing.T) {
	for _, timeout := range []time.Duration{0, time.Second} {
		t.Run(fmt.Sprintf("a timeout of %v", timeout), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				registry := setupState(t, func(ctx context.Context) (metrics.Snapshot, error) {
					<-ctx.Done()
					return metrics.Snapshot{}, ctx.Err()
				}, metrics.StateOptions{Timeout: timeout})
				want := map[string]float64{"compliance_state_up": 0, "compliance_state_collect_duration_seconds": 5}
				if timeout > 0 {
					want["compliance_state_collect_duration_seconds"] = timeout.Seconds()
				}
				if diff := cmp.Diff(want, series(t, registry)); diff != "" {
					t.Errorf("the series (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func TestAReadThatIgnoresItsContextHoldsUpNoScrape(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reads atomic.Int32
		release := make(chan struct{})
		registry := setupState(t, func(context.Context) (metrics.Snapshot, error) {
			reads.Add(1)
			<-release
			return metrics.Snapshot{}, nil
		}, metrics.StateOptions{})
		for _, took := range []float64{5, 15} {
			want := map[string]float64{"compliance_state_up": 0, "compliance_state_collect_duration_seconds": took}
			if diff := cmp.Diff(want, series(t, registry)); diff != "" {
				t.Errorf("the series (-want +got):\n%s", diff)
			}
			pause(10 * time.Second)
		}
		if n := reads.Load(); n != 1 {
			t.Errorf("%d reads are under way, want one", n)
		}
		close(release)
		synctest.Wait()
		if series(t, registry)["compliance_state_up"] != 1 || reads.Load() != 2 {
			t.Errorf("once the read is back, the next scrape does not read again (%d reads)", reads.Load())
		}
	})
}

func TestScrapesAtTheSameTimeShareOneRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reads atomic.Int32
		registry := setupState(t, func(context.Context) (metrics.Snapshot, error) {
			n := reads.Add(1)
			pause(time.Second)
			return metrics.Snapshot{Policies: statuses(map[string]byStatus{"p": {int(n)}})}, nil
		}, metrics.StateOptions{})
		for round := 1; round <= 2; round++ {
			var scrapes sync.WaitGroup
			for range 10 {
				scrapes.Go(func() {
					got := series(t, registry)
					if got["compliance_state_collect_duration_seconds"] != 1 {
						t.Errorf("round %d: the read took %g s, want 1", round, got["compliance_state_collect_duration_seconds"])
					}
					if got["compliance_state_up"] != 1 || got[devicesSeries("p", 0)] != float64(round) {
						t.Errorf("round %d: %v", round, got)
					}
				})
			}
			scrapes.Wait()
			if n := int(reads.Load()); n != round {
				t.Errorf("after round %d there were %d reads", round, n)
			}
		}
	})
}

func BenchmarkCollect(b *testing.B) {
	policies := map[string]byStatus{}
	for i := range 5000 {
		policies[fmt.Sprintf("%08x-0000-4000-8000-000000000000", i)] = byStatus{i % 97, 0, i, 1, i % 31, 0, 2, 0}
	}
	state := metrics.NewState(always(metrics.Snapshot{Policies: statuses(policies)}), metrics.StateOptions{})
	b.Run("collect", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			out := make(chan prometheus.Metric, 1000)
			go func() {
				defer close(out)
				state.Collect(out)
			}()
			n := 0
			for range out {
				n++
			}
			if want := 2001*compliance.NumStatuses + 4; n != want {
				b.Fatalf("collected %d series, want %d", n, want)
			}
		}
	})
	b.Run("gather", func(b *testing.B) {
		registry := prometheus.NewRegistry()
		if err := registry.Register(state); err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			if _, err := registry.Gather(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
