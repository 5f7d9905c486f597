package metrics_test

import (
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/metrics"
)

func BenchmarkObserveEffect(b *testing.B) {
	effect := compliance.Effect{
		Outcome: compliance.Applied,
		Before:  compliance.Standing{Exists: true, Status: compliance.StatusUnknown},
		After:   compliance.Standing{Exists: true, Status: compliance.StatusCompliant},
	}
	p := metrics.NewPipeline(prometheus.NewRegistry(), "v1")
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		p.ObserveEffect(effect, time.Duration(1+i&1023)*100*time.Microsecond)
	}
}
