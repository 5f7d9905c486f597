package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/publisher"
)

// maxStdin is how much of standard input is read, in bytes: more than any stream
// takes.
const maxStdin = 1 << 20

// publishing are the flags of publish.
type publishing struct {
	status  string
	id      string
	at      string
	noTime  bool
	wait    bool
	timeout time.Duration
	out     output
}

func newPublish(c *common) *cobra.Command {
	var p publishing
	cmd := &cobra.Command{
		Use:   "publish POLICY DEVICE",
		Short: "Publish one report, from flags or a JSON body on standard input",
		Example: `  echo '{"status":"nonCompliant","platform":8}' | complianced publish my-policy my-device --wait
  complianced publish my-policy my-device --status compliant`,
		Args: args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := keyOf(args)
			if err != nil {
				return err
			}
			report, err := p.report(cmd.Context(), key, cmd.InOrStdin())
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), p.timeout)
			defer cancel()
			nc, err := c.clientNATS("publish")
			if err != nil {
				return err
			}
			defer nc.Close()
			sender, err := publisher.New(nc, publisher.Options{})
			if err != nil {
				return err
			}
			defer sender.Close()
			if p.wait {
				return p.publishAndWait(ctx, cmd.OutOrStdout(), sender, report)
			}
			ack, err := sender.Publish(ctx, report)
			if err != nil {
				return err
			}
			return p.printAck(cmd.OutOrStdout(), ack)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&p.status, "status", "", "the `status`; without it the body comes from standard input")
	flags.StringVar(&p.id, "event-id", "", "the event id (default a new UUID)")
	flags.StringVar(&p.at, "event-time", "", "the event time as 2026-01-31T12:00:00Z (default now)")
	flags.BoolVar(&p.noTime, "no-time", false, "send no event time: that of the body counts, else the store time")
	flags.BoolVar(&p.wait, "wait", false, "wait for what becomes of the report")
	flags.DurationVar(&p.timeout, "timeout", clientTimeout, "how long to try and to wait")
	p.out.add(cmd)
	return cmd
}

func (p *publishing) report(ctx context.Context, key compliance.Key, stdin io.Reader) (publisher.Outgoing, error) {
	report := publisher.Outgoing{Key: key, EventID: p.id, NoEventTime: p.noTime}
	if _, err := p.out.json(); err != nil {
		return report, err
	}
	if !publisher.ValidEventID(p.id) {
		return report, usagef("--event-id has a control character, or a space at an end")
	}
	if p.timeout <= 0 {
		return report, usagef("--timeout is more than 0")
	}
	if p.at != "" {
		at, err := compliance.ParseDateTimeOffset(p.at)
		if err != nil {
			return report, usagef("--event-time: %w", err)
		}
		report.EventTime = at.Ticks().Time()
	}
	if p.status != "" {
		body, err := json.Marshal(map[string]string{"status": p.status})
		report.Body = body
		return report, err
	}
	if file, ok := stdin.(*os.File); ok && isTerminal(file) {
		return report, usagef("no report: give a JSON body on standard input, or --status")
	}
	body, err := read(ctx, stdin)
	report.Body = body
	return report, err
}

// read reads standard input, or gives up with the context: nothing else ends a read
// from a terminal or a pipe.
func read(ctx context.Context, stdin io.Reader) (body []byte, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		body, err = io.ReadAll(io.LimitReader(stdin, maxStdin+1))
	}()
	select {
	case <-ctx.Done():
		return nil, errors.New("interrupted before the end of the body")
	case <-done:
	}
	if err != nil {
		return nil, fmt.Errorf("read the body: %w", err)
	}
	return body, nil
}

// acked is an acceptance as -o json prints it, with the names that a journal of
// simulate has.
type acked struct {
	Stream   string `json:"stream"`
	Sequence uint64 `json:"sequence"`
	ID       string `json:"id,omitempty"`
	Time     string `json:"time,omitempty"`
}

func (p *publishing) printAck(w io.Writer, ack publisher.Ack) error {
	if asJSON, _ := p.out.json(); !asJSON {
		_, err := fmt.Fprintf(w, "accepted as %s %d\n", ack.Stream, ack.Sequence)
		return err
	}
	line := acked{Stream: ack.Stream, Sequence: ack.Sequence, ID: ack.EventID}
	if !ack.EventTime.IsZero() {
		line.Time = compliance.FormatStored(ack.EventTime)
	}
	return json.NewEncoder(w).Encode(line)
}

// publishAndWait prints the result. A rejected report is exit status 1.
func (p *publishing) publishAndWait(ctx context.Context, w io.Writer, sender *publisher.Publisher, report publisher.Outgoing) error {
	result, err := sender.PublishAndWait(ctx, report)
	if err != nil {
		return err
	}
	if asJSON, _ := p.out.json(); asJSON {
		text, err := result.JSON()
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s\n", text)
	} else {
		fmt.Fprintf(w, "%s as %s %d\n", result.Outcome, result.Stream, result.Sequence)
		if result.Error != nil {
			for _, detail := range result.Error.Details {
				fmt.Fprintf(w, "  %s  %s  %s\n", detail.Code, plain(detail.Target), plain(detail.Message))
			}
		}
	}
	if result.Outcome == compliance.Rejected {
		return errors.New("the report was rejected and is kept as a dead letter")
	}
	return nil
}
