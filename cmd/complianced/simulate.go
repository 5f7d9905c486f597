package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/internal/fleet"
)

// load is a synthetic load.
type load struct {
	fleet    fleet.Options
	rate     float64
	duration time.Duration
}

func newSimulate(c *common) *cobra.Command {
	var l load
	cmd := &cobra.Command{
		Use:   "simulate",
		Short: "Publish the reports of a synthetic fleet",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := l.validate(); err != nil {
				return err
			}
			nc, err := c.clientNATS("simulate")
			if err != nil {
				return err
			}
			defer nc.Close()
			n, err := l.run(cmd.Context(), nc)
			fmt.Fprintf(cmd.OutOrStdout(), "%d reports accepted\n", n)
			return err
		},
	}
	l.add(cmd)
	return cmd
}

func (l *load) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.IntVar(&l.fleet.Devices, "devices", 1000, "number of devices")
	flags.IntVar(&l.fleet.Policies, "policies", 3, "number of policies")
	flags.Uint64Var(&l.fleet.Seed, "seed", 1, "the same seed gives the same fleet")
	flags.Float64Var(&l.rate, "rate", 100, "reports a second; 0 is as fast as possible")
	flags.DurationVar(&l.duration, "duration", 0, "how long; 0 is until interrupted")
	flags.Float64Var(&l.fleet.Partial, "partial", 0.1, "share of reports with the status alone")
	flags.Float64Var(&l.fleet.Duplicates, "duplicates", 0.02, "share of reports sent twice")
	flags.Float64Var(&l.fleet.Late, "late", 0.05, "share of reports sent out of order")
	flags.Float64Var(&l.fleet.Bad, "bad", 0.01, "share of reports that break a rule")
}

func (l *load) validate() error {
	if l.fleet.Devices < 1 || l.fleet.Policies < 1 || l.rate < 0 || l.duration < 0 {
		return usagef("--devices and --policies are at least 1, --rate and --duration at least 0")
	}
	for _, share := range []float64{l.fleet.Partial, l.fleet.Duplicates, l.fleet.Late, l.fleet.Bad} {
		if share < 0 || share > 1 {
			return usagef("a share is from 0 to 1")
		}
	}
	return nil
}

// maxPending is how many reports wait for their PubAck at once.
const maxPending = 2000

// run publishes until the duration is over or the context ends, and returns how
// many reports were accepted.
func (l *load) run(ctx context.Context, nc *nats.Conn) (int, error) {
	if l.duration > 0 {
		timed, cancel := context.WithTimeout(ctx, l.duration)
		defer cancel()
		ctx = timed
	}
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(maxPending),
		jetstream.WithPublishAsyncTimeout(clientTimeout))
	if err != nil {
		return 0, err
	}
	devices := fleet.New(l.fleet)
	records := l.fleet.Devices * l.fleet.Policies
	pending := make(chan jetstream.PubAckFuture, maxPending)
	counted := make(chan result, 1)
	go func() { counted <- count(pending) }()
	began := time.Now()
	for n := 0; ctx.Err() == nil && err == nil; n++ {
		// Each device says once who it is, in the midst of the others' reports.
		report := devices.Next(time.Now())
		if n%2 == 0 && n/2 < records {
			report = devices.First(n/2, time.Now())
		}
		var future jetstream.PubAckFuture
		if future, err = js.PublishMsgAsync(message(report)); err == nil {
			pending <- future
		}
		if l.rate > 0 {
			wait(ctx, time.Until(began.Add(time.Duration(float64(n+1)/l.rate*float64(time.Second)))))
		}
	}
	close(pending)
	of := <-counted
	return of.accepted, errors.Join(err, of.err)
}

type result struct {
	accepted int
	err      error
}

func count(pending <-chan jetstream.PubAckFuture) result {
	var r result
	for future := range pending {
		select {
		case <-future.Ok():
			r.accepted++
		case err := <-future.Err():
			r.err = fmt.Errorf("a report was not accepted: %w; is the stream there? see complianced provision", err)
		}
	}
	return r
}

func message(report fleet.Report) *nats.Msg {
	m := nats.NewMsg(report.Key.Subject())
	m.Header.Set(compliance.HeaderEventID, report.EventID)
	m.Header.Set(compliance.HeaderEventTime, compliance.FormatStored(report.Time))
	m.Data = report.Body
	return m
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
