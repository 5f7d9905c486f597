package metrics_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/metrics"
)

func setupPipeline(t *testing.T) (*metrics.Pipeline, *prometheus.Registry) {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	return metrics.NewPipeline(registry, "v1.2.3"), registry
}

// moved returns by how much each series moved during do, and which ones are new.
func moved(t *testing.T, from prometheus.Gatherer, do func()) map[string]float64 {
	t.Helper()
	before := series(t, from)
	do()
	diff := map[string]float64{}
	for name, value := range series(t, from) {
		if was, ok := before[name]; !ok || was != value {
			diff[name] = value - was
		}
	}
	return diff
}

func wantMoved(t *testing.T, from prometheus.Gatherer, want map[string]float64, do func()) {
	t.Helper()
	if diff := cmp.Diff(want, moved(t, from, do)); diff != "" {
		t.Errorf("what moved (-want +got):\n%s", diff)
	}
}

func TestEverySeriesOfThePipelineIsThereFromTheStart(t *testing.T) {
	_, registry := setupPipeline(t)
	golden(t, "pipeline.golden", registry)
	for name, value := range series(t, registry) {
		if value != 0 && !strings.HasPrefix(name, "compliance_build_info{") {
			t.Errorf("%s starts at %g", name, value)
		}
	}
	lint(t, registry)
}

func TestEachOutcomeIsCounted(t *testing.T) {
	p, registry := setupPipeline(t)
	for _, outcome := range compliance.Outcomes() {
		t.Run(string(outcome), func(t *testing.T) {
			diff := moved(t, registry, func() {
				if outcome == compliance.Rejected {
					p.ObserveRejected(compliance.TooLarge)
				} else {
					p.ObserveEffect(compliance.Effect{Outcome: outcome}, time.Second)
				}
			})
			want := map[string]float64{fmt.Sprintf("compliance_reports_total{outcome=%q}", outcome): 1}
			if d := cmp.Diff(want, named(diff, "compliance_reports_total")); d != "" {
				t.Errorf("what moved (-want +got):\n%s", d)
			}
		})
	}
}

func TestEachCodeIsCountedTogetherWithTheOutcome(t *testing.T) {
	p, registry := setupPipeline(t)
	for _, code := range compliance.Codes() {
		t.Run(string(code), func(t *testing.T) {
			wantMoved(t, registry, map[string]float64{
				fmt.Sprintf("compliance_reports_rejected_total{code=%q}", code): 1,
				`compliance_reports_total{outcome="rejected"}`:                  1,
			}, func() { p.ObserveRejected(code) })
		})
	}
}

func TestEachCauseOfARewindIsCounted(t *testing.T) {
	p, registry := setupPipeline(t)
	want := []string{"store_behind", "store_empty", "stream_recreated", "stream_rolled_back", "owner_changed"}
	if diff := cmp.Diff(want, metrics.Causes()); diff != "" {
		t.Errorf("the causes (-want +got):\n%s", diff)
	}
	for _, cause := range want {
		t.Run(cause, func(t *testing.T) {
			wantMoved(t, registry, map[string]float64{fmt.Sprintf("compliance_rewinds_total{cause=%q}", cause): 1},
				func() { p.ObserveRewind(cause) })
		})
	}
}

func TestEachTransitionIsCountedOnce(t *testing.T) {
	p, registry := setupPipeline(t)
	standings := map[string]compliance.Standing{"none": {}}
	for _, status := range compliance.Statuses() {
		standings[status.String()] = compliance.Standing{Exists: true, Status: status}
	}
	for from, before := range standings {
		for to, after := range standings {
			t.Run(from+" to "+to, func(t *testing.T) {
				want := map[string]float64{`compliance_reports_total{outcome="unchanged"}`: 1}
				if from != to {
					want[fmt.Sprintf("compliance_transitions_total{from=%q,to=%q}", from, to)] = 1
				}
				wantMoved(t, registry, want, func() {
					p.ObserveEffect(compliance.Effect{Outcome: compliance.Unchanged, Before: before, After: after}, 0)
				})
			})
		}
	}
	if n, want := len(named(series(t, registry), "compliance_transitions_total")), 9*8; n != want {
		t.Errorf("there are %d transitions, want %d", n, want)
	}
}

func TestALabelValueOutsideItsSetStopsNothing(t *testing.T) {
	p, registry := setupPipeline(t)
	wantMoved(t, registry, map[string]float64{
		`compliance_reports_total{outcome="new"}`:                     1,
		`compliance_reports_total{outcome="rejected"}`:                1,
		`compliance_reports_rejected_total{code="new"}`:               1,
		`compliance_rewinds_total{cause="new"}`:                       1,
		`compliance_transitions_total{from="compliant",to="unknown"}`: 1,
	}, func() {
		p.ObserveEffect(compliance.Effect{
			Outcome: "new",
			Before:  compliance.Standing{Exists: true, Status: compliance.StatusCompliant},
			After:   compliance.Standing{Exists: true, Status: compliance.NumStatuses},
		}, 0)
		p.ObserveRejected("new")
		p.ObserveRewind("new")
	})
}

