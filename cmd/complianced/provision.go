package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/ingest"
	"github.com/complianced/complianced/store"
)

// Defaults of a deployment.
const (
	defaultBuckets = 16
	defaultMaxAge  = 7 * 24 * time.Hour
	// maxReplicas is JetStream's own limit.
	maxReplicas = 5
	// provisionTimeout bounds a provision: streams with replicas take their time.
	provisionTimeout = time.Minute
)

func newProvision(c *common) *cobra.Command {
	p := ingest.Provisioning{}
	gaps, accept := false, false
	cmd := &cobra.Command{
		Use:   "provision",
		Short: "Create or update the streams and the layout",
		Long: `Creates the streams in NATS and the layout in Redis. Of streams that are there it changes the
limits that are given, and no others. The numbers of partitions and buckets are fixed once and
for all. With --gaps or --accept-gap it does nothing of that.`,
		Args: args(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := p.Layout.Validate(); err != nil {
				return usagef("--partitions %d, --buckets %d: %w", p.Layout.Partitions, p.Layout.Buckets, err)
			}
			if p.MaxAge < 0 || p.Replicas < 1 || p.Replicas > maxReplicas {
				return usagef("--max-age is at least 0, --replicas 1 to %d", maxReplicas)
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), provisionTimeout)
			defer cancel()
			if gaps && accept {
				return usagef("--gaps lists gaps, --accept-gap forgets them: give one")
			}
			if gaps {
				return c.listGaps(ctx, cmd)
			}
			if accept {
				return c.acceptGaps(ctx, cmd)
			}
			p.KeepMaxAge, p.KeepReplicas = !c.given(cmd, "max-age"), !c.given(cmd, "replicas")
			keepLayout := !c.given(cmd, "partitions") && !c.given(cmd, "buckets")
			return c.provision(ctx, cmd.OutOrStdout(), p, keepLayout)
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&p.Layout.Partitions, "partitions", 1, "number of partitions, each read by one worker")
	flags.IntVar(&p.Layout.Buckets, "buckets", defaultBuckets, "number of buckets, at most 256; a Redis Cluster wants 256")
	flags.DurationVar(&p.MaxAge, "max-age", defaultMaxAge, "how long the streams keep reports; 0 is for ever")
	flags.IntVar(&p.Replicas, "replicas", 1, "replicas of each stream")
	flags.BoolVar(&gaps, "gaps", false, "list the gaps: reports that the streams lost before they were merged, and that were not accepted as lost")
	flags.BoolVar(&accept, "accept-gap", false, "forget the gaps that were noticed: what is lost is lost")
	return cmd
}

// provision looks at both servers before it changes either. The layout in Redis
// comes last, so that it stands for streams that are there.
func (c *common) provision(ctx context.Context, w io.Writer, p ingest.Provisioning, keepLayout bool) error {
	found, err := c.find(need{nats: true, redis: true})
	if err != nil {
		return err
	}
	options, err := c.redisOptions(found)
	if err != nil {
		return err
	}
	nc, err := c.connectNATS(found.NATS, "complianced provision")
	if err != nil {
		return err
	}
	defer nc.Close()
	return explain(nc, provisionBoth(ctx, w, nc, options, p, keepLayout))
}

func provisionBoth(ctx context.Context, w io.Writer, nc *nats.Conn, options store.Options, p ingest.Provisioning, keepLayout bool) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	looking, cancel := context.WithTimeout(ctx, connectTimeout) // Where it is not permitted, no answer comes.
	defer cancel()
	switch have, err := ingest.ProvisionedLayout(looking, js); {
	case err == nil && keepLayout:
		p.Layout = have
	case err != nil && !errors.Is(err, ingest.ErrNotProvisioned):
		return err
	}
	if err := checkLayout(ctx, options, p.Layout); err != nil && !errors.Is(err, store.ErrNoLayout) {
		return err
	}
	state, err := store.New(p.Layout, options)
	if err != nil {
		return err
	}
	defer state.Close() //nolint:errcheck // All answers were read.
	if err := state.SelfTest(ctx); err != nil {
		return err
	}
	if err := ingest.Provision(ctx, js, p); err != nil {
		return err
	}
	fmt.Fprintf(w, "streams: %d of reports, 1 of dead letters\n", p.Layout.Partitions)
	if mapping := ingest.Mapping(p.Layout); mapping != "" {
		fmt.Fprintf(w, "the NATS account needs this mapping:\n%s\n", mapping)
	}
	if err := state.EnsureLayout(ctx); err != nil {
		return err
	}
	fmt.Fprintf(w, "layout: %d partitions, %d buckets in redis at %s\n", p.Layout.Partitions, p.Layout.Buckets, state.Address())
	return nil
}

// listGaps lists what compliance_stream_gap_reports counts.
func (c *common) listGaps(ctx context.Context, cmd *cobra.Command) error {
	state, err := c.clientStore(ctx)
	if err != nil {
		return err
	}
	defer state.Close() //nolint:errcheck // Nothing was written.
	layout := state.Layout()
	table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "STREAM\tFIRST\tLAST\tREPORTS\tNOTICED")
	for partition := range layout.Partitions {
		gaps, err := state.Gaps(ctx, layout.BucketsOf(partition))
		if err != nil {
			return err
		}
		for _, gap := range joined(gaps) {
			fmt.Fprintf(table, "%s\t%d\t%d\t%d\t%s\n", ingest.StreamName(layout, partition), gap.First, gap.Last,
				gap.Last-gap.First+1, gap.Seen.UTC().Format(time.RFC3339))
		}
	}
	return table.Flush()
}

// acceptGaps forgets the gaps of every bucket, each in a transaction of its own
// on top of whatever floor the bucket has.
func (c *common) acceptGaps(ctx context.Context, cmd *cobra.Command) error {
	state, err := c.clientStore(ctx)
	if err != nil {
		return err
	}
	defer state.Close() //nolint:errcheck // All answers were read.
	var n uint64
	for partition := range state.Layout().Partitions {
		accepted, err := acceptGapsOf(ctx, state, state.Layout().BucketsOf(partition))
		if err != nil {
			return err
		}
		n += accepted
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%d reports that the streams lost are forgotten\n", n)
	return nil
}

// acceptGapsOf returns how many reports the gaps of a partition's buckets cover.
func acceptGapsOf(ctx context.Context, state *store.Redis, buckets []compliance.Bucket) (uint64, error) {
	gaps, err := state.Gaps(ctx, buckets)
	if err != nil {
		return 0, err
	}
	for i, b := range buckets {
		if len(gaps[i]) == 0 {
			continue
		}
		if err := acceptGap(ctx, state, b); err != nil {
			return 0, err
		}
	}
	return lost(gaps), nil
}

var errNoFloor = errors.New("a bucket has no floor; start complianced serve on this Redis, then accept its gaps")

func acceptGap(ctx context.Context, state *store.Redis, b compliance.Bucket) error {
	for {
		floors, err := state.Floors(ctx, []compliance.Bucket{b})
		if err != nil {
			return err
		}
		if floors[0].Absent() {
			return errNoFloor
		}
		to := floors[0]
		to.Write = "accept-" + uuid.NewString()[:8]
		_, err = state.Apply(ctx, compliance.Transaction{Bucket: b, From: floors[0], To: to, Accept: true})
		if _, moved := errors.AsType[*compliance.FloorError](err); !moved {
			return err
		}
	}
}
