package main

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"github.com/complianced/complianced/internal/fleet"
)

// Targets that hold at the default settings, on two cores or more.
const (
	// worstRatio and steadyRatio are of the processor time of all processes, that of
	// the bare work being 1.
	worstRatio  = 2.2
	steadyRatio = 1.6
	// The others are bytes of Redis per record: of one that full reports keep uniform
	// and one of which every property has a version of its own, alone, and in all of
	// the steady fleet.
	uniformMemory = 430
	ownMemory     = 700
	memoryInAll   = 520
	// derivedRatio is of the processor time of all processes in the steady fleet, that
	// without what the state over time needs being 1.
	derivedRatio = 1.15
	// latencyP99 is in seconds.
	latencyP99 = 0.020
	// peakMemory is in bytes, and not reached.
	peakMemory = 200e6
	// scrapeTime and pageTime are in seconds, and not reached.
	scrapeTime = 1
	pageTime   = 0.020
)

// Target is a promise, what was measured of it, and whether it holds.
type Target struct {
	Name  string  `json:"name"`
	Unit  string  `json:"unit"`
	Value float64 `json:"value"`
	// Limit is the greatest value that is right; with Below it is no more right.
	Limit float64 `json:"target"`
	Below bool    `json:"below,omitempty"`
	Met   bool    `json:"met"`
}

// targets returns the targets of all that was measured.
func (o *Output) targets() []Target {
	var all []Target
	add := func(t Target, name string, args ...any) {
		t.Name, t.Met = fmt.Sprintf(name, args...), t.Value < t.Limit || !t.Below && t.Value == t.Limit
		all = append(all, t)
	}
	for _, s := range o.Speed {
		limit := worstRatio
		if s.Mix == fleet.Steady {
			limit = steadyRatio
		}
		add(Target{Unit: "times the bare work", Value: s.Ratio.Median, Limit: limit}, "CPU of all, mix %s, append-only file %s", s.Mix, s.AppendOnly)
	}
	for _, l := range o.Latency {
		add(Target{Unit: "ms", Value: l.System.P99.Median * 1e3, Limit: latencyP99 * 1e3}, "latency p99, mix %s, append-only file %s", l.Mix, l.AppendOnly)
	}
	for _, m := range o.Memory {
		t := Target{Unit: "bytes a record", Value: m.Alone}
		kind := "alone"
		switch m.Of {
		case ofUniform, ofUniformAfter:
			t.Limit = uniformMemory
		case ofOwn:
			t.Limit = ownMemory
		case ofSteady, ofSteadyAfter:
			t.Value, t.Limit, kind = m.All, memoryInAll, "in all"
		case ofBare:
			continue
		}
		add(t, "memory %s, %s, append-only file %s", kind, m.Of, m.AppendOnly)
	}
	for _, d := range o.Derived {
		add(Target{Unit: "times the same without", Value: d.Ratio.Median, Limit: derivedRatio}, "CPU of all with what follows from records, mix %s", d.Mix)
	}
	for _, b := range o.Backlog {
		add(Target{Unit: "MB", Value: float64(b.Peak) / 1e6, Limit: peakMemory / 1e6, Below: true}, "peak memory, %d waiting", b.Reports)
		add(Target{Unit: "MB", Value: float64(b.PeakLarge) / 1e6, Limit: peakMemory / 1e6, Below: true}, "peak memory, %d waiting, %d of 64 KiB", b.Reports, b.Large)
	}
	for _, r := range o.Reads {
		add(Target{Unit: "s", Value: r.Scrape.Median, Limit: scrapeTime, Below: true}, "scrape, %d records, %d policies, %d buckets", r.Records, r.Policies, r.Buckets)
		for _, l := range r.Lists {
			add(Target{Unit: "ms", Value: l.Took.P99 * 1e3, Limit: pageTime * 1e3, Below: true}, "page of %s, p99", l.Of)
		}
	}
	return all
}

// promised tells whether the targets are promised at these settings: with the load
// of the defaults, whichever mixes, files and parts were chosen.
func (s Settings) promised() bool {
	d, err := parse(nil, io.Discard)
	d.Seed, d.AppendOnly, d.Mixes, d.Parts, d.dir, d.json, d.profile = s.Seed, s.AppendOnly, s.Mixes, s.Parts, s.dir, s.json, s.profile
	return err == nil && reflect.DeepEqual(s, d)
}

// errMissed says that a target was missed at the settings for which it is promised.
var errMissed = errors.New("targets were missed")

// missed is an error where a target that is promised does not hold.
func (o *Output) missed() error {
	var names []string
	for _, t := range o.Targets {
		if !t.Met {
			names = append(names, t.Name)
		}
	}
	if len(names) == 0 || !o.Settings.promised() {
		return nil
	}
	return fmt.Errorf("%w: %s", errMissed, strings.Join(names, "; "))
}

// printTargets writes value, target and whether it is met.
func (o *Output) printTargets(w io.Writer) error {
	if len(o.Targets) == 0 {
		return nil
	}
	title := "targets"
	if !o.Settings.promised() {
		title += ", which are promised at the default settings and not at these"
	}
	t := table(w, "%s", title)
	fmt.Fprintf(t, "\tvalue\ttarget\tmet\t\n")
	for _, target := range o.Targets {
		sign, met := "at most", "yes"
		if target.Below {
			sign = "below"
		}
		if !target.Met {
			met = "NO"
		}
		fmt.Fprintf(t, "%s\t%.2f\t%s %g %s\t%s\t\n", target.Name, target.Value, sign, target.Limit, target.Unit, met)
	}
	return t.Flush()
}
