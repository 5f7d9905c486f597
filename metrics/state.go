package metrics

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/complianced/complianced/compliance"
)

// OtherPolicy is the label of the policies that are summed.
const OtherPolicy = "__other__"

// Snapshot is the state as it is read at a scrape.
type Snapshot struct {
	// Policies are the records by policy and status.
	Policies map[string][compliance.NumStatuses]int
	// Partitions are those that could be read.
	Partitions []Partition
	// DeadLetters is nil where it could not be read.
	DeadLetters *uint64
}

// Partition is the state of a partition.
type Partition struct {
	Number int
	// Lag is nil where it could not be read.
	Lag *Lag
	// GapReports are the reports that the stream lost before they were merged, and
	// that nobody accepted as lost.
	GapReports uint64
}

// Lag is how far the lowest floor of a partition is behind its stream.
type Lag struct {
	Messages uint64
	// Age is the age of the first report above the lowest floor; 0 without one.
	Age time.Duration
}

// StateOptions of a collector.
type StateOptions struct {
	// MaxPolicies is how many policies are labels: those with most devices, ties by
	// id. Defaults to 2,000.
	MaxPolicies int
	// PolicyNames are names for compliance_policy_info, by policy. Defaults to none.
	PolicyNames map[string]string
	// Timeout of a read. Defaults to 5 s.
	Timeout time.Duration
}

// state is the collector of the state.
type state struct {
	read    func(context.Context) (Snapshot, error)
	options StateOptions

	// reading lets one scrape read at a time.
	reading sync.Mutex

	up, took, devices, policies, dropped, info   *prometheus.Desc
	lagMessages, lagSeconds, gapReports, letters *prometheus.Desc
}

// NewState returns a collector that reads the state at each scrape.
func NewState(read func(context.Context) (Snapshot, error), options StateOptions) prometheus.Collector {
	if options.MaxPolicies <= 0 {
		options.MaxPolicies = 2000
	}
	if options.Timeout <= 0 {
		options.Timeout = 5 * time.Second
	}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
	}
	return &state{
		read: read, options: options,
		up:          desc("state_up", "Whether the state could be read (1) or not (0)."),
		took:        desc("state_collect_duration_seconds", "Time that reading the state took."),
		devices:     desc("policy_devices", "Devices by policy and compliance status.", "policy", "status"),
		policies:    desc("policies", "Policies that have records."),
		dropped:     desc("policy_series_dropped", "Policies that are summed in policy=\"__other__\"."),
		info:        desc("policy_info", "The name of a policy.", "policy", "name"),
		lagMessages: desc("stream_lag_messages", "Reports of a partition above its lowest floor.", "partition"),
		lagSeconds:  desc("stream_lag_seconds", "Age of the first report of a partition above its lowest floor.", "partition"),
		gapReports:  desc("stream_gap_reports", "Reports that the stream of a partition lost before they were merged.", "partition"),
		letters:     desc("dead_letters", "Dead letters that are kept."),
	}
}

// Describe implements prometheus.Collector.
func (s *state) Describe(descs chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{
		s.up, s.took, s.devices, s.policies, s.dropped, s.info, s.lagMessages, s.lagSeconds, s.gapReports, s.letters,
	} {
		descs <- desc
	}
}

// Collect implements prometheus.Collector.
func (s *state) Collect(out chan<- prometheus.Metric) {
	s.reading.Lock()
	defer s.reading.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), s.options.Timeout)
	defer cancel()
	began := time.Now()
	snapshot, err := s.read(ctx)
	gauge(out, s.took, time.Since(began).Seconds())
	for policy, name := range s.options.PolicyNames {
		gauge(out, s.info, 1, policy, name)
	}
	if err != nil {
		gauge(out, s.up, 0)
		return
	}
	gauge(out, s.up, 1)
	s.collectPolicies(out, snapshot.Policies)
	for _, p := range snapshot.Partitions {
		partition := strconv.Itoa(p.Number)
		gauge(out, s.gapReports, float64(p.GapReports), partition)
		if p.Lag != nil {
			gauge(out, s.lagMessages, float64(p.Lag.Messages), partition)
			gauge(out, s.lagSeconds, p.Lag.Age.Seconds(), partition)
		}
	}
	if snapshot.DeadLetters != nil {
		gauge(out, s.letters, float64(*snapshot.DeadLetters))
	}
}

func (s *state) collectPolicies(out chan<- prometheus.Metric, policies map[string][compliance.NumStatuses]int) {
	shown := slices.SortedFunc(maps.Keys(policies), func(a, b string) int {
		if c := cmp.Compare(total(policies[b]), total(policies[a])); c != 0 {
			return c
		}
		return cmp.Compare(a, b)
	})
	rest := shown[min(len(shown), s.options.MaxPolicies):]
	for _, policy := range shown[:len(shown)-len(rest)] {
		s.collectPolicy(out, policy, policies[policy])
	}
	if len(rest) > 0 {
		var sum [compliance.NumStatuses]int
		for _, policy := range rest {
			for status, n := range policies[policy] {
				sum[status] += n
			}
		}
		s.collectPolicy(out, OtherPolicy, sum)
	}
	gauge(out, s.policies, float64(len(policies)))
	gauge(out, s.dropped, float64(len(rest)))
}

func (s *state) collectPolicy(out chan<- prometheus.Metric, policy string, of [compliance.NumStatuses]int) {
	for status, n := range of {
		gauge(out, s.devices, float64(n), policy, compliance.Status(status).String())
	}
}

func total(of [compliance.NumStatuses]int) int {
	n := 0
	for _, k := range of {
		n += k
	}
	return n
}

func gauge(out chan<- prometheus.Metric, desc *prometheus.Desc, value float64, labels ...string) {
	out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
}
