package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/ingest"
	"github.com/complianced/complianced/internal/embedded"
	"github.com/complianced/complianced/store"
)

// verification is one run of verify.
type verification struct {
	repair     bool
	rebuild    bool
	rebuilding rebuild

	js     jetstream.JetStream
	state  *store.Redis
	layout compliance.Layout
	found  *findings
	stderr io.Writer

	Records int `json:"records"`
	// Mended are those of the differences that are put right.
	Mended int `json:"mended"`
	// Again are the buckets that are merged again.
	Again []compliance.Bucket `json:"mergedAgain"`
	// Compared are the records that were compared with the streams, PassedOver those
	// that could not be, and LeftOut those of policies that are not allowed.
	Compared   int `json:"compared,omitempty"`
	PassedOver int `json:"passedOver,omitempty"`
	LeftOut    int `json:"leftOut,omitempty"`
	// Incomplete says that the check broke off.
	Incomplete bool `json:"incomplete,omitempty"`
}

func newVerify(c *common) *cobra.Command {
	v := &verification{Again: []compliance.Bucket{}}
	var out output
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Recount everything from the records and compare",
		Long: `Derives the counts, roll-ups, indexes, grace periods and days anew from the records, bucket by
bucket, while reports are merged, and prints each difference.

With --repair it puts right what follows from the records. Where a record is missing or cannot be
read, it deletes what is unreadable and has the bucket merged again: serve fills it from the stream,
as far as the stream reaches. Run verify once more after that.

A record under the tag of another bucket than that of its device ("misplaced record") and a key
under cs: that complianced has not written ("unknown key") are named and left as they are, with
--repair too: nothing counts them, and what is in them may be nowhere else. Look at each, and
delete it with redis-cli.

With --rebuild it also makes the state anew from the streams, in a Redis of its own in a temporary
folder, and compares every record: exactly where a stream has lost no report, otherwise those of
which the stream still holds every version. A record that may be from before the stream was made
is compared as far as that: none of its values may be older than what the stream holds. Where a
stream was rolled back, records with reports that it lost differ from it. Give it the
--allow-policies and --tombstones of serve: records of other policies are not compared.

Exit status: 0 where nothing differs, 1 on any difference, also one that is put right.`,
		Args: args(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			asJSON, err := out.json()
			if err != nil {
				return err
			}
			if err := v.rebuilding.validate(); err != nil {
				return err
			}
			if v.rebuild && !embedded.HasRedis() {
				return errNoScratch
			}
			v.stderr = cmd.ErrOrStderr()
			return v.run(cmd.Context(), c, cmd.OutOrStdout(), asJSON)
		},
	}
	cmd.Flags().BoolVar(&v.repair, "repair", false, "put right what follows from the records, and have buckets merged again in which one is missing")
	cmd.Flags().BoolVar(&v.rebuild, "rebuild", false, "compare every record with what the streams make of it")
	cmd.Flags().StringSliceVar(&v.rebuilding.allow, "allow-policies", nil, "as with serve, for --rebuild")
	cmd.Flags().DurationVar(&v.rebuilding.tombstones, "tombstones", 0, "as with serve, for --rebuild")
	out.add(cmd)
	return cmd
}

// run checks the state, prints what it finds and keeps the result beside the state.
func (v *verification) run(ctx context.Context, c *common, out io.Writer, asJSON bool) error {
	found, err := c.find(need{nats: true, redis: true})
	if err != nil {
		return err
	}
	options, err := c.redisOptions(found)
	if err != nil {
		return err
	}
	nc, err := c.connectNATS(found.NATS, "complianced verify")
	if err != nil {
		return err
	}
	defer nc.Close()
	if v.js, err = jetstream.New(nc); err != nil {
		return err
	}
	if err := v.open(ctx, options); err != nil {
		return explain(nc, err)
	}
	defer v.state.Close() //nolint:errcheck // All answers were read.
	v.found = newFindings(out, asJSON)
	failed := v.check(ctx)
	if failed == nil && v.rebuild {
		failed = v.compare(ctx)
	}
	v.Incomplete = failed != nil
	printed := v.found.end(v)
	kept := v.keep(ctx)
	switch {
	case failed != nil:
		return explain(nc, failed)
	case printed != nil:
		return printed
	case kept != nil:
		return kept
	case v.found.n > 0:
		return fmt.Errorf("the state is not what it must be: %d differences", v.found.n)
	}
	return nil
}

// keep keeps the result, also that of a check that broke off.
func (v *verification) keep(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), clientTimeout)
	defer cancel()
	left := store.Left{Drift: v.found.n - v.found.fromStreams - v.Mended}
	if v.rebuild {
		left.RebuildDrift = &v.found.fromStreams
	}
	if !v.Incomplete {
		left.At = time.Now()
	}
	return v.state.NoteVerified(ctx, left)
}

// open opens the state that belongs to the streams.
func (v *verification) open(ctx context.Context, options store.Options) (err error) {
	ctx, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	if v.layout, err = ingest.ReadLayout(ctx, v.js); err != nil {
		return err
	}
	if err := checkLayout(ctx, options, v.layout); err != nil {
		return err
	}
	v.state, err = store.New(v.layout, options)
	return err
}

// check compares what follows from the records with what is there.
func (v *verification) check(ctx context.Context) error {
	touched := ingest.NewTouched(v.js, v.layout)
	defer touched.Close()
	progress := newProgress(v.stderr, "checking buckets", v.layout.Buckets, progressEvery)
	defer progress.end()
	result, err := v.state.Verify(ctx, store.VerifyOptions{
		Touched: touched.Between, Before: v.before, Repair: v.repair, Found: v.found.add, Progress: progress.set,
	})
	v.Records, v.Mended = result.Records, result.Mended
	v.Again = append(v.Again, result.Again...)
	return err
}

// before returns the floor before the first report of a bucket's stream.
func (v *verification) before(ctx context.Context, b compliance.Bucket) (compliance.Floor, error) {
	source := ingest.NewJetStream(v.js, ingest.StreamName(v.layout, int(b)%v.layout.Partitions))
	info, err := source.Info(ctx)
	if err != nil {
		return compliance.Floor{}, err
	}
	return compliance.Floor{Stream: info.Stream, Created: info.Created, Sequence: info.First - 1, Layout: v.layout, Repair: true}, nil
}
