package metrics

import (
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/complianced/complianced/compliance"
)

const namespace = "compliance"

// none is the status of a record that is not there.
const none = "none"

// Causes returns the values of the label cause of rewinds_total.
func Causes() []string {
	return []string{"store_behind", "store_empty", "stream_recreated", "stream_rolled_back", "owner_changed"}
}

// counters are the counters of a closed set of label values, looked up once.
type counters[K ~string] struct {
	vec   *prometheus.CounterVec
	known map[K]prometheus.Counter
}

func newCounters[K ~string](with promauto.Factory, name, help, label string, values []K) counters[K] {
	c := counters[K]{
		vec: with.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: name, Help: help,
		}, []string{label}),
		known: make(map[K]prometheus.Counter, len(values)),
	}
	for _, value := range values {
		c.known[value] = c.vec.WithLabelValues(string(value))
	}
	return c
}

// inc counts a value. One that is not of the set is a mistake in this program:
// it is counted under its own name, because counting must not stop the work.
func (c counters[K]) inc(value K) {
	counter, ok := c.known[value]
	if !ok {
		counter = c.vec.WithLabelValues(string(value))
	}
	counter.Inc()
}

// Pipeline are the metrics of a worker. It is safe for concurrent use.
type Pipeline struct {
	reports     counters[compliance.Outcome]
	rejected    counters[compliance.Code]
	rewinds     counters[string]
	transitions transitions
	latency     prometheus.Histogram
	merge       prometheus.Histogram
	batch       prometheus.Histogram
	nats        prometheus.Gauge
	redis       prometheus.Gauge
}

// NewPipeline registers the metrics of a worker of this version. It panics where
// they are registered already.
func NewPipeline(reg prometheus.Registerer, version string) *Pipeline {
	with := promauto.With(reg)
	p := &Pipeline{
		reports: newCounters(with, "reports_total",
			"Reports by what became of them.", "outcome", compliance.Outcomes()),
		rejected: newCounters(with, "reports_rejected_total",
			"Reports that became dead letters, by the leading code.", "code", compliance.Codes()),
		rewinds: newCounters(with, "rewinds_total",
			"Times that a floor or the stream was not the expected one, by cause.", "cause", Causes()),
		transitions: newTransitions(with),
		latency: with.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: "report_latency_seconds",
			Help: "Time from the store time of a report to its merge, of reports that were applied.",
			// From one batch without load to an outage of a day.
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 60, 600, 3600, 86400},
			// At most 10 % from one bucket to the next, and at most 160 of them.
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  160,
			NativeHistogramMinResetDuration: time.Hour,
		}),
		merge: with.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: "merge_duration_seconds",
			Help: "Time of a batch from decoding to the last transaction.",
			// 0.5 ms to 8 s.
			Buckets: prometheus.ExponentialBuckets(.0005, 2, 15),
		}),
		batch: with.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: "batch_reports",
			Help:    "Reports in a batch.",
			Buckets: []float64{1, 4, 16, 64, 250, 1000, 2000, 4000, 8000},
		}),
		nats: with.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Name: "nats_connected", Help: "Whether NATS is connected (1) or not (0).",
		}),
		redis: with.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Name: "redis_connected", Help: "Whether Redis answers (1) or not (0).",
		}),
	}
	with.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info",
		Help:        "Always 1; the labels say which version of the program runs, built by which Go.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	}).Set(1)
	return p
}

// transitions are the counters from each standing to each other one; there is
// none from a standing to itself.
type transitions [compliance.NumStatuses + 1][compliance.NumStatuses + 1]prometheus.Counter

func newTransitions(with promauto.Factory) transitions {
	vec := with.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Name: "transitions_total",
		Help: "Changes of a record's status; none stands for a record that is not there.",
	}, []string{"from", "to"})
	var t transitions
	for from := range t {
		for to := range t[from] {
			if from != to {
				t[from][to] = vec.WithLabelValues(standingName(from), standingName(to))
			}
		}
	}
	return t
}

// standing numbers what a record can be: its status, or none. A status that is
// no member is unknown, as in its name.
func standing(s compliance.Standing) int {
	switch {
	case !s.Exists:
		return compliance.NumStatuses
	case !s.Status.Valid():
		return int(compliance.StatusUnknown)
	}
	return int(s.Status)
}

func standingName(n int) string {
	if n == compliance.NumStatuses {
		return none
	}
	return compliance.Status(n).String()
}

// ObserveBatch counts a batch and the time that it took, from decoding to the
// last transaction.
func (p *Pipeline) ObserveBatch(reports int, took time.Duration) {
	p.batch.Observe(float64(reports))
	p.merge.Observe(took.Seconds())
}

// ObserveEffect counts what a report did. Latency is the time from its store time
// to now, and counts only where the report was applied. The store time is another
// machine's: what its clock is ahead counts as 0, because a histogram's sum that
// falls reads as a restart.
func (p *Pipeline) ObserveEffect(effect compliance.Effect, latency time.Duration) {
	p.reports.inc(effect.Outcome)
	if effect.Outcome == compliance.Applied {
		p.latency.Observe(max(latency, 0).Seconds())
	}
	if from, to := standing(effect.Before), standing(effect.After); from != to {
		p.transitions[from][to].Inc()
	}
}

// ObserveRejected counts a report that became a dead letter.
func (p *Pipeline) ObserveRejected(code compliance.Code) {
	p.reports.inc(compliance.Rejected)
	p.rejected.inc(code)
}

// ObserveRewind counts that a floor or the stream was not the expected one; the
// cause is one of [Causes].
func (p *Pipeline) ObserveRewind(cause string) { p.rewinds.inc(cause) }

// SetNATSConnected shows whether NATS is connected.
func (p *Pipeline) SetNATSConnected(connected bool) { set(p.nats, connected) }

// SetRedisConnected shows whether Redis answers.
func (p *Pipeline) SetRedisConnected(connected bool) { set(p.redis, connected) }

func set(gauge prometheus.Gauge, on bool) {
	if on {
		gauge.Set(1)
	} else {
		gauge.Set(0)
	}
}
