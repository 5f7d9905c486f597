package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/ingest"
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

	Records     int                `json:"records"`
	Differences []store.Difference `json:"differences"`
	// Mended are those of Differences that are put right.
	Mended int `json:"mended"`
	// Again are the buckets that are merged again.
	Again []compliance.Bucket `json:"mergedAgain"`
	// Compared are the records that were compared with the streams, and PassedOver
	// those that could not be.
	Compared   int `json:"compared,omitempty"`
	PassedOver int `json:"passedOver,omitempty"`
}

func newVerify(c *common) *cobra.Command {
	v := &verification{Differences: []store.Difference{}, Again: []compliance.Bucket{}}
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
folder, and compares every record: exactly where a stream begins at its first report, otherwise
those of which the stream still holds every version. Give it the --allow-policies and --tombstones
of serve.

Exit status: 0 where nothing differs, 1 on any difference, also one that is put right.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			asJSON, err := out.json()
			if err != nil {
				return err
			}
			if err := v.rebuilding.validate(); err != nil {
				return err
			}
			if err := v.run(cmd.Context(), c); err != nil {
				return err
			}
			if err := v.print(cmd.OutOrStdout(), asJSON); err != nil {
				return err
			}
			if n := len(v.Differences); n > 0 {
				return fmt.Errorf("the state is not what it must be: %d differences", n)
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&v.repair, "repair", false, "put right what follows from the records, and have buckets merged again in which one is missing")
	cmd.Flags().BoolVar(&v.rebuild, "rebuild", false, "compare every record with what the streams make of it")
	cmd.Flags().StringSliceVar(&v.rebuilding.allow, "allow-policies", nil, "as with serve, for --rebuild")
	cmd.Flags().DurationVar(&v.rebuilding.tombstones, "tombstones", 0, "as with serve, for --rebuild")
	out.add(cmd)
	return cmd
}

// run checks the state and keeps the result beside it.
func (v *verification) run(ctx context.Context, c *common) error {
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
	if err := v.check(ctx); err != nil {
		return explain(nc, err)
	}
	if v.rebuild {
		if err := v.compare(ctx); err != nil {
			return explain(nc, err)
		}
	}
	return v.state.NoteVerified(ctx, len(v.Differences)-v.Mended, time.Now())
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
	result, err := v.state.Verify(ctx, store.VerifyOptions{
		Touched: touched.Between, Before: v.before, Repair: v.repair, Found: v.found,
	})
	v.Records, v.Mended = result.Records, result.Mended
	v.Again = append(v.Again, result.Again...)
	return err
}

func (v *verification) found(d store.Difference) { v.Differences = append(v.Differences, d) }

// before returns the floor before the first report of a bucket's stream.
func (v *verification) before(ctx context.Context, b compliance.Bucket) (compliance.Floor, error) {
	source := ingest.NewJetStream(v.js, ingest.StreamName(v.layout, int(b)%v.layout.Partitions))
	info, err := source.Info(ctx)
	if err != nil {
		return compliance.Floor{}, err
	}
	return compliance.Floor{Stream: info.Stream, Created: info.Created, Sequence: info.First - 1, Layout: v.layout, Repair: true}, nil
}

func (v *verification) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(v)
	}
	if len(v.Differences) > 0 {
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "BUCKET\tKIND\tPOLICY\tDEVICE\tOF\tWANT\tHAVE")
		for _, d := range v.Differences {
			fmt.Fprintf(table, "%02x\t%s\t%s\t%s\t%s\t%s\t%s\n", int(d.Bucket), d.Kind, d.Policy, d.Device,
				plain(cmp.Or(d.Status, d.Day, d.Name)), plain(d.Want), plain(d.Have))
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	fmt.Fprintf(w, "%d records in %d buckets: %d differences", v.Records, v.layout.Buckets, len(v.Differences))
	if v.repair && len(v.Differences) > 0 {
		fmt.Fprintf(w, ", %d of them put right", v.Mended)
	}
	fmt.Fprintln(w)
	if v.rebuild {
		fmt.Fprintf(w, "%d records compared with the streams; of %d the streams do not hold every version\n", v.Compared, v.PassedOver)
	}
	if n := len(v.Again); n > 0 {
		fmt.Fprintf(w, "%d buckets are merged again from the stream by complianced serve; run verify again when it is through\n", n)
	}
	return nil
}
