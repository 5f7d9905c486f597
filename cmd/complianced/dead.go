package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/deadletter"
)

func newDead(c *common) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dead",
		Short: "List, show, retry and purge dead letters",
		Long: `A report that can never be applied is kept as a dead letter, with the reason, for 30 days.
These commands list them, show what is wrong with one, send them again when the cause is gone, and
take them away.`,
		Example: `  complianced dead ls --code policyNotAllowed
  complianced dead show 12
  complianced dead retry --code futureEventTime
  complianced dead purge --until 2026-01-31`,
		Args: args(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newDeadLs(c), newDeadShow(c), newDeadRetry(c), newDeadPurge(c))
	return cmd
}

// choice are the flags and arguments that say which dead letters are meant.
type choice struct {
	codes          []string
	policy, device string
	since, until   string
	// sequences are the letters that are named, in the order given; where there are
	// none, those that the filter takes are meant.
	sequences []uint64
	filter    deadletter.Filter
}

func (h *choice) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringSliceVar(&h.codes, "code", nil, "only those with this `code`, as malformedJson; several are parted by commas")
	flags.StringVar(&h.policy, "policy", "", "only those of reports for this `policy`")
	flags.StringVar(&h.device, "device", "", "only those of reports of this `device`")
	flags.StringVar(&h.since, "since", "", "only those of reports stored at this `time` or later: 2026-01-31T12:00:00Z, or a day in UTC")
	flags.StringVar(&h.until, "until", "", "only those of reports stored at this `time` or earlier")
}

// notEmpty refuses flags that were given and say nothing: a script whose variable is not
// set would mean all of them.
func notEmpty(cmd *cobra.Command, names ...string) error {
	for _, name := range names {
		f := cmd.Flags().Lookup(name)
		if f != nil && f.Changed && (f.Value.String() == "" || f.Value.String() == "[]") {
			return usagef("--%s is empty: give it a value, or leave it out", name)
		}
	}
	return nil
}

// read checks the flags and arguments.
func (h *choice) read(cmd *cobra.Command, args []string) (err error) {
	if err := notEmpty(cmd, "code", "policy", "device", "since", "until"); err != nil {
		return err
	}
	for _, text := range args {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil || n == 0 {
			return usagef("%q is no sequence of a dead letter; dead ls lists them", text)
		}
		if !slices.Contains(h.sequences, n) {
			h.sequences = append(h.sequences, n)
		}
	}
	f := deadletter.Filter{Policy: h.policy, Device: h.device}
	for _, text := range h.codes {
		code := compliance.Code(text)
		if !slices.Contains(compliance.Codes(), code) {
			return usagef("--code %q is no code: %v", text, compliance.Codes())
		}
		f.Codes = append(f.Codes, code)
	}
	if h.policy != "" && !compliance.ValidID(h.policy) || h.device != "" && !compliance.ValidID(h.device) {
		return usagef("--policy and --device are ids of 1 to 128 characters of A-Z a-z 0-9 _ -")
	}
	if f.Since, _, err = instants("since", h.since); err != nil {
		return err
	}
	if _, f.Until, err = instants("until", h.until); err != nil {
		return err
	}
	if !f.Until.IsZero() && f.Since.After(f.Until) {
		return usagef("--since lies after --until: there is nothing between them")
	}
	if len(h.sequences) > 0 && h.filtered() {
		return usagef("give either sequences or flags that say which dead letters are meant")
	}
	h.filter = f
	return nil
}

// filtered says whether a flag leaves letters out.
func (h *choice) filtered() bool {
	return len(h.codes) > 0 || h.policy+h.device+h.since+h.until != ""
}

// openDead connects a command to the stream of the dead letters.
func (c *common) openDead(ctx context.Context, name string) (*nats.Conn, *deadletter.Box, error) {
	nc, err := c.clientNATS(name)
	if err != nil {
		return nil, nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	box, err := deadletter.Open(ctx, js)
	if err != nil {
		nc.Close()
		return nil, nil, explain(nc, err)
	}
	return nc, box, nil
}

// errUnreadable says that the list is not whole.
var errUnreadable = errors.New("not everything in the stream is a dead letter that this version can read; dead purge takes away a sequence that is named")

// unreadables counts the messages that are no dead letters, and tells each.
type unreadables struct {
	w io.Writer
	n int
}

// told reports whether err is of a message that is no letter.
func (u *unreadables) told(err error) bool {
	wrong, ok := errors.AsType[*deadletter.UnreadableError](err)
	if ok {
		u.n++
		fmt.Fprintln(u.w, "complianced:", wrong)
	}
	return ok
}

func (u *unreadables) err() error {
	if u.n > 0 {
		return errUnreadable
	}
	return nil
}

// letterLine is a dead letter as dead ls and dead show print it as JSON.
type letterLine struct {
	Sequence uint64          `json:"sequence"`
	Buried   string          `json:"buried"`
	Code     compliance.Code `json:"code"`
	Property string          `json:"property,omitempty"`
	// Subject, Stream, ReportSequence and Stored are of the report.
	Subject        string `json:"subject"`
	Stream         string `json:"stream"`
	ReportSequence uint64 `json:"reportSequence"`
	Stored         string `json:"stored"`
	RetryOf        string `json:"retryOf,omitempty"`
	// These three are what the letter lacks; LostBody is in bytes.
	DroppedHeaders  int              `json:"droppedHeaders,omitempty"`
	DroppedDeciding int              `json:"droppedDeciding,omitempty"`
	LostBody        int              `json:"lostBody,omitempty"`
	Error           compliance.Error `json:"error"`
}

func lineOf(l *deadletter.Letter) letterLine {
	return letterLine{
		Sequence: l.Sequence, Buried: compliance.FormatStored(l.Buried), Code: l.Code, Property: l.Property,
		Subject: l.Envelope.Subject, Stream: l.Stream, ReportSequence: l.Envelope.Sequence,
		Stored: compliance.FormatStored(l.Envelope.Stored), RetryOf: l.RetryOf, Error: l.Error,
		DroppedHeaders: l.Dropped, DroppedDeciding: l.DroppedDeciding, LostBody: l.LostBody,
	}
}

// idsOf returns policy and device as the subject has them, right or wrong, fit for a
// terminal.
func idsOf(l *deadletter.Letter) (policy, device string) {
	rest := strings.TrimPrefix(l.Envelope.Subject, compliance.StatusPrefix)
	policy, device, _ = strings.Cut(rest, ".")
	return plain(policy), plain(device)
}
