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
	var f foreseeing
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
                              was a retry of, and those of its retries. Their sequences are told
  rejected                    the report is refused again: there is one dead letter more, which names
                              the first one. The first one stays
  gone                        another command took the dead letter away meanwhile
  unknown                     accepted, or perhaps so, but no result was heard: the dead letter stays.
                              The same command is safe to give again
  failed                      refused by the server, or not sent; the reason is told. The dead letter
                              stays

A dead letter whose retry was refused is retried by the flags no more, because the dead letter of
the retry is; where it is named, it is. What says that it is a retry is taken for one only where it
is of the same record with the same event id, or, where both have no id, of the same event time.

Dead letters are kept for 30 days and the tombstones of removed records, by default, for 14 (serve
--tombstones): a retry that is older than the tombstone of a record that was removed brings the
record back.

With --patch each payload is changed first by a JSON merge patch (RFC 7396): its members replace
those of the payload, and null takes a member out. With --body the payload of one is replaced. The
event time stays that of the first payload: another lastReportedDateTime counts only where that of
the first one was at fault or could not be read. What is wrong in ce-time is mended by --event-time.

With --dry-run nothing is sent or taken away. It says of each what a worker would say now: taken
(applied, unchanged or stale), rejected, or that it would not be sent. Give it the --allow-policies of
serve: without them every policy counts as taken.

