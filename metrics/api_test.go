package metrics_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/complianced/complianced/metrics"
)

func TestRequestsAreCountedByOperationAndStatus(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	api := metrics.NewAPI(registry, []string{"get", "update"}, []int{200, 503})
	want := map[string]float64{
		`compliance_api_requests_total{operation="get",status="200"}`: 0, `compliance_api_requests_total{operation="get",status="503"}`: 0,
		`compliance_api_requests_total{operation="update",status="200"}`: 0, `compliance_api_requests_total{operation="update",status="503"}`: 0,
	}
	if diff := cmp.Diff(want, named(series(t, registry), "compliance_api_requests_total")); diff != "" {
		t.Errorf("before the first request (-want +have):\n%s", diff)
	}
	api.Observe("update", 200, 3*time.Millisecond)
	api.Observe("update", 200, time.Second)
	want[`compliance_api_requests_total{operation="update",status="200"}`] = 2
	all := series(t, registry)
	if diff := cmp.Diff(want, named(all, "compliance_api_requests_total")); diff != "" {
		t.Errorf("after two (-want +have):\n%s", diff)
	}
	if n, sum := all[`compliance_api_request_duration_seconds_count{operation="update"}`], all[`compliance_api_request_duration_seconds_sum{operation="update"}`]; n != 2 || sum != 1.003 {
		t.Errorf("%v requests took %v s", n, sum)
	}
	if n := all[`compliance_api_request_duration_seconds_bucket{operation="update",le="0.004"}`]; n != 1 {
		t.Errorf("%v requests took at most 4 ms", n)
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}
