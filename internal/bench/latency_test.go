package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/metrics"
)

// observed are observations made one after the other by the worker's own metrics.
type observed struct {
	*testing.T
	registry *prometheus.Registry
	pipeline *metrics.Pipeline
}

func observe(t *testing.T) *observed {
	t.Helper()
	registry := prometheus.NewRegistry()
	return &observed{t, registry, metrics.NewPipeline(registry, "test")}
}

// scrape observes latencies in seconds and returns the histogram.
func (o *observed) scrape(latencies ...float64) *dto.Histogram {
	o.Helper()
	for _, latency := range latencies {
		o.pipeline.ObserveEffect(compliance.Effect{Outcome: compliance.Applied}, time.Duration(latency*float64(time.Second)))
	}
	families, err := o.registry.Gather()
	if err != nil {
		o.Fatal(err)
	}
	all := scraped{}
	for _, family := range families {
		all[family.GetName()] = family
	}
	return all.histogram(latencyName)
}

// spread are latencies from 0.1 ms to 1 s, of which there are as many in each tenth
// of an order of magnitude.
func spread(random *rand.Rand, n int) []float64 {
	all := make([]float64, n)
	for i := range all {
		all[i] = math.Pow(10, -4+4*random.Float64())
	}
	return all
}

func TestQuantilesAreWithinOneBucketOfWhatWasObserved(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for name, test := range map[string]struct{ before, during []float64 }{
		"one":                     {nil, []float64{.0042}},
		"two that lie far apart":  {nil, []float64{.0001, 90}},
		"many":                    {nil, spread(random, 10_000)},
		"after others":            {spread(random, 5000), spread(random, 10_000)},
		"where none were before":  {[]float64{.5, .6, .7}, []float64{.001, .002, .003, 5}},
		"of a clock that is back": {nil, []float64{-1, -1, -1, .002}},
	} {
		t.Run(name, func(t *testing.T) {
			o := observe(t)
			h, err := between(o.scrape(test.before...), o.scrape(test.during...))
			if err != nil {
				t.Fatal(err)
			}
			if h.total() != uint64(len(test.during)) {
				t.Errorf("%d observations, want %d", h.total(), len(test.during))
			}
			if h.base <= 1 || h.base > 1.1 {
				t.Errorf("one bucket ends at %g times the end of the one before", h.base)
			}
			sorted := slices.Sorted(slices.Values(test.during))
			for _, q := range []float64{0, .25, .5, .9, .99, .999, 1} {
				exact := max(0, sorted[max(1, int(math.Ceil(q*float64(len(sorted)))))-1])
				if got := h.quantile(q); exact > got*(1+1e-9) || got/h.base > exact*(1+1e-9) {
					t.Errorf("quantile %g is %g, not in the bucket of %g", q, got, exact)
				}
			}
		})
	}
}

func TestScrapesThatDoNotFitAreNoFigures(t *testing.T) {
	o := observe(t)
	before := o.scrape(.001)
	// So many orders of magnitude that the histogram makes its buckets wider.
	var wide []float64
	for x := 1e-9; x < 1e9; x *= 1.05 {
		wide = append(wide, x)
	}
	if _, err := between(before, o.scrape(wide...)); err == nil {
		t.Error("another resolution is taken")
	}
	for _, h := range []*dto.Histogram{nil, {}} {
		if _, err := between(h, before); err == nil {
			t.Error("no native histogram is taken")
		}
		if _, err := between(before, h); err == nil {
			t.Error("no native histogram is taken")
		}
	}
	if got := (histogram{base: 1.1}).quantile(.5); !math.IsInf(got, 1) {
		t.Errorf("the median of nothing is %g", got)
	}
}

func TestQuantilesOfDurationsAreExact(t *testing.T) {
	var all []time.Duration
	for i := range 1000 {
		all = append(all, time.Duration(1000-i)*time.Millisecond)
	}
	if got, want := quantilesOf(all), (Quantiles{.5, .99, .999, 1}); got != want {
		t.Errorf("%v, want %v", got, want)
	}
	if got, want := quantilesOf([]time.Duration{time.Second}), (Quantiles{1, 1, 1, 1}); got != want {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestARateThatWasNotKeptIsWrong(t *testing.T) {
	s := Settings{Rate: 5000, RateKept: .98}
	for _, test := range []struct {
		reports int
		took    time.Duration
		rate    string
		right   bool
	}{
		{20_000, 4*time.Second - 200*time.Microsecond, "5000", true},
		{20_000, 4081 * time.Millisecond, "4901", true},
		{20_000, 4100 * time.Millisecond, "4878", false},
		{1, 0, "5000", true},
	} {
		rate, err := s.kept(sent{reports: test.reports, took: test.took})
		if got := fmt.Sprintf("%.0f", rate); got != test.rate || (err == nil) != test.right {
			t.Errorf("%d in %s: %s, %v", test.reports, test.took, got, err)
		}
	}
}
