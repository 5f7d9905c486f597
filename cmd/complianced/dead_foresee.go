package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/deadletter"
	"github.com/complianced/complianced/publisher"
)

// foreseeing says what retries would come to, and sends nothing.
type foreseeing struct {
	dryRun bool
	// allow are the policies that serve takes; all where there are none.
	allow compliance.Patterns

	box     *deadletter.Box
	kin     *kinship
	mending *mending
	stamper *publisher.Stamper
	asJSON  bool
	came    map[string]int
	// unknown is how many were refused for their policy, and no policies are given.
	unknown int
}

// retryTaken is a report that would be applied, unchanged or stale.
const retryTaken = "taken"

// foreseen are all that a retry can be foreseen to come to, and how that is told.
func foreseen() [][2]string {
	return [][2]string{
		{retryTaken, "would be taken"}, {string(compliance.Rejected), "would be rejected"}, {retryFailed, "would not be sent"}, {retryGone, "is gone"},
	}
}

func (f *foreseeing) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&f.dryRun, "dry-run", false, "send nothing, and say what each retry would come to")
	flags.StringSliceVar((*[]string)(&f.allow), "allow-policies", nil, "as with serve: the `patterns` of the policies that it takes; for --dry-run")
}

func (f *foreseeing) validate(cmd *cobra.Command) error {
	if err := notEmpty(cmd, "allow-policies"); err != nil {
		return err
	}
	if cmd.Flags().Changed("allow-policies") && !f.dryRun {
		return usagef("--allow-policies goes with --dry-run: a retry takes what serve takes")
	}
	if err := f.allow.Validate(); err != nil {
		return usagef("--allow-policies: %w", err)
	}
	return nil
}

// foresee says of each letter what its retry would come to now.
func (f *foreseeing) foresee(cmd *cobra.Command, box *deadletter.Box, h *choice, m *mending, asJSON bool) (err error) {
	unreadable := unreadables{w: cmd.ErrOrStderr()}
	sequences, kin, err := h.toRetry(cmd.Context(), box, &unreadable)
	if err != nil {
		return err
	}
	if len(sequences) == 0 {
		return unreadable.err()
	}
	f.box, f.kin, f.mending, f.asJSON, f.came = box, kin, m, asJSON, map[string]int{}
	if f.stamper, err = publisher.NewStamper("", time.Now, time.Time{}); err != nil {
		return err
	}
	progress := newProgress(cmd.ErrOrStderr(), "looking at dead letters", len(sequences), progressEvery)
	defer progress.end()
	for _, sequence := range sequences {
		told := f.one(cmd.Context(), sequence)
		if cmd.Context().Err() != nil {
			return errors.New("interrupted; nothing was sent")
		}
		progress.clear()
		if err := f.tell(cmd.OutOrStdout(), told); err != nil {
			return err
		}
		progress.add()
	}
	return errors.Join(f.conclude(cmd.ErrOrStderr(), len(sequences)), unreadable.err())
}

// one decodes what the retry would send, as a worker would that comes upon it now.
func (f *foreseeing) one(ctx context.Context, sequence uint64) retried {
	told := retried{Letter: sequence, Result: retryFailed}
	letter, report, ok := told.read(ctx, f.box, f.kin, f.mending)
	if !ok {
		return told
	}
	if _, err := f.stamper.Stamp(report); err != nil {
		told.Reason = err.Error()
		return told
	}
	if letter.Code == compliance.PolicyNotAllowed && len(f.allow) == 0 {
		f.unknown++
	}
	e := compliance.Envelope{Subject: report.Key.Subject(), Header: report.Header, Body: report.Body, Sequence: 1, Stored: time.Now()}
	if _, rejection := (compliance.Rules{Allow: f.allow}).Decode(&e); rejection != nil {
		object := rejection.ErrorObject()
		told.Result, told.Error = string(compliance.Rejected), &object
		return told
	}
	told.Result = retryTaken
	return told
}

// tell prints what a retry would come to.
func (f *foreseeing) tell(w io.Writer, told retried) error {
	f.came[told.Result]++
	if f.asJSON {
		return encodeLine(w, told)
	}
	for _, words := range foreseen() {
		if words[0] == told.Result {
			_, err := fmt.Fprintf(w, "%d  %s%s\n", told.Letter, words[1], told.why())
			return err
		}
	}
	return nil
}

// conclude says how many would come to what.
func (f *foreseeing) conclude(w io.Writer, total int) error {
	var parts []string
	for _, words := range foreseen() {
		if n := f.came[words[0]]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, words[1]))
		}
	}
	fmt.Fprintf(w, "nothing was sent: of %d dead letters %s\n", total, strings.Join(parts, ", "))
	if f.unknown > 0 {
		fmt.Fprintf(w, "%d were refused for their policy; whether serve takes their policies is not known: give its --allow-policies\n", f.unknown)
	}
	if f.came[retryTaken]+f.came[retryGone] < total {
		return errors.New("not every report would be taken")
	}
	return nil
}
