package metrics

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/complianced/complianced/compliance"
)

// OtherPolicy is the label of the policies that are summed. A policy may have the
// same id; it is then one of those summed.
const OtherPolicy = "__other__"

// Snapshot is the state as it is read at a scrape.
type Snapshot struct {
	// Policies are the numbers of records by policy. Policies without a record are left
	// out.
	Policies map[string]Policy
	// Devices are the devices by the worst status of their records.
	Devices [compliance.NumStatuses]int
	// Drift is how many differences the last checks of the state left; nil where none
	// has run.
	Drift *int
	// Verified is when the last check ended; the zero time where none has.
	Verified time.Time
	// Partitions are those that could be read, each once.
	Partitions []Partition
	// DeadLetters is how many are kept; nil where that could not be read.
	DeadLetters *uint64
}

// Policy are the numbers of a policy's records.
type Policy struct {
	Statuses [compliance.NumStatuses]int
	// InGrace are those in their grace period, Stale those whose newest event is too
	// old.
	InGrace int
	Stale   int
}

// Partition is the state of a partition.
type Partition struct {
	// Number is the partition, from 0.
	Number int
	// Lag is nil where it could not be read.
	Lag *Lag
	// GapReports are the reports that the stream lost before they were merged, and
	// that nobody accepted as lost.
	GapReports uint64
}

// Lag is how far the lowest floor of a partition is behind its stream.
type Lag struct {
	// Messages are those above the floor.
	Messages uint64
	// Age is the age of the first of them; 0 without one.
	Age time.Duration
}

// StateOptions of a collector.
type StateOptions struct {
	// MaxPolicies is how many policies are labels: those with most devices, ties by
	// id. Defaults to 2,000.
	MaxPolicies int
	// PolicyNames are names for policy_info, by policy. Defaults to none.
	PolicyNames map[string]string
	// Timeout is how long a scrape waits for the state; the context of the read ends
	// with it. Defaults to 5 s.
	Timeout time.Duration
}

// state is the collector of the state.
type state struct {
	reader  reader
	options StateOptions

	up, took, policies, dropped, info, drift, verified *prometheus.Desc
	devices, byStatus, inGrace, stale                  *prometheus.Desc
	lagMessages, lagSeconds, gapReports, deadLetters   *prometheus.Desc
}

// NewState returns a collector that reads the state at each scrape. Scrapes that
// come during a read share it. An error of the read shows as state_up 0; whoever
// wants its cause known logs it in the read.
func NewState(read func(ctx context.Context) (Snapshot, error), opts StateOptions) prometheus.Collector {
	if opts.MaxPolicies <= 0 {
		opts.MaxPolicies = 2000
	}
	if opts.Timeout <= 0 {
		opts.Timeout = 5 * time.Second
	}
	opts.PolicyNames = maps.Clone(opts.PolicyNames)
	// A label that is not UTF-8 would fail the whole scrape.
	maps.DeleteFunc(opts.PolicyNames, func(policy, name string) bool {
		return !utf8.ValidString(policy) || !utf8.ValidString(name)
	})
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
	}
	return &state{
		reader:      reader{read: read, timeout: opts.Timeout},
		options:     opts,
		up:          desc("state_up", "Whether the state could be read (1) or not (0)."),
		took:        desc("state_collect_duration_seconds", "Time that reading the state took."),
		devices:     desc("devices", "Devices by the worst compliance status of their policies, each once.", "status"),
		byStatus:    desc("policy_devices", "Devices by policy and compliance status.", "policy", "status"),
		inGrace:     desc("policy_devices_in_grace", "Devices that are nonCompliant and in their grace period, by policy.", "policy"),
		stale:       desc("policy_devices_stale", "Devices whose newest report is older than the validity, by policy.", "policy"),
		drift:       desc("state_drift", "Differences that complianced verify found and did not put right: of the last run, and of the last with --rebuild."),
		verified:    desc("state_verified_timestamp_seconds", "When the last complianced verify ended that did not break off, in Unix seconds."),
		policies:    desc("policies", "Policies that have records."),
		dropped:     desc("policy_series_dropped", "Policies that are summed in policy=\"__other__\"."),
		info:        desc("policy_info", "Always 1; the labels give a policy's name.", "policy", "name"),
		lagMessages: desc("stream_lag_messages", "Reports of a partition above its lowest floor.", "partition"),
		lagSeconds:  desc("stream_lag_seconds", "Age of the first report of a partition above its lowest floor.", "partition"),
		gapReports:  desc("stream_gap_reports", "Reports that the stream of a partition lost before they were merged, and that nobody accepted as lost.", "partition"),
		deadLetters: desc("dead_letters", "Dead letters that are kept."),
	}
}

