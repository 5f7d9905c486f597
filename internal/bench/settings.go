package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/internal/fleet"
)

// The parts of a run.
const (
	partSpeed   = "speed"
	partLatency = "latency"
	partMemory  = "memory"
	partProfile = "profile"
	partBacklog = "backlog"
	partDerived = "derived"
	partReads   = "reads"
)

var allParts = []string{partSpeed, partLatency, partMemory, partProfile, partBacklog, partDerived, partReads}

// Settings say what is measured. They stand in the output.
type Settings struct {
	Reports    int `json:"reports"`
	Devices    int `json:"devices"`
	Policies   int `json:"policies"`
	Partitions int `json:"partitions"`
	Buckets    int `json:"buckets"`
	Count      int `json:"count"`
	Rate       int `json:"rate"`
	// RateKept is the share of Rate that is enough.
	RateKept   float64       `json:"rate_kept"`
	For        time.Duration `json:"for_ns"`
	Backlog    int           `json:"backlog"`
	Records    int           `json:"records"`
	Seed       uint64        `json:"seed"`
	AppendOnly []string      `json:"appendonly"`
	Mixes      []fleet.Mix   `json:"mixes"`
	Parts      []string      `json:"parts"`
	// Bare are the settings of the bare work.
	Bare BareSettings `json:"bare"`

	dir, json, profile string
}

// errUsage says that a flag is wrong.
var errUsage = errors.New("wrong usage")

func usagef(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{errUsage}, args...)...)
}

// fullRate is how many reports of a drain stand for a second of the latency run,
// where --for is not set: 20 s of 300,000.
const fullRate = 15000

func parse(args []string, stderr io.Writer) (Settings, error) {
	var s Settings
	var appendOnly, mix, only string
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.IntVar(&s.Reports, "reports", 300_000, "reports that wait when the worker starts")
	flags.IntVar(&s.Devices, "devices", 100_000, "devices")
	flags.IntVar(&s.Policies, "policies", 5, "policies; there is a record of each device under each")
	flags.IntVar(&s.Partitions, "partitions", 1, "partitions")
	flags.IntVar(&s.Buckets, "buckets", 16, "buckets")
	flags.IntVar(&s.Count, "count", 5, "runs of which the medians are taken")
	flags.IntVar(&s.Rate, "rate", 5000, "reports a second while the latency is measured")
	flags.Float64Var(&s.RateKept, "rate-kept", 0.98, "`share` of --rate that must be kept to, or the latencies are no figures")
	flags.DurationVar(&s.For, "for", 0, "how long the latency is measured, all --count runs together (default 1s for each 15,000 --reports)")
	flags.IntVar(&s.Backlog, "backlog", 1_000_000, "reports that wait in --only backlog")
	flags.IntVar(&s.Records, "records", 1_000_000, "records of which the state is read in --only reads")
	flags.Uint64Var(&s.Seed, "seed", 1, "the same seed gives the same reports")
	flags.StringVar(&appendOnly, "appendonly", "both", "append-only file of Redis: `no|yes|both`")
	flags.StringVar(&mix, "mix", "both", "what the reports change: `worst|steady|both`")
	flags.StringVar(&only, "only", strings.Join(allParts, ","), "`parts` to run")
	flags.IntVar(&s.Bare.Pipeline, "bare-pipeline", 500, "commands in a pipeline of the bare work; a transaction of a full batch has as many")
	flags.IntVar(&s.Bare.Connections, "bare-connections", 8, "connections of the bare work to Redis; the worker has as many buckets under way")
	flags.StringVar(&s.dir, "dir", os.TempDir(), "`folder` for the servers' data, which needs some GB for a while")
	flags.StringVar(&s.json, "json", "", "`file` to write the figures to")
	flags.StringVar(&s.profile, "profile", "", "`folder` to keep the profiles of the worker in (default none is kept)")
	if err := flags.Parse(args); err != nil {
		return s, usagef("%w", err)
	}
	if flags.NArg() > 0 {
		return s, usagef("unknown argument %q", flags.Arg(0))
	}
	switch appendOnly {
	case "no", "yes":
		s.AppendOnly = []string{appendOnly}
	case "both":
		s.AppendOnly = []string{"no", "yes"}
	default:
		return s, usagef("--appendonly is no, yes or both")
	}
	switch mix {
	case string(fleet.Worst), string(fleet.Steady):
		s.Mixes = []fleet.Mix{fleet.Mix(mix)}
	case "both":
		s.Mixes = []fleet.Mix{fleet.Worst, fleet.Steady}
	default:
		return s, usagef("--mix is worst, steady or both")
	}
	s.Parts = strings.Split(only, ",")
	return s.checked()
}

func (s Settings) checked() (Settings, error) {
	for _, part := range s.Parts {
		if !slices.Contains(allParts, part) {
			return s, usagef("--only: %q is none of %s", part, strings.Join(allParts, ", "))
		}
	}
	for _, n := range []int{s.Reports, s.Devices, s.Policies, s.Count, s.Rate, s.Backlog, s.Records, s.Bare.Pipeline, s.Bare.Connections} {
		if n < 1 {
			return s, usagef("a number is less than 1")
		}
	}
	if !(s.RateKept >= 0 && s.RateKept <= 1) {
		return s, usagef("--rate-kept is a share, from 0 to 1")
	}
	if s.Bare.Connections > math.MaxUint8 {
		return s, usagef("--bare-connections is at most %d", math.MaxUint8)
	}
	if err := s.layout().Validate(); err != nil {
		return s, usagef("--partitions, --buckets: %w", err)
	}
	if s.For <= 0 {
		s.For = time.Duration(s.Reports) * time.Second / fullRate
	}
	return s, nil
}

func (s Settings) layout() compliance.Layout {
	return compliance.Layout{Partitions: s.Partitions, Buckets: s.Buckets}
}

func (s Settings) has(part string) bool { return slices.Contains(s.Parts, part) }
