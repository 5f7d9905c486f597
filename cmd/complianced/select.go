package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/ingest"
	"github.com/complianced/complianced/replay"
)

// selecting are the flags that say which reports are meant.
type selecting struct {
	since, until string
	from         uint64
	policy       string
	device       string
	codes        []string
	allow        []string
}

func (s *selecting) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&s.since, "since", "", "the reports stored not before this `time`, as 2026-01-31T12:00:00Z or 2026-01-31")
	flags.StringVar(&s.until, "until", "", "the reports stored not after this `time`; of a day its end counts")
	flags.Uint64Var(&s.from, "from-seq", 0, "the reports from this `sequence` on; for a deployment of one partition")
	flags.StringVar(&s.policy, "policy", "", "the reports of this `policy`")
	flags.StringVar(&s.device, "device", "", "the reports of this `device`")
	flags.StringSliceVar(&s.codes, "code", nil, "the reports that are refused with this `code`; several are one or the other")
	flags.StringSliceVar(&s.allow, "allow-policies", nil, "as with serve: for --code policyNotAllowed and --dry-run")
}

// filter is the part of the flags that looks into the reports.
func (s *selecting) filter(cmd *cobra.Command) (f replay.Filter, err error) {
	if err := notEmpty(cmd, "since", "until", "policy", "device", "code", "allow-policies", "file", "resume",
		"to-data-dir", "to-"+natsURLFlag, "to-"+redisURLFlag); err != nil {
		return f, err
	}
	f = replay.Filter{Policy: s.policy, Device: s.device, Allow: s.allow}
	for name, id := range map[string]string{"policy": s.policy, "device": s.device} {
		if id != "" && !compliance.ValidID(id) {
			return f, usagef("--%s is an id of 1 to 128 characters of A-Z a-z 0-9 _ -", name)
		}
	}
	for _, code := range s.codes {
		if !slices.Contains(compliance.Codes(), compliance.Code(code)) {
			return f, usagef("--code %q is no code: %v", code, compliance.Codes())
		}
		f.Codes = append(f.Codes, compliance.Code(code))
	}
	if err := f.Allow.Validate(); err != nil {
		return f, usagef("--allow-policies: %w", err)
	}
	return f, nil
}

// times are the bounds of the store time.
func (s *selecting) times() (since, until time.Time, err error) {
	if since, _, err = instants("since", s.since); err != nil {
		return since, until, err
	}
	if _, until, err = instants("until", s.until); err != nil {
		return since, until, err
	}
	if !until.IsZero() && since.After(until) {
		return since, until, usagef("--since lies after --until: there is nothing between them")
	}
	return since, until, nil
}

// streams opens the streams of a deployment.
func (s *selecting) streams(ctx context.Context, js jetstream.JetStream, continued replay.Position) (*replay.Streams, error) {
	ctx, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	layout, err := ingest.ReadLayout(ctx, js)
	if err != nil {
		return nil, err
	}
	if s.from > 0 && layout.Partitions > 1 {
		return nil, usagef("--from-seq names a report of one stream, and this deployment has %d: use --since", layout.Partitions)
	}
	names := make([]string, layout.Partitions)
	for n := range names {
		names[n] = ingest.StreamName(layout, n)
	}
	since, until, err := s.times()
	if err != nil {
		return nil, err
	}
	return replay.OpenStreams(ctx, js, names, replay.Selection{Since: since, Until: until, From: s.from, Continued: continued})
}

// words name the selection, for a resume file.
func (s *selecting) words() string {
	return strings.Join([]string{
		s.since, s.until, itoa(s.from), s.policy, s.device, strings.Join(s.codes, ","), strings.Join(s.allow, ","),
	}, "|")
}
