package metrics

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// API are the metrics of the HTTP API. It is safe for concurrent use.
type API struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

// NewAPI registers the metrics of an API with these operations and statuses.
func NewAPI(registry prometheus.Registerer, operations []string, statuses []int) *API {
	with := promauto.With(registry)
	a := &API{
		requests: with.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "api_requests_total", Help: "Requests to the HTTP API by operation and status.",
		}, []string{"operation", "status"}),
		duration: with.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "api_request_duration_seconds",
			Help:    "Time from the header of a request to its answer; of an update, until its report is merged.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14), NativeHistogramBucketFactor: 1.1,
		}, []string{"operation"}),
	}
	for _, operation := range operations {
		a.duration.WithLabelValues(operation)
		for _, status := range statuses {
			a.requests.WithLabelValues(operation, strconv.Itoa(status))
		}
	}
	return a
}

// Observe counts a request.
func (a *API) Observe(operation string, status int, took time.Duration) {
	a.requests.WithLabelValues(operation, strconv.Itoa(status)).Inc()
	a.duration.WithLabelValues(operation).Observe(took.Seconds())
}
