package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/complianced/complianced/internal/fleet"
)

// Output is everything that was measured, and on what.
type Output struct {
	Machine  Machine   `json:"machine"`
	Settings Settings  `json:"settings"`
	Speed    []Speed   `json:"speed"`
	Latency  []Latency `json:"latency"`
	Memory   []Memory  `json:"memory"`
	Derived  []Derived `json:"derived"`
	Backlog  []Backlog `json:"backlog"`
	Reads    []Reads   `json:"reads"`
	Profiles []Profile `json:"profiles"`
	Targets  []Target  `json:"targets"`
	// Seconds is how long all of it took.
	Seconds float64 `json:"seconds"`
}

// Speed is what a report costs.
type Speed struct {
	AppendOnly string    `json:"appendonly"`
	Mix        fleet.Mix `json:"mix"`
	System     Cost      `json:"complianced"`
	// PeakMemory is the greatest resident memory of complianced, in bytes.
	PeakMemory Figure `json:"complianced_peak_memory_bytes"`
	Bare       Cost   `json:"bare_work"`
	// Ratio is the processor time of all processes, that of the bare work being 1.
	Ratio Figure `json:"cpu_ratio"`
}

// Cost is what one report costs in one way of handling it.
type Cost struct {
	ReportsPerSecond Figure `json:"reports_per_second"`
	// CPU are µs per report of the program, the servers and all together.
	CPU struct {
		Program Figure `json:"program"`
		Redis   Figure `json:"redis"`
		NATS    Figure `json:"nats"`
		All     Figure `json:"all"`
	} `json:"cpu_us_per_report"`
	// Allocations and Bytes are those of the program, per report.
	Allocations Figure `json:"allocations_per_report"`
	Bytes       Figure `json:"bytes_per_report"`
}

// Latency is the time from the store time of a report to its merge, and of the bare
// work to the reply to its pipeline.
type Latency struct {
	AppendOnly string    `json:"appendonly"`
	Mix        fleet.Mix `json:"mix"`
	Reports    int       `json:"reports_per_run"`
	// Rate is how many reports a second were published.
	Rate Figure `json:"reports_per_second"`
	// Each value of System is the upper bound of its bucket in the worker's native
	// histogram. Those of Bare are exact.
	System Tail `json:"complianced"`
	Bare   Tail `json:"bare_work"`
	// Width is by how much a value of System is too great at most, as a share of it.
	Width float64 `json:"bucket_width"`
}

// Tail are quantiles of a latency, in seconds.
type Tail struct {
	P50  Figure `json:"p50_seconds"`
	P99  Figure `json:"p99_seconds"`
	P999 Figure `json:"p999_seconds"`
	Max  Figure `json:"max_seconds"`
}

// Memory is the memory of Redis per record.
type Memory struct {
	AppendOnly string `json:"appendonly"`
	// Of says which records.
	Of      Measured `json:"of"`
	Records int      `json:"records"`
	// All is everything: keys, counts, floors, indexes and what the server needs to
	// keep them, without the buffers of clients and of the append-only file.
	All float64 `json:"bytes_per_record"`
	// Alone is All without what the state over time needs: roll-up, indexes, and the
	// numbers but the counts by status. 0 of the bare work, which has none.
	Alone float64 `json:"alone_bytes_per_record,omitempty"`
}

// Measured says of which records the memory was measured.
type Measured string

// The records of which the memory is measured.
const (
	// ofUniform are those of the worst case, each written by full reports.
	ofUniform      Measured = "worst case"
	ofUniformAfter Measured = "worst case, after the speed runs"
	// ofSteady are those of the steady fleet, of which partial reports make some less
	// uniform.
	ofSteady      Measured = "steady fleet"
	ofSteadyAfter Measured = "steady fleet, after the speed runs"
	// ofOwn are those of which every property has a version of its own.
	ofOwn Measured = "every property its own version"
	// ofBare are the hashes of the bare work.
	ofBare Measured = "bare work"
)

// Backlog is the greatest resident memory of complianced while it drains many
// waiting reports, in bytes.
type Backlog struct {
	AppendOnly string  `json:"appendonly"`
	Reports    int     `json:"reports"`
	Peak       int64   `json:"peak_memory_bytes"`
	Seconds    float64 `json:"seconds"`
	// Large is how many of as many reports were as large as the stream takes.
	Large        int     `json:"large_reports"`
	PeakLarge    int64   `json:"peak_memory_with_large_bytes"`
	SecondsLarge float64 `json:"seconds_with_large"`
}

