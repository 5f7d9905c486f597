package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/complianced/complianced/replay"
)

// defaultReplayRate leaves a deployment room for what is reported meanwhile.
const defaultReplayRate = 1000

// replaying are the flags of replay.
type replaying struct {
	file    string
	stream  bool
	dead    bool
	choose  selecting
	to      common
	rate    float64
	shuffle bool
	seed    uint64
	dryRun  bool
	each    bool
	wait    bool
	timeout time.Duration
	resume  string
	out     output
}

func newReplay(c *common) *cobra.Command {
	var p replaying
	cmd := &cobra.Command{
		Use:   "replay --stream | --file FILE | --dead",
		Short: "Send reports again: from the stream, from a file of capture, or from dead letters",
		Long: `Sends reports again, to the same deployment or, with --to-data-dir or --to-nats-url, to another.
Each keeps its event id and its event time, so that a replay changes no record that is whole, in
whatever order and however often; and Compliance-Stored says when it was first stored, so that one
that was refused as from the future is refused again. (dead retry is for what is to be taken now.)

What is replayed is what the streams or the dead letters hold when the command begins, or the file.
A file is read to its end before anything is sent, so that one which is torn or wrong sends nothing.
Standard input is sent as it comes: a line that is torn or wrong ends the command only after what
precedes it was sent. Where capture broke off between two lines, only its own exit status says so.
A report that was refused and cannot be sent as it was counts as rejected and is not sent; one whose
event id the NATS client cannot send (a space at an end, a control character) counts as failed.

The order is that of the store times, or of the file. --shuffle sends the reports in a random order,
which --seed decides: it holds up to 64 MiB of them and takes any of those next, so that with more
than that, a report comes no more than 64 MiB of reports early.

At most --rate reports are sent a second, fewer while the workers of the destination fall behind:
while compliance_stream_lag_seconds is above 1 s and grows, the rate is halved once a second, down
to 1 %. That needs the Redis of the destination; where it is not known, --rate alone holds.

The position is kept in a file, about once a second: --resume FILE, or a new one in the data folder.
A command that was interrupted, also by kill -9, goes on with the same flags and --resume FILE; what
it prints when it begins and when it is interrupted is that command. Some reports may then be sent
twice, which changes nothing. The file is removed when all is sent. It is forced to disk every 10 s:
after a power cut the position is so much older at most. One replay at a time has the file.

With --shuffle and with --file, the reports that were sent are left out by their number. Where they
are not the first ones of the order any more, because the stream has lost reports since or dead
letters were purged, the command says so and sends nothing.

At the end a table says what became of the reports: accepted and failed, or, with --wait, applied,
unchanged, stale, rejected and failed. Results may get lost, which is told apart as no result. What
was sent twice, because the answer to the first copy was lost, counts by its last copy.
--dry-run sends nothing and says the same beforehand, by the merge law on the records as they are
now; give it the --allow-policies of serve, and with --shuffle the same --seed. It reads all records
that the reports are of, and holds them (about 1 KiB each).

Exit status: 0 when every report is accepted, rejected ones included, and with --wait every result
was heard; 1 when one was not, the streams lost reports before they were read, a message among the
dead letters is none, or the replay was interrupted or broke off; 2 wrong usage.`,
		Example: `  complianced replay --stream --dry-run
  complianced replay --stream --since 2026-01-31 --policy my-policy --wait
  complianced replay --file reports.ndjson --shuffle --to-data-dir /srv/second
  complianced replay --dead --code policyNotAllowed --wait -o json`,
		Args: args(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			asJSON, err := p.out.json()
			if err != nil {
				return err
			}
			filter, err := p.check(cmd)
			if err != nil {
				return err
			}
			s := &replayRun{common: c, to: c, flags: &p, filter: filter, cmd: cmd, asJSON: asJSON}
			if p.elsewhere() {
				s.to = &p.to
			}
			return s.run(cmd.Context())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&p.file, "file", "", "a `file` of capture; - is standard input, which is sent as it comes")
	flags.BoolVar(&p.stream, "stream", false, "what the streams hold")
	flags.BoolVar(&p.dead, "dead", false, "the reports of the dead letters")
	p.choose.add(cmd)
	flags.Float64Var(&p.rate, "rate", defaultReplayRate, "at most so many `reports` a second; 0 is as fast as they are taken")
	flags.BoolVar(&p.shuffle, "shuffle", false, "in a random order")
	flags.Uint64Var(&p.seed, "seed", 1, "the same `seed` gives the same order")
	flags.BoolVar(&p.dryRun, "dry-run", false, "send nothing, and say what each report would do")
	flags.BoolVar(&p.each, "each", false, "with --dry-run: a line for each report")
	flags.BoolVar(&p.wait, "wait", false, "wait for what becomes of each report")
	flags.DurationVar(&p.timeout, "result-timeout", 0, "how long a result may take after its report is accepted (default 65s)")
	flags.StringVar(&p.resume, "resume", "", "`file` that keeps the position; where it is there, the replay goes on from it")
	p.to.addServers(flags, "to-")
	flags.Lookup("to-data-dir").Usage = "`folder` of the serve to send to (default: the deployment that the settings name)"
	flags.Lookup("to-" + natsURLFlag).Usage = "NATS `servers` to send to, separated by commas (default as --to-data-dir)"
	flags.Lookup("to-" + redisURLFlag).Usage = "the `URL` of their Redis, as --redis-url (default as --to-data-dir)"
	p.out.add(cmd)
	return cmd
}

// elsewhere says whether the destination is named.
func (p *replaying) elsewhere() bool {
	return p.to.dataDir != "" || p.to.natsURL != "" || len(p.to.redisURL) > 0
}

// check finds wrong flags before anything is read.
func (p *replaying) check(cmd *cobra.Command) (replay.Filter, error) {
	n := 0
	for _, given := range []bool{p.file != "", p.stream, p.dead} {
		if given {
			n++
		}
	}
	switch {
	case n != 1:
		return replay.Filter{}, usagef("replay what? give one of --stream, --file and --dead")
	case p.file != "" && (p.choose.since != "" || p.choose.until != "" || p.choose.from > 0):
		return replay.Filter{}, usagef("--since, --until and --from-seq do not go with --file: give them to capture")
	case p.dead && p.choose.from > 0:
		return replay.Filter{}, usagef("--from-seq goes with --stream")
	case !(p.rate >= 0): // Nor is what is no number.
		return replay.Filter{}, usagef("--rate is at least 0")
	case p.timeout < 0:
		return replay.Filter{}, usagef("--result-timeout is at least 0")
	case p.dryRun && (p.wait || p.resume != ""):
		return replay.Filter{}, usagef("--dry-run sends nothing: leave --wait and --resume out")
	case p.each && !p.dryRun:
		return replay.Filter{}, usagef("--each goes with --dry-run")
	case cmd.Flags().Changed("seed") && !p.shuffle:
		return replay.Filter{}, usagef("--seed goes with --shuffle")
	}
	if _, _, err := p.choose.times(); err != nil {
		return replay.Filter{}, err
	}
	if err := errors.Join(p.to.checkPasswords(cmd), p.to.checkServers()); err != nil {
		return replay.Filter{}, err
	}
	return p.choose.filter(cmd)
}

// end prints the table and says whether all went well.
func (s *replayRun) end(table replay.Table, err error) error {
	out := s.cmd.OutOrStdout()
	if s.asJSON {
		err = errors.Join(err, json.NewEncoder(out).Encode(table))
	} else {
		err = errors.Join(err, printReplay(out, table, s.flags.wait || s.flags.dryRun))
	}
	switch {
	case err != nil:
		return err
	case table.Failed > 0:
		return fmt.Errorf("%d reports failed: they cannot be sent as they are", table.Failed)
	case table.NoResult > 0:
		return fmt.Errorf("%d reports are accepted, but their results were not heard: is complianced serve running, and not far behind? "+
			"May these credentials subscribe to compliance.result.>?", table.NoResult)
	}
	return nil
}

// printReplay prints what became of reports. Of those that were not waited for nothing
// is known but that they are accepted.
func printReplay(w io.Writer, t replay.Table, known bool) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(name string, n uint64) { fmt.Fprintf(table, "%s\t%d\t\n", name, n) }
	if known {
		row("applied", t.Applied)
		row("unchanged", t.Unchanged)
		row("stale", t.Stale)
		row("rejected", t.Rejected)
	} else {
		row("accepted", t.Accepted)
		if t.Rejected > 0 {
			row("rejected before, not sent", t.Rejected)
		}
	}
	if t.NoResult > 0 {
		row("no result", t.NoResult)
	}
	row("failed", t.Failed)
	return table.Flush()
}

