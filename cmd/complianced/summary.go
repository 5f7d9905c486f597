package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/store"
)

func newSummary(c *common) *cobra.Command {
	var out output
	var fresh validity
	var byDay bool
	cmd := &cobra.Command{
		Use:   "summary",
		Short: "Show how many devices are in each status, by policy",
		Long: `Shows of each policy how many records are in each status, in their grace period and stale, and
how many devices have each status as the worst of their records. With --days it shows how many
records have their newest event on each UTC day.

What is behind a number:
  a status of a policy   complianced list POLICY --status STATUS
  DEVICES of a policy    complianced list POLICY
  IN GRACE               complianced list POLICY --in-grace
  STALE                  complianced list POLICY --stale
  (all records)          the same without POLICY; of DEVICES complianced export
  (devices)              complianced list --devices --worst STATUS
  a day                  complianced list POLICY --since DAY --until DAY`,
		Args: args(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			asJSON, err := out.json()
			if err := errors.Join(err, fresh.validate()); err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), clientTimeout)
			defer cancel()
			state, err := c.clientStore(ctx)
			if err != nil {
				return err
			}
			defer state.Close() //nolint:errcheck // Nothing was written.
			if byDay {
				days, err := state.Days(ctx)
				if err != nil {
					return err
				}
				return printDays(cmd.OutOrStdout(), days, asJSON)
			}
			totals, err := state.Totals(ctx, time.Now(), fresh.days)
			if err != nil {
				return err
			}
			if asJSON {
				return printTotalsJSON(cmd.OutOrStdout(), &totals)
			}
			_, err = printTotals(cmd.OutOrStdout(), &totals)
			return err
		},
	}
	cmd.Flags().BoolVar(&byDay, "days", false, "count the records by the UTC day of their newest event")
	out.add(cmd)
	fresh.add(cmd)
	return cmd
}

// printTotals prints a table and returns how many lines it has.
func printTotals(w io.Writer, totals *store.Totals) (lines int, err error) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(table, "POLICY\t")
	for _, s := range compliance.Statuses() {
		fmt.Fprintf(table, "%s\t", s)
	}
	fmt.Fprintln(table, "DEVICES\tIN GRACE\tSTALE\t")
	lines++
	row := func(name string, of *store.PolicyTotals) {
		fmt.Fprintf(table, "%s\t%s%d\t%d\t\n", name, cells(of.Statuses), of.InGrace, of.Stale)
		lines++
	}
	var all store.PolicyTotals
	for _, policy := range slices.Sorted(maps.Keys(totals.Policies)) {
		of := totals.Policies[policy]
		row(policy, of)
		for s, n := range of.Statuses {
			all.Statuses[s] += n
		}
		all.InGrace += of.InGrace
		all.Stale += of.Stale
	}
	if len(totals.Policies) > 1 {
		row("(all records)", &all)
	}
	if len(totals.Policies) > 0 {
		// Each once, with the worst status of its records.
		fmt.Fprintf(table, "(devices)\t%s\t\t\n", cells(totals.Devices))
		lines++
	}
	return lines, table.Flush()
}

// cells are the numbers of a row and their sum.
func cells(of [compliance.NumStatuses]int) string {
	var text strings.Builder
	total := 0
	for _, n := range of {
		total += n
		fmt.Fprintf(&text, "%d\t", n)
	}
	fmt.Fprintf(&text, "%d\t", total)
	return text.String()
}

// byName are numbers by what they are of: a status, a policy or a day.
type byName map[string]int

func numbersOf(statuses [compliance.NumStatuses]int) byName {
	n := byName{}
	for s, count := range statuses {
		n[compliance.Status(s).String()] = count
	}
	return n
}

func printTotalsJSON(w io.Writer, totals *store.Totals) error {
	policies, inGrace, stale := map[string]byName{}, byName{}, byName{}
	for policy, of := range totals.Policies {
		policies[policy], inGrace[policy], stale[policy] = numbersOf(of.Statuses), of.InGrace, of.Stale
	}
	return json.NewEncoder(w).Encode(map[string]any{
		"policies": policies, "inGrace": inGrace, "stale": stale, "devices": numbersOf(totals.Devices),
	})
}

// printDays prints how many records of each policy have their newest event on each day.
func printDays(w io.Writer, policies map[string]map[compliance.Day]int, asJSON bool) error {
	if asJSON {
		days := map[string]byName{}
		for policy, of := range policies {
			days[policy] = byName{}
			for day, n := range of {
				days[policy][day.String()] = n
			}
		}
		return json.NewEncoder(w).Encode(map[string]any{"days": days})
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "POLICY\tDAY\tRECORDS\t")
	rows := func(name string, of map[compliance.Day]int) {
		for _, day := range slices.Sorted(maps.Keys(of)) {
			fmt.Fprintf(table, "%s\t%s\t%d\t\n", name, day, of[day])
		}
	}
	all := map[compliance.Day]int{}
	for _, policy := range slices.Sorted(maps.Keys(policies)) {
		rows(policy, policies[policy])
		for day, n := range policies[policy] {
			all[day] += n
		}
	}
	if len(policies) > 1 {
		rows("(all records)", all)
	}
	return table.Flush()
}
