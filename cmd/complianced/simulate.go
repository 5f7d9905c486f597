package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/internal/fleet"
)

// load is a synthetic load, as flags describe it.
type load struct {
	fleet    fleet.Options
	mix      string
	start    string
	duration time.Duration
	reports  uint64
	journal  string
	// shares are the flags that only the mix default knows.
	shares []*pflag.Flag
}

func newSimulate(c *common) *cobra.Command {
	var l load
	var out output
	cmd := &cobra.Command{
		Use:   "simulate",
		Short: "Publish the reports of a synthetic fleet",
		Long: `Publishes the reports of a synthetic fleet until --duration or --reports ends, or Ctrl-C.

The same flags give the same reports in the same order: ids, bodies, and event times as
a distance from --start. Every report has an event time of its own, as if reports were
made at the rate; a duplicate is the same report again. A report that is not accepted is
tried again, with the same id, for as long as the command runs.

A journal has one line for each report that is accepted:
{"stream":"…","sequence":1,"id":"…","time":"…","subject":"…"}. It is written once a second at
least, so that a last line may be cut where the command was killed. Subjects hold device
ids: a new file is readable by its owner alone. What the file held before is lost.

Exit status: 0 when done or interrupted, 1 when reports are not accepted at the end.`,
		Example: `  complianced simulate --devices 100000 --rate 5000 --duration 1m --journal load.ndjson
  complianced simulate --mix worst --devices 100000 --policies 5 --rate 0 --reports 300000`,
		Args: args(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			asJSON, err := out.json()
			if err != nil {
				return err
			}
			if err := l.validate(); err != nil {
				return err
			}
			log, err := c.logger(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			nc, err := c.patientNATS("simulate", log)
			if err != nil {
				return err
			}
			defer nc.Close()
			summary, err := l.run(cmd.Context(), nc, log)
			if asJSON {
				return errors.Join(err, json.NewEncoder(cmd.OutOrStdout()).Encode(summary))
			}
			printLoad(cmd.OutOrStdout(), summary)
			return err
		},
	}
	l.add(cmd)
	out.add(cmd)
	return cmd
}

func (l *load) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.IntVar(&l.fleet.Devices, "devices", 1000, "`number` of devices")
	flags.IntVar(&l.fleet.Policies, "policies", 3, "`number` of policies, each for every device")
	flags.Uint64Var(&l.fleet.Seed, "seed", 1, "the same `seed` gives the same reports")
	flags.Float64Var(&l.fleet.Rate, "rate", 100, "`reports` a second; 0 is as fast as possible")
	flags.DurationVar(&l.duration, "duration", 0, "how long; 0 is until interrupted")
	flags.Uint64Var(&l.reports, "reports", 0, "`number` of reports to send, duplicates included; 0 is no limit")
	flags.StringVar(&l.start, "start", "", "event `time` of the first report, as 2026-01-31T12:00:00Z (default now)")
	flags.StringVar(&l.mix, "mix", string(fleet.Default),
		"default; worst: every report changes every property; or steady: most reports change lastReportedDateTime alone")
	flags.StringVar(&l.journal, "journal", "", "`file` to write what was accepted to, one line of JSON a report")
	shares := pflag.NewFlagSet("shares", pflag.ContinueOnError)
	shares.Float64Var(&l.fleet.Partial, "partial", 0.1, "`share` of reports with some properties, or none; with --removed and --bad at most 0.99")
	shares.Float64Var(&l.fleet.Nulls, "nulls", 0.1, "`share` of null in partial reports, among the values that may be null")
	shares.Float64Var(&l.fleet.Removed, "removed", 0, "`share` of reports that delete their record; see --partial")
	shares.Float64Var(&l.fleet.Bad, "bad", 0.01, "`share` of reports that break a rule; see --partial")
	shares.Float64Var(&l.fleet.Duplicates, "duplicates", 0.02, "`share` of reports sent twice, up to 64 reports later")
	shares.Float64Var(&l.fleet.Reorder, "reorder", 0.05, "`share` of reports sent after up to 1023 that were made later")
	shares.Float64Var(&l.fleet.Late, "late", 0.01, "`share` of reports made up to two hours before they are sent")
	shares.DurationVar(&l.fleet.ClockSkew, "clock-skew", 0, "by how much devices' clocks are wrong, at most, one way or the other")
	shares.VisitAll(func(f *pflag.Flag) { l.shares = append(l.shares, f) })
	flags.AddFlagSet(shares)
}

// validate checks the flags. With a mix other than default it takes the shares away
// that were not asked for.
func (l *load) validate() error {
	mix, err := fleet.ParseMix(l.mix)
	if err != nil {
		return usagef("--mix: %w", err)
	}
	if l.fleet.Mix = mix; mix != fleet.Default {
		for _, share := range l.shares {
			if share.Changed {
				return usagef("--%s goes with --mix default only", share.Name)
			}
			if err := share.Value.Set("0"); err != nil {
				return err
			}
		}
	}
	if l.start != "" {
		start, err := compliance.ParseDateTimeOffset(l.start)
		if err != nil {
			return usagef("--start: %w", err)
		}
		if l.fleet.Start = start.Ticks().Time(); l.fleet.Start.Year() < 1970 || l.fleet.Start.After(time.Now()) {
			return usagef("--start lies before 1970 or in the future")
		}
	}
	if l.fleet.Devices < 1 || l.fleet.Policies < 1 || l.duration < 0 {
		return usagef("--devices and --policies are at least 1, --duration at least 0")
	}
	if err := l.fleet.Validate(); err != nil {
		return usagef("--%w", err) // It begins with the name of a flag.
	}
	return nil
}

// run sends the load.
func (l *load) run(ctx context.Context, nc *nats.Conn, log *slog.Logger) (summary fleet.Summary, err error) {
	of := fleet.Load{Fleet: l.fleet, Duration: l.duration, Reports: l.reports, Log: log}
	if l.journal != "" {
		file, err := os.OpenFile(l.journal, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return summary, fmt.Errorf("open journal: %w", err)
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		of.Journal = file
	}
	return of.Run(ctx, nc)
}

func printLoad(w io.Writer, s fleet.Summary) {
	fmt.Fprintf(w, "%d reports accepted, %d sent, %d failed; %d duplicates, %d bad, %d retries; %.1f a second for %.1f s\n",
		s.Accepted, s.Sent, s.Failed, s.Duplicates, s.Bad, s.Retries, s.Rate, s.Seconds)
}

func wait(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
