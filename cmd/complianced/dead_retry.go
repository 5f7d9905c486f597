package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/deadletter"
	"github.com/complianced/complianced/publisher"
)

// maxRetries is how many retries are under way at once.
const maxRetries = 64

func newDeadRetry(c *common) *cobra.Command {
	var h choice
	var m mending
	var out output
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "retry [SEQUENCE...]",
		Short: "Send the reports of dead letters again",
		Long: `Sends the reports of the dead letters that are named, or that the flags say; without either, of
all. Each is sent as it was, with its own event id and event time, so that it counts where it would
have counted; a report that came without an id has the same one again unless its payload is
changed. What was too far in the future when it was stored is looked at by the time of now. The
header Compliance-Retry-Of names the report that was refused.

The command waits for what becomes of each and says it:

  applied, unchanged, stale   the dead letter is taken out of the list, and with it those that it
                              was a retry of
  rejected                    the report is refused again: there is one dead letter more, which names
                              the first one. The first one stays
  unknown                     accepted, but no result was heard: the dead letter stays. The same
                              command is safe to give again
  failed                      not sent; the reason is told

A dead letter whose retry was refused is retried by the flags no more, because the dead letter of
the retry is; where it is named, it is.

With --patch each payload is changed first by a JSON merge patch (RFC 7396): its members replace
those of the payload, and null takes a member out. With --body the payload of one is replaced.

The exit status is 0 where each was applied, unchanged or stale.`,
		Example: `  complianced dead retry --code policyNotAllowed
  complianced dead retry 12 --patch '{"platform":8}'
  complianced dead retry 13 --body '{"status":"compliant"}'`,
		Args: args(cobra.ArbitraryArgs),
		RunE: func(cmd *cobra.Command, args []string) error {
			asJSON, err := out.json()
			if err != nil {
				return err
			}
			if err := h.read(args); err != nil {
				return err
			}
			if err := m.validate(len(h.sequences)); err != nil {
				return err
			}
			if timeout <= 0 {
				return usagef("--timeout is more than 0")
			}
			nc, box, err := c.openDead(cmd.Context(), "dead retry")
			if err != nil {
				return err
			}
			defer nc.Close()
			return retry(cmd, nc, box, &h, &m, timeout, asJSON)
		},
	}
	h.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&m.patch, "patch", "", "change each payload first by this JSON merge `patch`")
	flags.StringVar(&m.body, "body", "", "send this `payload` instead; for one dead letter that is named")
	flags.DurationVar(&timeout, "timeout", clientTimeout, "how long to try each, and to wait for its result")
	out.add(cmd)
	return cmd
}

func retry(cmd *cobra.Command, nc *nats.Conn, box *deadletter.Box, h *choice, m *mending, timeout time.Duration, asJSON bool) error {
	unreadable := unreadables{w: cmd.ErrOrStderr()}
	sequences, skipped, err := h.toRetry(cmd.Context(), box, &unreadable)
	if err != nil {
		return err
	}
	if skipped > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "%d dead letters are left alone, because those of their retries are there\n", skipped)
	}
	if len(sequences) == 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), "there is no such dead letter")
		return unreadable.err()
	}
	sender, err := publisher.New(nc, publisher.Options{})
	if err != nil {
		return err
	}
	defer sender.Close()
	r := &retrying{
		box: box, sender: sender, mending: m, timeout: timeout, w: cmd.OutOrStdout(), asJSON: asJSON,
		progress: newProgress(cmd.ErrOrStderr(), "retrying", len(sequences), progressEvery), came: map[string]int{},
	}
	r.run(cmd.Context(), sequences)
	r.progress.end()
	return errors.Join(r.conclude(cmd.Context(), cmd.ErrOrStderr(), len(sequences)), unreadable.err())
}

// toRetry returns the sequences of what is meant, and how many more the flags take whose
// retry has a dead letter of its own.
func (h *choice) toRetry(ctx context.Context, box *deadletter.Box, unreadable *unreadables) (sequences []uint64, skipped int, err error) {
	if len(h.sequences) > 0 {
		return h.sequences, 0, nil
	}
	type meant struct {
		sequence uint64
		report   string
	}
	var all []meant
	retried := map[string]bool{}
	err = box.Each(ctx, deadletter.Filter{}, func(l deadletter.Letter, err error) error {
		if err != nil {
			unreadable.told(err)
			return nil
		}
		if l.RetryOf != "" {
			retried[l.RetryOf+" "+l.Envelope.Subject] = true // A device can claim this of its own reports only.
		}
		if h.filter.Match(&l) {
			all = append(all, meant{l.Sequence, l.Report() + " " + l.Envelope.Subject})
		}
		return nil
	})
	for _, one := range all {
		if retried[one.report] {
			skipped++
			continue
		}
		sequences = append(sequences, one.sequence)
	}
	return sequences, skipped, err
}

// What becomes of a retry beside the outcomes of a report.
const (
	retryUnknown = "unknown"
	retryFailed  = "failed"
)

// retryResults are all that can become of a retry.
func retryResults() []string {
	var all []string
	for _, outcome := range compliance.Outcomes() {
		all = append(all, string(outcome))
	}
	return append(all, retryUnknown, retryFailed)
}

// retried is what became of a retry, as -o json prints it.
type retried struct {
	// Letter is the sequence of the dead letter, and RetryOf its report.
	Letter  uint64 `json:"letter"`
	RetryOf string `json:"retryOf,omitempty"`
	Result  string `json:"result"`
	// Stream and Sequence are where the report was stored.
	Stream   string            `json:"stream,omitempty"`
	Sequence uint64            `json:"sequence,omitempty"`
	Error    *compliance.Error `json:"error,omitempty"`
	Reason   string            `json:"reason,omitempty"`
}

