package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/deadletter"
)

// tableRows is how many rows of a table share their widths.
const tableRows = 500

func newDeadLs(c *common) *cobra.Command {
	var h choice
	var out output
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List dead letters, the oldest first",
		Long: `Lists dead letters, the oldest first: their sequence, by which the other commands name them, when
the report was stored, why it was refused, and which report it was.

With -o json each line is an object with the whole error; dead show -o json has the payload, too.
The exit status is 1 where something in the stream is no dead letter.`,
		Example: `  complianced dead ls
  complianced dead ls --code typeMismatch,invalidStatus --policy my-policy --since 2026-01-31 -o json`,
		Args: args(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			asJSON, err := out.json()
			if err != nil {
				return err
			}
			if err := h.read(nil); err != nil {
				return err
			}
			nc, box, err := c.openDead(cmd.Context(), "dead ls")
			if err != nil {
				return err
			}
			defer nc.Close()
			return listDead(cmd, box, h.filter, asJSON)
		},
	}
	h.add(cmd)
	out.add(cmd)
	return cmd
}

func listDead(cmd *cobra.Command, box *deadletter.Box, f deadletter.Filter, asJSON bool) error {
	w := bufio.NewWriter(cmd.OutOrStdout())
	rows := newLetterTable(w)
	unreadable := unreadables{w: cmd.ErrOrStderr()}
	err := box.Each(cmd.Context(), f, func(l deadletter.Letter, err error) error {
		switch {
		case unreadable.told(err):
			return nil
		case err != nil:
			return err
		case asJSON:
			return encodeLine(w, lineOf(&l))
		}
		return rows.add(&l)
	})
	return errors.Join(err, rows.flush(), w.Flush(), unreadable.err())
}

// letterTable writes letters as a table, some rows at a time.
type letterTable struct {
	table *tabwriter.Writer
	n     int
}

func newLetterTable(w io.Writer) *letterTable {
	return &letterTable{table: tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
}

func (t *letterTable) add(l *deadletter.Letter) error {
	if t.n == 0 {
		fmt.Fprintln(t.table, "SEQUENCE\tREPORT STORED\tCODE\tABOUT\tPOLICY\tDEVICE\tREPORT\tRETRY OF")
	}
	policy, device := idsOf(l)
	fmt.Fprintf(t.table, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", l.Sequence, compliance.FormatStored(l.Envelope.Stored),
		l.Code, plain(l.Property), policy, device, l.Report(), plain(l.RetryOf))
	if t.n++; t.n%tableRows == 0 {
		return t.flush()
	}
	return nil
}

func (t *letterTable) flush() error { return t.table.Flush() }