// Describe implements prometheus.Collector.
func (s *state) Describe(out chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{
		s.up, s.took, s.devices, s.byStatus, s.inGrace, s.stale, s.policies, s.dropped, s.info, s.drift, s.verified,
		s.lagMessages, s.lagSeconds, s.gapReports, s.deadLetters,
	} {
		out <- desc
	}
}

// Collect implements prometheus.Collector.
func (s *state) Collect(out chan<- prometheus.Metric) {
	snapshot, took, err := s.reader.snapshot(context.Background())
	gauge(out, s.took, took.Seconds())
	if err != nil {
		gauge(out, s.up, 0)
		return
	}
	gauge(out, s.up, 1)
	for status, n := range snapshot.Devices {
		gauge(out, s.devices, float64(n), compliance.Status(status).String())
	}
	s.collectPolicies(out, snapshot.Policies)
	if snapshot.Drift != nil {
		gauge(out, s.drift, float64(*snapshot.Drift))
	}
	if !snapshot.Verified.IsZero() {
		gauge(out, s.verified, float64(snapshot.Verified.Unix()))
	}
	for policy, name := range s.options.PolicyNames {
		gauge(out, s.info, 1, policy, name)
	}
	for _, p := range snapshot.Partitions {
		partition := strconv.Itoa(p.Number)
		gauge(out, s.gapReports, float64(p.GapReports), partition)
		if p.Lag != nil {
			gauge(out, s.lagMessages, float64(p.Lag.Messages), partition)
			gauge(out, s.lagSeconds, p.Lag.Age.Seconds(), partition)
		}
	}
	if snapshot.DeadLetters != nil {
		gauge(out, s.deadLetters, float64(*snapshot.DeadLetters))
	}
}

func (s *state) collectPolicies(out chan<- prometheus.Metric, policies map[string]Policy) {
	shown, rest := s.divide(policies)
	for _, policy := range shown {
		s.collectPolicy(out, policy, policies[policy])
	}
	if len(rest) > 0 {
		var sum Policy
		for _, policy := range rest {
			for status, n := range policies[policy].Statuses {
				sum.Statuses[status] += n
			}
			sum.InGrace += policies[policy].InGrace
			sum.Stale += policies[policy].Stale
		}
		s.collectPolicy(out, OtherPolicy, sum)
	}
	gauge(out, s.policies, float64(len(policies)))
	gauge(out, s.dropped, float64(len(rest)))
}

// divide parts the policies into those that are labels and those that are summed.
func (s *state) divide(policies map[string]Policy) (shown, rest []string) {
	totals := make(map[string]int, len(policies))
	for policy, of := range policies {
		// Neither can be a label beside the sum, and either would fail the scrape.
		if policy == OtherPolicy || !utf8.ValidString(policy) {
			rest = append(rest, policy)
			continue
		}
		for _, n := range of.Statuses {
			totals[policy] += n
		}
	}
	shown = slices.SortedFunc(maps.Keys(totals), func(a, b string) int {
		return cmp.Or(cmp.Compare(totals[b], totals[a]), cmp.Compare(a, b))
	})
	n := min(len(shown), s.options.MaxPolicies)
	return shown[:n], append(rest, shown[n:]...)
}

func (s *state) collectPolicy(out chan<- prometheus.Metric, policy string, of Policy) {
	for status, n := range of.Statuses {
		gauge(out, s.byStatus, float64(n), policy, compliance.Status(status).String())
	}
	gauge(out, s.inGrace, float64(of.InGrace), policy)
	gauge(out, s.stale, float64(of.Stale), policy)
}

func gauge(out chan<- prometheus.Metric, desc *prometheus.Desc, value float64, labels ...string) {
	out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
}