// printEach prints what would become of a report.
func (s *replayRun) printEach(r *replay.Report, o replay.Outcome, code string) error {
	e := &r.Envelope
	if s.asJSON {
		return json.NewEncoder(s.cmd.OutOrStdout()).Encode(struct {
			Stream   string `json:"stream,omitempty"`
			Sequence uint64 `json:"sequence,omitempty"`
			Subject  string `json:"subject"`
			Outcome  string `json:"outcome"`
			Code     string `json:"code,omitempty"`
		}{r.Stream, e.Sequence, e.Subject, o.String(), code})
	}
	_, err := fmt.Fprintf(s.cmd.OutOrStdout(), "%s %d  %s  %s  %s\n", plain(r.Stream), e.Sequence, plain(e.Subject), o, code)
	return err
}

// openFile opens the file of --file. Standard input ends with the context: nothing else
// ends a read from a terminal or a pipe.
func openFile(ctx context.Context, name string, stdin io.Reader) (io.ReadCloser, error) {
	if name != "-" {
		return os.Open(name)
	}
	r, w := io.Pipe()
	context.AfterFunc(ctx, func() { w.CloseWithError(ctx.Err()) })
	go func() {
		_, err := io.Copy(w, stdin)
		w.CloseWithError(err)
	}()
	return r, nil
}

// countReports reads a file to its end, so that one that is wrong is refused before
// anything is sent.
func countReports(ctx context.Context, name string) (n int, err error) {
	file, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer file.Close() //nolint:errcheck // It was read.
	for source := replay.NewFile(file); ; n++ {
		if _, err := source.Next(ctx); errors.Is(err, io.EOF) {
			return n, nil
		} else if err != nil {
			return n, fmt.Errorf("%s: %w", name, err)
		}
	}
}
