package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// print writes everything as text.
func (o *Output) print(w io.Writer) error {
	settings, err := json.Marshal(o.Settings)
	if err != nil {
		return err
	}
	m := o.Machine
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "machine\t%s, %d cores, Linux %s, load average at the beginning %s\n", m.CPU, m.Cores, m.Kernel, m.Load)
	fmt.Fprintf(t, "programs\t%s; %s; %s\n", m.Go, m.NATS, m.Redis)
	fmt.Fprintf(t, "clients\t%s\n", strings.Join(m.Clients, "; "))
	fmt.Fprintf(t, "settings\t%s\n", settings)
	fmt.Fprintf(t, "Redis\t%s\n", strings.Join(redisArgs("no or yes, as named"), " "))
	fmt.Fprintf(t, "garbage collector\tcomplianced runs with GOGC=150, as it does by itself; the bare work with the default of Go, 100\n")
	fmt.Fprintf(t, "figures\tmedians of %d runs (least to greatest)\n", o.Settings.Count)
	if err := t.Flush(); err != nil {
		return err
	}
	for _, s := range o.Speed {
		t = table(w, "speed: mix %s, append-only file %s, %d waiting reports", s.Mix, s.AppendOnly, o.Settings.Reports)
		fmt.Fprintf(t, "\tcomplianced\tbare work\t\n")
		for _, line := range []struct {
			name         string
			system, bare Figure
			digits       int
		}{
			{"reports/s", s.System.ReportsPerSecond, s.Bare.ReportsPerSecond, 0},
			{"CPU of the program, µs/report", s.System.CPU.Program, s.Bare.CPU.Program, 2},
			{"CPU of Redis, µs/report", s.System.CPU.Redis, s.Bare.CPU.Redis, 2},
			{"CPU of NATS, µs/report", s.System.CPU.NATS, s.Bare.CPU.NATS, 2},
			{"CPU of all, µs/report", s.System.CPU.All, s.Bare.CPU.All, 2},
			{"allocations/report", s.System.Allocations, s.Bare.Allocations, 1},
			{"allocated bytes/report", s.System.Bytes, s.Bare.Bytes, 0},
		} {
			fmt.Fprintf(t, "%s\t%s\t%s\t\n", line.name, line.system.text(1, line.digits), line.bare.text(1, line.digits))
		}
		fmt.Fprintf(t, "peak resident memory, MB\t%s\t\t\n", s.PeakMemory.text(1e-6, 1))
		fmt.Fprintf(t, "CPU of all, bare work = 1\t%s\t1\t\n", s.Ratio.text(1, 2))
		if err := t.Flush(); err != nil {
			return err
		}
	}
	if err := errors.Join(o.printRest(w), o.printTargets(w)); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "\nAll in %.0f s. Records, counts, outcomes and dead letters are as they must be.\n", o.Seconds)
	return err
}

func (o *Output) printRest(w io.Writer) error {
	if err := errors.Join(o.printLatency(w), o.printMemory(w), o.printDerived(w), o.printBacklog(w), o.printReads(w)); err != nil {
		return err
	}
	for _, p := range o.Profiles {
		fmt.Fprintf(w, "\nprofile of one drain by complianced: mix %s, append-only file %s\n%s\n", p.Mix, p.AppendOnly, strings.Join(p.Top, "\n"))
	}
	return nil
}

// printLatency writes the latencies.
func (o *Output) printLatency(w io.Writer) error {
	if len(o.Latency) == 0 {
		return nil
	}
	t := table(w, "latency in ms, of complianced from stored to applied, of the bare work from stored to the reply of Redis")
	fmt.Fprintf(t, "mix\tappend-only\treports/s\t\tp50\tp99\tp99.9\tgreatest\t\n")
	for _, l := range o.Latency {
		for _, of := range []struct {
			name string
			tail Tail
		}{{"complianced", l.System}, {"bare work", l.Bare}} {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", l.Mix, l.AppendOnly, l.Rate.text(1, 0), of.name,
				of.tail.P50.text(1e3, 2), of.tail.P99.text(1e3, 2), of.tail.P999.text(1e3, 2), of.tail.Max.text(1e3, 2))
		}
	}
	return t.Flush()
}

