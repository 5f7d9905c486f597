package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/complianced/complianced/compliance"
)

// output is the flag -o.
type output struct{ format string }

func (o *output) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&o.format, "output", "o", "table", "table or json")
}

func (o *output) json() (bool, error) {
	switch o.format {
	case "json":
		return true, nil
	case "table":
		return false, nil
	}
	return false, usagef("-o %q is not table or json", o.format)
}

// keyOf checks the two ids of a command line.
func keyOf(args []string) (compliance.Key, error) {
	key := compliance.Key{Policy: args[0], Device: args[1]}
	if !key.Valid() {
		return key, usagef("policy and device are ids of 1 to 128 characters of A-Z a-z 0-9 _ -")
	}
	return key, nil
}

// getting are the flags of get.
type getting struct {
	out      output
	why      bool
	validity validity
}

func newGet(c *common) *cobra.Command {
	var g getting
	cmd := &cobra.Command{
		Use:   "get POLICY DEVICE",
		Short: "Show the record of a device under a policy",
		Long: `Shows the record of a device under a policy, and what it counts as: stale, else inGracePeriod,
else its reported status.

With -o json it is the documented object, with what it counts as in annotations after its
members: "@compliance.effectiveStatus", "@compliance.inGrace" and "@compliance.stale". They are
ignored where the object is sent as a report.

With --why it shows of each property where its value came from: the time and the id of the event
(of the id its hash, and the id itself where the stream still has the report), its sequence in
the stream, and whether it was a report, one that was replayed, or a deletion. What the stream
does not have any more has neither id nor sequence, and only a deletion is still told from others.
Of a record that was removed it shows the deletion.`,
		Args: args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := keyOf(args)
			if err != nil {
				return err
			}
			return c.get(cmd, &g, key)
		},
	}
	cmd.Flags().BoolVar(&g.why, "why", false, "show where each value came from")
	g.validity.add(cmd)
	g.out.add(cmd)
	return cmd
}

func (c *common) get(cmd *cobra.Command, g *getting, key compliance.Key) error {
	asJSON, err := g.out.json()
	if err != nil {
		return err
	}
	if err := g.validity.validate(); err != nil {
		return err
	}
	if g.why {
		if _, err := c.find(need{nats: true, redis: true}); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), clientTimeout)
	defer cancel()
	state, err := c.clientStore(ctx)
	if err != nil {
		return err
	}
	defer state.Close() //nolint:errcheck // Nothing was written.
	record, err := state.Get(ctx, key)
	switch {
	case err != nil:
		return err
	case record.Empty():
		return errors.New("no report of this device under this policy has been applied; complianced list shows what there is")
	case !record.Exists() && !g.why:
		return errors.New("there is no record of this device under this policy: it was removed; get --why shows when")
	case g.why:
		origins, err := c.why(cmd.Context(), key, state.Layout(), &record)
		if err != nil {
			return err
		}
		if asJSON {
			return writeWhy(cmd.OutOrStdout(), key, record.Facts(), g.validity.days, origins)
		}
		if err := printWhy(cmd.OutOrStdout(), &record, origins); err != nil {
			return err
		}
		return printEffective(cmd.OutOrStdout(), record.Facts(), time.Now(), g.validity.days)
	case asJSON:
		effective := record.Facts().At(time.Now(), g.validity.days)
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", effective.Annotate(record.JSON(key.Device)))
		return err
	}
	if err := printRecord(cmd.OutOrStdout(), &record); err != nil {
		return err
	}
	return printEffective(cmd.OutOrStdout(), record.Facts(), time.Now(), g.validity.days)
}

func printRecord(w io.Writer, record *compliance.Record) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "PROPERTY\tVALUE\tEVENT TIME")
	for _, p := range compliance.Properties() {
		at := ""
		if record.Values[p].Kind != compliance.Unset {
			at = compliance.FormatStored(record.Versions[p].Time.Time())
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", p, plain(valueText(record, p)), at)
	}
	return table.Flush()
}

// valueText is the value of a property for a reader.
func valueText(record *compliance.Record, p compliance.Property) string {
	switch v := record.Values[p]; v.Kind {
	case compliance.Text:
		if p == compliance.StatusProperty {
			return record.Status().String()
		}
		return v.Text
	case compliance.Null:
		return "(null)"
	case compliance.Unset, compliance.Cleared, compliance.Unread:
	}
	return "(never set)"
}

// plain keeps control characters away from a terminal.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, text)
}