The exit status is 0 where each was, or would be, applied, unchanged, stale or gone.`,
		Example: `  complianced dead retry --code policyNotAllowed
  complianced dead retry --code typeMismatch --patch '{"platform":8}' --dry-run
  complianced dead retry 12 --patch '{"platform":8}'
  complianced dead retry 13 --body '{"status":"compliant"}'`,
		Args: args(cobra.ArbitraryArgs),
		RunE: func(cmd *cobra.Command, args []string) error {
			asJSON, err := out.json()
			if err != nil {
				return err
			}
			if err := h.read(cmd, args); err != nil {
				return err
			}
			if err := notEmpty(cmd, "patch", "body", "event-time"); err != nil {
				return err
			}
			if err := m.validate(len(h.sequences)); err != nil {
				return err
			}
			if timeout <= 0 {
				return usagef("--timeout is more than 0")
			}
			if err := f.validate(cmd); err != nil {
				return err
			}
			nc, box, err := c.openDead(cmd.Context(), "dead retry")
			if err != nil {
				return err
			}
			defer nc.Close()
			if f.dryRun {
				return f.foresee(cmd, box, &h, &m, asJSON)
			}
			return retry(cmd, nc, box, &h, &m, timeout, asJSON)
		},
	}
	h.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&m.patch, "patch", "", "change each payload first by this JSON merge `patch`")
	flags.StringVar(&m.body, "body", "", "send this `payload` instead; for one dead letter that is named")
	flags.StringVar(&m.at, "event-time", "", "send it with this event `time`, as 2026-01-31T12:00:00Z; for one dead letter that is named")
	flags.DurationVar(&timeout, "timeout", clientTimeout, "how long to try each, and to wait for its result")
	f.add(cmd)
	out.add(cmd)
	return cmd
}

func retry(cmd *cobra.Command, nc *nats.Conn, box *deadletter.Box, h *choice, m *mending, timeout time.Duration, asJSON bool) error {
	unreadable := unreadables{w: cmd.ErrOrStderr()}
	sequences, kin, err := h.toRetry(cmd.Context(), box, &unreadable)
	if err != nil {
		return err
	}
	if len(sequences) == 0 {
		return unreadable.err()
	}
	sender, err := publisher.New(nc, publisher.Options{})
	if err != nil {
		return err
	}
	defer sender.Close()
	r := &retrying{
		nc: nc, box: box, kin: kin, sender: sender, mending: m, timeout: timeout, w: cmd.OutOrStdout(), asJSON: asJSON,
		progress: newProgress(cmd.ErrOrStderr(), "retrying", len(sequences), progressEvery), came: map[string]int{},
	}
	r.run(cmd.Context(), sequences)
	r.progress.end()
	return errors.Join(r.conclude(cmd.Context(), cmd.ErrOrStderr(), len(sequences)), unreadable.err())
}

// toRetry returns the sequences of what is meant, and which letters belong together. It
// tells how many more the flags take whose retry has a dead letter of its own, and that
// there is none.
func (h *choice) toRetry(ctx context.Context, box *deadletter.Box, unreadable *unreadables) (sequences []uint64, kin *kinship, err error) {
	kin = newKinship()
	var meant []uint64
	err = box.Each(ctx, deadletter.Filter{}, func(l deadletter.Letter, err error) error {
		switch {
		case err == nil:
			kin.add(&l)
			if h.filter.Match(&l) {
				meant = append(meant, l.Sequence)
			}
		case len(h.sequences) == 0:
			unreadable.told(err)
		}
		return nil
	})
	if len(h.sequences) > 0 || err != nil {
		return h.sequences, kin, err
	}
	skipped := 0
	for _, sequence := range meant {
		if len(kin.later(sequence)) > 0 {
			skipped++
			continue
		}
		sequences = append(sequences, sequence)
	}
	if skipped > 0 {
		fmt.Fprintf(unreadable.w, "%d dead letters are left alone, because those of their retries are there\n", skipped)
	}
	if len(sequences) == 0 {
		fmt.Fprintln(unreadable.w, "there is no such dead letter")
	}
	return sequences, kin, nil
}

// What becomes of a retry beside the outcomes of a report.
const (
	retryGone    = "gone"
	retryUnknown = "unknown"
	retryFailed  = "failed"
)

// retryResults are all that can become of a retry.
func retryResults() []string {
	var all []string
	for _, outcome := range compliance.Outcomes() {
		all = append(all, string(outcome))
	}
	return append(all, retryGone, retryUnknown, retryFailed)
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
	// Deleted are the dead letters that were taken away: this one, those that it was a
	// retry of, and those of its retries.
	Deleted []uint64 `json:"deleted,omitempty"`

	// kept says that the letter should be away, and is not.
	kept bool
	// stop says why the others are not to be tried.
	stop error
}

// retrying sends letters again.
type retrying struct {
	nc       *nats.Conn
	box      *deadletter.Box
	kin      *kinship
	sender   *publisher.Publisher
	mending  *mending
	timeout  time.Duration
	asJSON   bool
	progress *progress

	mu   sync.Mutex // guards what follows
	w    io.Writer
	came map[string]int
	stop error
	err  error
}

// run sends all. It stops where a result is not heard, because nobody can say then what
// becomes of the others, and where a right is missing.
func (r *retrying) run(ctx context.Context, sequences []uint64) {
	var group errgroup.Group
	group.SetLimit(maxRetries)
	for i, sequence := range sequences {
		if ctx.Err() != nil || r.stopped() {
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

func (r *retrying) stopped() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.stop != nil
}

// one sends a letter again, and takes it out of the list where it was taken.
func (r *retrying) one(ctx context.Context, sequence uint64) retried {
	told := retried{Letter: sequence, Result: retryFailed}
	_, report, ok := told.read(ctx, r.box, r.kin, r.mending)
	if !ok {
		return told
	}
	within, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	result, err := r.sender.PublishAndWait(within, report)
	if err != nil {
		told.unheard(err)
		return told
	}
	told.Result, told.Stream, told.Sequence, told.Error = string(result.Outcome), result.Stream, result.Sequence, result.Error
	if result.Outcome != compliance.Rejected {
		// What was applied is not to be listed, also where the command is interrupted now.
		if err := r.forget(context.WithoutCancel(ctx), &told); err != nil {
			told.kept, told.Reason = true, "the dead letter is still there: "+explain(r.nc, err).Error()
			told.stop = errors.New("stopped, because dead letters cannot be deleted; the same command goes on with the others")
		}
	}
	return told
}

// read returns the letter and the report that is sent for it. Where there is none, it says
// why.
func (t *retried) read(ctx context.Context, box *deadletter.Box, kin *kinship, m *mending) (letter deadletter.Letter, report publisher.Outgoing, ok bool) {
	letter, err := getLetter(ctx, box, t.Letter)
	if err != nil {
		if t.Reason = err.Error(); errors.Is(err, deadletter.ErrNotFound) && kin.has(t.Letter) {
			t.Result = retryGone // It was there when this command began.
		}
		return letter, report, false
	}
	t.RetryOf = letter.Report()
	if report, err = again(&letter, m); err != nil {
		t.Reason = err.Error()
	}
	return letter, report, err == nil
}

var (
	errUnheard = errors.New("stopped, because a result was not heard; the same command goes on with the others")
	errNoRight = errors.New("stopped, because these credentials are not allowed what it takes; ask the operator for others")
)

// unheard says of a report that has no result what is known of it.
func (t *retried) unheard(err error) {
	silent, accepted := errors.AsType[*publisher.NoResultError](err)
	unacked, open := errors.AsType[*publisher.UnackedError](err)
	t.Reason = err.Error()
	switch {
	case accepted:
		t.Result, t.Stream, t.Sequence = retryUnknown, silent.Ack.Stream, silent.Ack.Sequence
		t.Reason, t.stop = "no result was heard; is complianced serve running?", errUnheard
		if errors.Is(silent.Why, publisher.ErrNotAllowed) {
			t.Reason, t.stop = "these credentials may not subscribe to compliance.result.>, where results come", errNoRight
		}
	case open && unacked.Attempts > 0:
		t.Result, t.stop = retryUnknown, errUnheard
	case errors.Is(err, publisher.ErrNotAllowed):
		t.stop = errNoRight
	}
}

// why is the reason as a line has it.
func (t *retried) why() string {
	switch {
	case t.Error != nil:
		return fmt.Sprintf(": %s: %s", t.Error.Inner.Code, plain(t.Error.Message))
	case t.kept || t.Reason == "": // The error at the end has it.
		return ""
	}
	return ": " + plain(t.Reason)
}

// forget deletes a letter and those that belong to it.
func (r *retrying) forget(ctx context.Context, t *retried) error {
	for _, sequence := range append([]uint64{t.Letter}, r.kin.of(t.Letter)...) {
		if err := deleteLetter(ctx, r.box, sequence); err != nil {
			return err
		}
		t.Deleted = append(t.Deleted, sequence)
	}
	return nil
}

// tell prints what became of a letter.
func (r *retrying) tell(told retried) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.progress.add()
	r.progress.clear()
	r.came[told.Result]++
	if r.stop == nil {
		r.stop = told.stop
	}
	var err error
	if told.kept {
		err = fmt.Errorf("dead letter %d: %s", told.Letter, told.Reason)
	}
	if r.asJSON {
		err = errors.Join(err, encodeLine(r.w, told))
	} else {
		where := ""
		if told.Stream != "" {
			where = " as " + compliance.RetryOf(told.Stream, told.Sequence)
		}
		for i, other := range told.Deleted[min(1, len(told.Deleted)):] {
			if i == 0 {
				where += "; with it went"
			}
			where += " " + strconv.FormatUint(other, 10)
		}
		fmt.Fprintf(r.w, "%d  %s%s%s\n", told.Letter, told.Result, where, told.why())
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
	good := r.came[string(compliance.Applied)] + r.came[string(compliance.Unchanged)] + r.came[string(compliance.Stale)] + r.came[retryGone]
	switch {
	case r.err != nil:
		return r.err
	case ctx.Err() != nil:
		return errors.New("interrupted; the same command goes on with the others")
	case n < total:
		return r.stop
	case good < total:
		return errors.New("not every report was taken; complianced dead ls shows what is left")
	}
	return nil
}