// retrying sends letters again.
type retrying struct {
	box      *deadletter.Box
	sender   *publisher.Publisher
	mending  *mending
	timeout  time.Duration
	asJSON   bool
	progress *progress

	mu   sync.Mutex // guards what follows
	w    io.Writer
	came map[string]int
	// deaf says that a result was not heard.
	deaf bool
	err  error
}

// run sends all. It stops where a result is not heard: then nobody can say what becomes of
// the others.
func (r *retrying) run(ctx context.Context, sequences []uint64) {
	var group errgroup.Group
	group.SetLimit(maxRetries)
	for i, sequence := range sequences {
		if ctx.Err() != nil || r.isDeaf() {
			break
		}
		group.Go(func() error {
			r.tell(r.one(ctx, sequence))
			return nil
		})
		if i == 0 {
			_ = group.Wait() // What is wrong with all shows with the first.
		}
	}
	_ = group.Wait()
}

func (r *retrying) isDeaf() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.deaf
}

// one sends a letter again, and takes it out of the list where it was taken.
func (r *retrying) one(ctx context.Context, sequence uint64) retried {
	told := retried{Letter: sequence, Result: retryFailed}
	letter, err := getLetter(ctx, r.box, sequence)
	if err != nil {
		told.Reason = err.Error()
		return told
	}
	told.RetryOf = letter.Report()
	report, err := again(&letter, r.mending)
	if err != nil {
		told.Reason = err.Error()
		return told
	}
	within, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	result, err := r.sender.PublishAndWait(within, report)
	if silent, ok := errors.AsType[*publisher.NoResultError](err); ok {
		told.Result, told.Stream, told.Sequence = retryUnknown, silent.Ack.Stream, silent.Ack.Sequence
		told.Reason = "no result was heard; is complianced serve running?"
		return told
	}
	if err != nil {
		told.Reason = err.Error()
		return told
	}
	told.Result, told.Stream, told.Sequence, told.Error = string(result.Outcome), result.Stream, result.Sequence, result.Error
	if result.Outcome != compliance.Rejected {
		// What was applied is not to be listed, also where the command is interrupted now.
		if err := r.forget(context.WithoutCancel(ctx), &letter); err != nil {
			told.Reason = "the dead letter is still there: " + err.Error()
		}
	}
	return told
}

// forget deletes a letter and those that it is a retry of. That it is one the device says,
// and can say falsely: only letters of the same record go.
func (r *retrying) forget(ctx context.Context, l *deadletter.Letter) error {
	if err := deleteLetter(ctx, r.box, l.Sequence); err != nil {
		return err
	}
	stream, number, _ := cutLast(l.RetryOf)
	sequence, err := strconv.ParseUint(number, 10, 64)
	if err != nil || compliance.RetryOf(stream, sequence) != l.RetryOf || strings.ContainsAny(stream, ".*> \t") {
		return nil // It is no retry.
	}
	ctx, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	first, err := r.box.Of(ctx, stream, sequence)
	_, unreadable := errors.AsType[*deadletter.UnreadableError](err)
	switch {
	case errors.Is(err, deadletter.ErrNotFound), unreadable:
		return nil
	case err != nil:
		return err
	case first.Envelope.Subject != l.Envelope.Subject:
		return nil
	}
	return r.forget(ctx, &first)
}

// cutLast cuts a text around its last dot.
func cutLast(text string) (before, after string, found bool) {
	if i := strings.LastIndexByte(text, '.'); i >= 0 {
		return text[:i], text[i+1:], true
	}
	return text, "", false
}

// tell prints what became of a letter.
func (r *retrying) tell(told retried) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.progress.add()
	r.progress.clear()
	r.came[told.Result]++
	r.deaf = r.deaf || told.Result == retryUnknown
	var err error
	if told.Reason != "" && told.Result != retryUnknown && told.Result != retryFailed {
		err = fmt.Errorf("dead letter %d: %s", told.Letter, told.Reason)
	}
	if r.asJSON {
		err = errors.Join(err, encodeLine(r.w, told))
	} else {
		why := plain(told.Reason)
		if told.Error != nil {
			why = fmt.Sprintf("%s: %s", told.Error.Inner.Code, plain(told.Error.Message))
		}
		where := ""
		if told.Stream != "" {
			where = " as " + compliance.RetryOf(told.Stream, told.Sequence)
		}
		if why != "" {
			why = ": " + why
		}
		fmt.Fprintf(r.w, "%d  %s%s%s\n", told.Letter, told.Result, where, why)
	}
	r.err = errors.Join(r.err, err)
}

// conclude says how many came to what.
func (r *retrying) conclude(ctx context.Context, w io.Writer, total int) error {
	var parts []string
	n := 0
	for _, result := range retryResults() {
		if count := r.came[result]; count > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", count, result))
			n += count
		}
	}
	fmt.Fprintf(w, "%d of %d dead letters retried: %s\n", n, total, strings.Join(parts, ", "))
	good := r.came[string(compliance.Applied)] + r.came[string(compliance.Unchanged)] + r.came[string(compliance.Stale)]
	switch {
	case r.err != nil:
		return r.err
	case ctx.Err() != nil:
		return errors.New("interrupted; the same command goes on with the others")
	case n < total:
		return errors.New("stopped, because a result was not heard; the same command goes on with the others")
	case good < total:
		return errors.New("not every report was taken; complianced dead ls shows what is left")
	}
	return nil
}
