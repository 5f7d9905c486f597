package main

import (
	"context"
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

func newGet(c *common) *cobra.Command {
	var out output
	var valid validity
	cmd := &cobra.Command{
		Use:   "get POLICY DEVICE",
		Short: "Show the record of a device under a policy",
		Long: `Shows the record of a device under a policy, and what it counts as: stale, else inGracePeriod,
else its reported status.

With -o json it is the documented object, with what it counts as in annotations after its
members: "@compliance.effectiveStatus", "@compliance.inGrace" and "@compliance.stale". They are
ignored where the object is sent as a report.`,
		Args: args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			asJSON, err := out.json()
			if err != nil {
				return err
			}
			key, err := keyOf(args)
			if err != nil {
				return err
			}
			if err := valid.validate(); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), clientTimeout)
			defer cancel()
			state, err := c.clientStore(ctx)
			if err != nil {
				return err
			}
			defer state.Close() //nolint:errcheck // Nothing was written.
			record, err := state.Get(ctx, key)
			if err != nil {
				return err
			}
			if !record.Exists() {
				return fmt.Errorf("no report of this device under this policy has been applied")
			}
			now := time.Now()
			if asJSON {
				effective := record.Facts().At(now, valid.days)
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", effective.Annotate(record.JSON(key.Device)))
				return err
			}
			if err := printRecord(cmd.OutOrStdout(), &record); err != nil {
				return err
			}
			return printEffective(cmd.OutOrStdout(), record.Facts(), now, valid.days)
		},
	}
	valid.add(cmd)
	out.add(cmd)
	return cmd
}

func printRecord(w io.Writer, record *compliance.Record) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "PROPERTY\tVALUE\tEVENT TIME")
	for _, p := range compliance.Properties() {
		value, at := "(never set)", ""
		switch v := record.Values[p]; v.Kind {
		case compliance.Text:
			value = v.Text
			if p == compliance.StatusProperty {
				value = record.Status().String()
			}
		case compliance.Null:
			value = "(null)"
		case compliance.Unset, compliance.Cleared, compliance.Unread:
		}
		if record.Values[p].Kind != compliance.Unset {
			at = compliance.FormatStored(record.Versions[p].Time.Time())
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", p, plain(value), at)
	}
	return table.Flush()
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
