package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/complianced/complianced/replay"
)

func itoa(n uint64) string { return strconv.FormatUint(n, 10) }

// capturing are the flags of capture.
type capturing struct {
	file   string
	choose selecting
}

func newCapture(c *common) *cobra.Command {
	var p capturing
	cmd := &cobra.Command{
		Use:   "capture",
		Short: "Write reports of the stream to a file that replay --file reads",
		Long: `Writes the reports that the streams hold now, in the order in which they were stored, refused ones
included: a line with the version, then one line of JSON for each report,
{"stream":"…","sequence":1,"stored":"…Z","subject":"…","headers":{"ce-id":["…"]},"payload":"…"},
where a payload that is not UTF-8 is payloadBase64 instead, a subject subjectBase64, and headers
with such values are in headersBase64.

With --file the reports are in a temporary file beside it until all are written: a file of that
name is complete, and one that was there before is replaced only then. Reports hold device ids and
users: the file is readable by its owner alone.

Exit status: 0 when all is written, 1 otherwise, 2 wrong usage.`,
		Example: `  complianced capture --file reports.ndjson
  complianced capture --since 2026-01-31 --until 2026-01-31 --policy my-policy --file day.ndjson
  complianced capture --device my-device | gzip > device.ndjson.gz`,
		Args: args(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := p.choose.filter(cmd)
			if err != nil {
				return err
			}
			if _, _, err := p.choose.times(); err != nil {
				return err
			}
			if file, ok := cmd.OutOrStdout().(*os.File); ok && p.file == "" && isTerminal(file) {
				return usagef("payloads are not for a terminal: give --file, or send standard output elsewhere")
			}
			if info, err := os.Stat(p.file); err == nil && !info.Mode().IsRegular() { // It would be replaced.
				return usagef("--file %s is there and is no file; without --file the reports go to standard output", p.file)
			}
			return c.capture(cmd, &p, filter)
		},
	}
	cmd.Flags().StringVar(&p.file, "file", "", "`file` to write (default standard output)")
	p.choose.add(cmd)
	return cmd
}

func (c *common) capture(cmd *cobra.Command, p *capturing, filter replay.Filter) error {
	nc, err := c.clientNATS("capture")
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	streams, err := p.choose.streams(cmd.Context(), js, replay.Position{})
	if err != nil {
		return explain(nc, err)
	}
	defer streams.Close()
	told := newRateProgress(cmd.ErrOrStderr(), "capturing", int(streams.Total()), progressEvery)
	source := &replay.Filtered{Source: streams, Filter: filter, Seen: func(bool) { told.add() }}
	n := 0
	err = written(p.file, cmd.OutOrStdout(), func(w io.Writer) error {
		n, err = copyReports(cmd.Context(), source, w)
		return err
	})
	told.end()
	switch {
	case err != nil && cmd.Context().Err() != nil:
		return errors.New("interrupted: the reports are not all written")
	case err != nil:
		return explain(nc, fmt.Errorf("capture: %w", err))
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%d reports written\n", n)
	return goneMeanwhile(streams)
}

// copyReports writes the reports of a source.
func copyReports(ctx context.Context, source replay.Source, to io.Writer) (n int, err error) {
	w := replay.NewWriter(to)
	for {
		r, err := source.Next(ctx)
		if errors.Is(err, io.EOF) {
			return n, w.Flush()
		}
		if err != nil {
			return n, err
		}
		if err := w.Write(&r); err != nil {
			return n, err
		}
		n++
	}
}

// written has a file written as a whole or not at all; without a name it is standard
// output.
func written(name string, stdout io.Writer, write func(io.Writer) error) (err error) {
	if name == "" {
		return write(stdout)
	}
	temporary, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*")
	if err != nil {
		return err
	}
	err = errors.Join(write(temporary), temporary.Sync(), temporary.Close())
	if err == nil {
		err = os.Rename(temporary.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temporary.Name()))
	}
	return nil
}