func TestOnlyTheLatencyOfAppliedReportsCounts(t *testing.T) {
	p, registry := setupPipeline(t)
	latency := func(outcome compliance.Outcome, d time.Duration) map[string]float64 {
		return named(moved(t, registry, func() {
			p.ObserveEffect(compliance.Effect{Outcome: outcome}, d)
		}), "compliance_report_latency_seconds_")
	}
	for _, outcome := range []compliance.Outcome{compliance.Unchanged, compliance.Stale} {
		if got := latency(outcome, time.Second); len(got) > 0 {
			t.Errorf("a report that is %s moved %v", outcome, got)
		}
	}
	tests := []struct {
		name    string
		latency time.Duration
		sum     float64
		buckets int
	}{
		{"a quarter of a second", 250 * time.Millisecond, .25, 10},
		{"two days are beyond the last bucket", 48 * time.Hour, 172800, 1},
		{"a store time in the future counts as now", -time.Hour, 0, 17},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := latency(compliance.Applied, test.latency)
			if n := len(named(got, "compliance_report_latency_seconds_bucket")); n != test.buckets {
				t.Errorf("%d buckets moved, want %d: %v", n, test.buckets, got)
			}
			if got["compliance_report_latency_seconds_count"] != 1 || got["compliance_report_latency_seconds_sum"] != test.sum {
				t.Errorf("what moved: %v", got)
			}
		})
	}
}

func TestTheLatencyIsANativeHistogramToo(t *testing.T) {
	p, registry := setupPipeline(t)
	p.ObserveEffect(compliance.Effect{Outcome: compliance.Applied}, 10*time.Millisecond)
	p.ObserveEffect(compliance.Effect{Outcome: compliance.Applied}, 20*time.Millisecond)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != "compliance_report_latency_seconds" {
			continue
		}
		h := family.GetMetric()[0].GetHistogram()
		if len(h.GetBucket()) == 0 {
			t.Error("there are no classic buckets")
		}
		if h.Schema == nil || len(h.GetPositiveDelta()) != 2 {
			t.Errorf("10 ms and 20 ms are not two native buckets: %v", h)
		}
		return
	}
	t.Error("there is no histogram of the latency")
}

func TestABatchCountsItsReportsAndItsTime(t *testing.T) {
	p, registry := setupPipeline(t)
	got := moved(t, registry, func() { p.ObserveBatch(8000, 2*time.Second) })
	for name, want := range map[string]float64{
		"compliance_batch_reports_sum":                         8000,
		"compliance_batch_reports_count":                       1,
		`compliance_batch_reports_bucket{le="4000"}`:           0,
		`compliance_batch_reports_bucket{le="8000"}`:           1,
		"compliance_merge_duration_seconds_sum":                2,
		"compliance_merge_duration_seconds_count":              1,
		`compliance_merge_duration_seconds_bucket{le="1.024"}`: 0,
		`compliance_merge_duration_seconds_bucket{le="2.048"}`: 1,
	} {
		if got[name] != want {
			t.Errorf("%s moved by %g, want %g", name, got[name], want)
		}
	}
	for name := range got {
		if !strings.HasPrefix(name, "compliance_batch_reports") && !strings.HasPrefix(name, "compliance_merge_duration") {
			t.Errorf("a batch moved %s", name)
		}
	}
}

func TestConnectionsComeAndGo(t *testing.T) {
	p, registry := setupPipeline(t)
	for name, connected := range map[string]func(bool){
		"compliance_nats_connected":  p.SetNATSConnected,
		"compliance_redis_connected": p.SetRedisConnected,
	} {
		wantMoved(t, registry, map[string]float64{name: 1}, func() { connected(true) })
		wantMoved(t, registry, map[string]float64{name: -1}, func() { connected(false) })
	}
}

func TestManyMayObserveAtOnce(t *testing.T) {
	p, registry := setupPipeline(t)
	var observers sync.WaitGroup
	for range 8 {
		observers.Go(func() {
			for range 100 {
				p.ObserveEffect(compliance.Effect{Outcome: compliance.Applied, After: compliance.Standing{Exists: true}}, time.Second)
				p.ObserveRejected(compliance.TooLarge)
				p.ObserveRewind("new")
				p.ObserveBatch(2, time.Second)
				p.SetNATSConnected(true)
			}
		})
	}
	series(t, registry)
	observers.Wait()
	got := series(t, registry)
	for _, name := range []string{
		`compliance_reports_total{outcome="applied"}`, `compliance_transitions_total{from="none",to="unknown"}`,
		`compliance_reports_rejected_total{code="tooLarge"}`, `compliance_rewinds_total{cause="new"}`,
		"compliance_report_latency_seconds_count", "compliance_batch_reports_count",
	} {
		if got[name] != 800 {
			t.Errorf("%s is %g, want 800", name, got[name])
		}
	}
}

func TestObservingAnEffectAllocatesNothing(t *testing.T) {
	p, _ := setupPipeline(t)
	effect := compliance.Effect{Outcome: compliance.Applied, After: compliance.Standing{Exists: true}}
	if n := testing.AllocsPerRun(1000, func() { p.ObserveEffect(effect, 5*time.Millisecond) }); n > 0 {
		t.Errorf("observing an effect allocates %g times", n)
	}
}

func BenchmarkObserveEffect(b *testing.B) {
	p := metrics.NewPipeline(prometheus.NewRegistry(), "v1.2.3")
	effect := compliance.Effect{
		Outcome: compliance.Applied,
		Before:  compliance.Standing{Exists: true, Status: compliance.StatusUnknown},
		After:   compliance.Standing{Exists: true, Status: compliance.StatusCompliant},
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		p.ObserveEffect(effect, time.Duration(1+i%1024)*100*time.Microsecond)
	}
}
