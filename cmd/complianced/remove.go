package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/publisher"
	"github.com/complianced/complianced/store"
)

// maxRemovals is how many removals are under way at once.
const maxRemovals = 256

func newRemove(c *common) *cobra.Command {
	var q store.Query
	var yes, noWait bool
	cmd := &cobra.Command{
		Use:   "remove --device D | --policy P",
		Short: "Remove all records of a device or of a policy",
		Long: `Removes all records that a device or a policy has, by a report {"@removed":{}} for each of them:
what is removed stays so when the state is built anew from the stream. It is stamped with the
later of now and one tick after the record's newest event, so that a device whose clock is ahead
does not survive it. Then the command waits until the workers have applied the last of them.

What was reported before its record was removed brings nothing back, for as long as serve keeps the
tombstone (--tombstones, 14 days by default); what is reported later does. A late report of a device that had no record makes one, unless the policy
has left --allow-policies of serve. A removal is taken of every policy: to retire one, take it out
of --allow-policies first, and remove it then.

A run that was interrupted is continued by the same command, because what is removed is not
listed any more.`,
		Example: `  complianced remove --device my-device
  complianced remove --policy my-policy --yes`,
		Args: args(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case (q.Device == "") == (q.Policy == ""):
				return usagef("remove what? give either --device or --policy")
			case !compliance.ValidID(q.Device + q.Policy):
				return usagef("--device and --policy are ids of 1 to 128 characters of A-Z a-z 0-9 _ -")
			}
			return c.remove(cmd, q, yes, noWait)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&q.Device, "device", "", "the `device` whose records are removed")
	flags.StringVar(&q.Policy, "policy", "", "the `policy` whose records are removed")
	flags.BoolVar(&yes, "yes", false, "do not ask")
	flags.BoolVar(&noWait, "no-wait", false, "do not wait for the workers")
	return cmd
}

func (c *common) remove(cmd *cobra.Command, q store.Query, yes, noWait bool) error {
	file, isFile := cmd.InOrStdin().(*os.File)
	if !yes && (!isFile || !isTerminal(file)) {
		return errNotConfirmed
	}
	found, err := c.find(need{nats: true, redis: true})
	if err != nil {
		return err
	}
	state, err := c.openStore(cmd.Context())
	if err != nil {
		return err
	}
	defer state.Close() //nolint:errcheck // Nothing was written.
	total, err := countRecords(cmd.Context(), state, q)
	if err != nil {
		return err
	}
	if !yes {
		if err := confirm(cmd.Context(), cmd.InOrStdin(), cmd.ErrOrStderr(), fmt.Sprintf("%d records", total)); err != nil {
			return err
		}
	}
	nc, err := c.connectNATS(found.NATS, "complianced remove")
	if err != nil {
		return err
	}
	defer nc.Close()
	return removeRecords(cmd, nc, state, q, total, noWait)
}

// countRecords returns how many records a policy or a device has.
func countRecords(ctx context.Context, state *store.Redis, q store.Query) (n int, err error) {
	if q.Device != "" {
		_, err = eachPage(ctx, state, q, "", 0, time.Now(), func(items []store.Item) error {
			n += len(items)
			return nil
		})
		if _, ok := errors.AsType[*unreadableError](err); ok {
			err = nil
		}
		return n, err
	}
	ctx, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	counts, err := state.Counts(ctx)
	for _, of := range counts[q.Policy] {
		n += of
	}
	return n, err
}

var errNotConfirmed = usagef("nothing was removed: without a terminal to ask on, --yes is needed")

// confirm asks whether so many of something are to go.
func confirm(ctx context.Context, in io.Reader, out io.Writer, what string) error {
	fmt.Fprintf(out, "This removes %s. Type yes to go on: ", what)
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(in).ReadString('\n')
		answer <- line
	}()
	select {
	case <-ctx.Done():
		return errors.New("interrupted; nothing was removed")
	case line := <-answer:
		switch strings.TrimSpace(line) {
		case "yes":
			return nil
		case "":
			return errNotConfirmed
		}
	}
	return errors.New("nothing was removed")
}

// removeRecords removes the records, waits and prints what came of it.
func removeRecords(cmd *cobra.Command, nc *nats.Conn, state *store.Redis, q store.Query, total int, noWait bool) error {
	sender, err := publisher.New(nc, publisher.Options{ResultTimeout: clientTimeout})
	if err != nil {
		return err
	}
	defer sender.Close()
	r := &removal{
		state: state, sender: sender, query: q, asks: !noWait,
		progress: newProgress(cmd.ErrOrStderr(), "removing", total, progressEvery),
		last:     map[compliance.Bucket]publisher.Ack{}, asked: map[string]bool{},
	}
	err = r.run(cmd.Context())
	r.progress.end()
	n := r.progress.done.Load()
	switch {
	case err != nil && cmd.Context().Err() != nil:
		return fmt.Errorf("interrupted after %d records: the same command removes the others", n)
	case err != nil:
		return fmt.Errorf("%w; %d records were removed; the same command removes the others, when the cause is gone", err, n)
	case noWait:
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "%d removals accepted\n", n)
		return errors.Join(err, r.unreadable)
	}
	if err := r.wait(cmd.Context(), cmd.ErrOrStderr()); err != nil {
		return fmt.Errorf("%w; %d removals are accepted and are applied when the workers come to them", err, n)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "removed %d records\n", n)
	left, err := countRecords(cmd.Context(), state, q)
	if err == nil && left > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "%d records are there: of newer reports, of late reports of devices that had none, "+
			"or because a removal was refused (see the dead letters)\n", left)
	}
	return errors.Join(err, r.unreadable)
}