// printMemory writes the memory of Redis.
func (o *Output) printMemory(w io.Writer) error {
	if len(o.Memory) == 0 {
		return nil
	}
	t := table(w, "memory of Redis in bytes per record; alone is without roll-up, indexes, and the numbers but the counts by status")
	fmt.Fprintf(t, "of\tappend-only\trecords\tin all\talone\t\n")
	for _, m := range o.Memory {
		fmt.Fprintf(t, "%s\t%s\t%d\t%.1f\t%s\t\n", m.Of, m.AppendOnly, m.Records, m.All, whereMeasured(m.Alone))
	}
	return t.Flush()
}

// printDerived writes what follows from records adds.
func (o *Output) printDerived(w io.Writer) error {
	for _, d := range o.Derived {
		t := table(w, "what roll-up, indexes, and the numbers but the counts by status add: mix %s, append-only file %s", d.Mix, d.AppendOnly)
		fmt.Fprintf(t, "CPU, µs/report\twith\twithout\t\n")
		for _, line := range []struct {
			name          string
			with, without Figure
		}{
			{"program", d.With.CPU.Program, d.Without.CPU.Program},
			{"Redis", d.With.CPU.Redis, d.Without.CPU.Redis},
			{"NATS", d.With.CPU.NATS, d.Without.CPU.NATS},
			{"all", d.With.CPU.All, d.Without.CPU.All},
		} {
			fmt.Fprintf(t, "%s\t%s\t%s\t\n", line.name, line.with.text(1, 2), line.without.text(1, 2))
		}
		fmt.Fprintf(t, "all, without = 1\t%s\t1\t\n", d.Ratio.text(1, 2))
		if err := t.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// printReads writes how long it takes to read the state.
func (o *Output) printReads(w io.Writer) error {
	for _, r := range o.Reads {
		t := table(w, "time in ms to read %d records under %d policies in %d buckets, append-only file %s", r.Records, r.Policies, r.Buckets, r.AppendOnly)
		fmt.Fprintf(t, "a scrape\t%s\t\t\t\n", r.Scrape.text(1e3, 0))
		fmt.Fprintf(t, "a page of\tp50\tp99\tgreatest\t\n")
		for _, l := range r.Lists {
			fmt.Fprintf(t, "%s\t%.1f\t%.1f\t%.1f\t\n", l.Of, l.Took.P50*1e3, l.Took.P99*1e3, l.Took.Max*1e3)
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// printBacklog writes the greatest memory of complianced.
func (o *Output) printBacklog(w io.Writer) error {
	if len(o.Backlog) == 0 {
		return nil
	}
	t := table(w, "peak resident memory of complianced while it drains")
	fmt.Fprintf(t, "waiting reports\tof them 64 KiB large\tappend-only\tseconds\tMB\t\n")
	for _, b := range o.Backlog {
		fmt.Fprintf(t, "%d\t0\t%s\t%.1f\t%.1f\t\n", b.Reports, b.AppendOnly, b.Seconds, float64(b.Peak)/1e6)
		fmt.Fprintf(t, "%d\t%d\t%s\t%.1f\t%.1f\t\n", b.Reports, b.Large, b.AppendOnly, b.SecondsLarge, float64(b.PeakLarge)/1e6)
	}
	return t.Flush()
}

// whereMeasured leaves out what was not measured.
func whereMeasured(v float64) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f", v)
}

func table(w io.Writer, title string, args ...any) *tabwriter.Writer {
	fmt.Fprintf(w, "\n"+title+"\n", args...)
	return tabwriter.NewWriter(w, 0, 0, 3, ' ', tabwriter.AlignRight)
}

// text is the figure in another unit.
func (f Figure) text(unit float64, digits int) string {
	if f.Min == f.Max {
		return fmt.Sprintf("%.*f", digits, f.Median*unit)
	}
	return fmt.Sprintf("%.*f (%.*f to %.*f)", digits, f.Median*unit, digits, f.Min*unit, digits, f.Max*unit)
}