// Profile are the ten functions of complianced that took most processor time.
type Profile struct {
	AppendOnly string    `json:"appendonly"`
	Mix        fleet.Mix `json:"mix"`
	Top        []string  `json:"top"`
}

// perReport returns a duration in µs per report.
func perReport(d time.Duration, reports int) float64 {
	return float64(d) / float64(time.Microsecond) / float64(reports)
}

func (u Usage) all() time.Duration { return u.Program + u.Redis + u.NATS }

func (r Run) ratio() float64 { return float64(r.system.cpu.all()) / float64(r.used.all()) }

// String is a line for the progress.
func (r Run) String() string {
	n := r.system.reports
	return fmt.Sprintf("%.0f reports/s, %.1f µs a report; bare work %.0f reports/s, %.1f µs a report; ratio %.2f",
		float64(n)/r.system.took.Seconds(), perReport(r.system.cpu.all(), n),
		float64(n)/r.bare.Took.Seconds(), perReport(r.used.all(), n), r.ratio())
}

// speedOf returns the figures of the runs.
func speedOf(appendOnly string, mix fleet.Mix, runs []Run) Speed {
	s := Speed{AppendOnly: appendOnly, Mix: mix}
	reports := func(r Run) float64 { return float64(r.system.reports) }
	s.System = costOf(runs, func(r Run) Usage { return r.system.cpu }, func(r Run) time.Duration { return r.system.took })
	s.System.Allocations = figure(runs, func(r Run) float64 { return r.system.mallocs / reports(r) })
	s.System.Bytes = figure(runs, func(r Run) float64 { return r.system.bytes / reports(r) })
	s.PeakMemory = figure(runs, func(r Run) float64 { return float64(r.system.peak) })
	s.Bare = costOf(runs, func(r Run) Usage { return r.used }, func(r Run) time.Duration { return r.bare.Took })
	s.Bare.Allocations = figure(runs, func(r Run) float64 { return float64(r.bare.Mallocs) / reports(r) })
	s.Bare.Bytes = figure(runs, func(r Run) float64 { return float64(r.bare.Bytes) / reports(r) })
	s.Ratio = figure(runs, Run.ratio)
	return s
}

func costOf(runs []Run, used func(Run) Usage, took func(Run) time.Duration) (c Cost) {
	us := func(of func(Usage) time.Duration) Figure {
		return figure(runs, func(r Run) float64 { return perReport(of(used(r)), r.system.reports) })
	}
	c.ReportsPerSecond = figure(runs, func(r Run) float64 { return float64(r.system.reports) / took(r).Seconds() })
	c.CPU.Program = us(func(u Usage) time.Duration { return u.Program })
	c.CPU.Redis = us(func(u Usage) time.Duration { return u.Redis })
	c.CPU.NATS = us(func(u Usage) time.Duration { return u.NATS })
	c.CPU.All = us(Usage.all)
	return c
}

func latencyOf(appendOnly string, mix fleet.Mix, runs []latencyRun) Latency {
	rates := make([]float64, 0, 2*len(runs))
	for _, run := range runs {
		rates = append(rates, run.rate, run.bareRate)
	}
	return Latency{
		AppendOnly: appendOnly, Mix: mix, Reports: runs[0].reports, Width: runs[0].width, Rate: figureOf(rates),
		System: tailOf(runs, func(r latencyRun) Quantiles { return r.system }),
		Bare:   tailOf(runs, func(r latencyRun) Quantiles { return r.bare }),
	}
}

func tailOf(runs []latencyRun, of func(latencyRun) Quantiles) Tail {
	return Tail{
		P50:  figure(runs, func(r latencyRun) float64 { return of(r).P50 }),
		P99:  figure(runs, func(r latencyRun) float64 { return of(r).P99 }),
		P999: figure(runs, func(r latencyRun) float64 { return of(r).P999 }),
		Max:  figure(runs, func(r latencyRun) float64 { return of(r).Max }),
	}
}

func profileOf(appendOnly string, mix fleet.Mix, top string) Profile {
	return Profile{AppendOnly: appendOnly, Mix: mix, Top: strings.Split(strings.TrimSpace(top), "\n")}
}