// removal removes the records of a query.
type removal struct {
	state    *store.Redis
	sender   *publisher.Publisher
	query    store.Query
	progress *progress
	// asks says that of each policy one removal asks what became of it: one that is
	// refused is told before there are as many dead letters as records.
	asks  bool
	asked map[string]bool
	// unreadable is an error where records could not be read, and are still there.
	unreadable error

	mu   sync.Mutex // guards last
	last map[compliance.Bucket]publisher.Ack
}

// run publishes a removal for each record and waits until all are accepted.
func (r *removal) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(maxRemovals)
	var refused error
	_, err := eachPage(ctx, r.state, r.query, "", 0, time.Now(), func(items []store.Item) error {
		for _, item := range items {
			if err := ctx.Err(); err != nil {
				return err
			}
			if r.asks && !r.asked[item.Key.Policy] {
				r.asked[item.Key.Policy] = true
				refusal, err := r.ask(ctx, item)
				if err != nil || refusal != nil && r.query.Policy != "" {
					return errors.Join(err, refusal)
				}
				refused = errors.Join(refused, refusal)
				continue
			}
			group.Go(func() error { return r.one(ctx, item) })
		}
		return nil
	})
	if failed := group.Wait(); failed != nil {
		return failed // What ended the list, too.
	}
	if _, ok := errors.AsType[*unreadableError](err); ok {
		r.unreadable, err = err, nil
	}
	return errors.Join(err, refused)
}

// removed is what removes a record: the body of the report, and its time, which is
// greater than that of every value of the record.
func removed(item store.Item, now time.Time) publisher.Outgoing {
	at := (item.Record.Newest().Time + 1).Time()
	if now.After(at) {
		at = now
	}
	return publisher.Outgoing{Key: item.Key, Body: []byte(`{"@removed":{}}`), EventTime: at}
}

func (r *removal) one(ctx context.Context, item store.Item) error {
	ack, err := r.sender.Publish(ctx, removed(item, time.Now()))
	if err == nil {
		r.accepted(item, ack)
	}
	return err
}

// ask removes a record and hears what became of that: a refusal leaves the record.
func (r *removal) ask(ctx context.Context, item store.Item) (refusal, err error) {
	result, err := r.sender.PublishAndWait(ctx, removed(item, time.Now()))
	if silent, ok := errors.AsType[*publisher.NoResultError](err); ok {
		r.asks = false // No worker is there, or the credentials do not let one hear.
		r.accepted(item, silent.Ack)
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	if result.Outcome == compliance.Rejected && result.Error != nil {
		return fmt.Errorf("the workers refuse to remove a record (%s: %s)", result.Error.Inner.Code, result.Error.Message), nil
	}
	r.accepted(item, publisher.Ack{Stream: result.Stream, Sequence: result.Sequence})
	return nil, nil
}

// accepted counts a removal, and notes how far the floor of its bucket has to come.
func (r *removal) accepted(item store.Item, ack publisher.Ack) {
	r.progress.add()
	b := r.state.Layout().BucketOf(item.Key.Device)
	r.mu.Lock()
	defer r.mu.Unlock()
	if ack.Sequence > r.last[b].Sequence {
		r.last[b] = ack
	}
}

// pollFloors is how often the floors are read that are waited for.
const pollFloors = 100 * time.Millisecond

// soon is how long the workers need at most where all is well.
const soon = 2 * time.Second

// wait waits until the floors of all buckets have come past the last removal.
func (r *removal) wait(ctx context.Context, w io.Writer) error {
	tell := time.Now().Add(soon)
	for {
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		if err := r.passed(ctx); err != nil || len(r.last) == 0 {
			return err
		}
		if now := time.Now(); now.After(tell) {
			tell = now.Add(progressEvery)
			fmt.Fprintln(w, "waiting for the workers to apply the removals; is complianced serve running?")
		}
		wait(ctx, pollFloors)
	}
}

// passed forgets the buckets that are done.
func (r *removal) passed(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	var buckets []compliance.Bucket
	for b := range r.last {
		buckets = append(buckets, b)
	}
	floors, err := r.state.ReadFloors(ctx, buckets)
	if err != nil {
		return err
	}
	for i, b := range buckets {
		if floors[i].Stream == r.last[b].Stream && floors[i].Sequence >= r.last[b].Sequence {
			delete(r.last, b)
		}
	}
	return nil
}
