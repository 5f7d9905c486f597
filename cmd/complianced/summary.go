package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/complianced/complianced/compliance"
)

func newSummary(c *common) *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:   "summary",
		Short: "Show how many devices are in each status, by policy",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			asJSON, err := out.json()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), clientTimeout)
			defer cancel()
			state, err := c.clientStore(ctx)
			if err != nil {
				return err
			}
			defer state.Close() //nolint:errcheck // Nothing was written.
			counts, err := state.Counts(ctx)
			if err != nil {
				return err
			}
			if asJSON {
				return printCountsJSON(cmd.OutOrStdout(), counts)
			}
			return printCounts(cmd.OutOrStdout(), counts)
		},
	}
	out.add(cmd)
	return cmd
}

type policyCounts = map[string][compliance.NumStatuses]int

func printCounts(w io.Writer, counts policyCounts) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(table, "POLICY\t")
	for _, s := range compliance.Statuses() {
		fmt.Fprintf(table, "%s\t", s)
	}
	fmt.Fprintln(table, "DEVICES\t")
	var sums [compliance.NumStatuses]int
	for _, policy := range slices.Sorted(maps.Keys(counts)) {
		printRow(table, policy, counts[policy])
		for s, n := range counts[policy] {
			sums[s] += n
		}
	}
	if len(counts) > 1 {
		printRow(table, "(all records)", sums)
	}
	return table.Flush()
}

func printRow(w io.Writer, name string, of [compliance.NumStatuses]int) {
	total := 0
	fmt.Fprintf(w, "%s\t", name)
	for _, n := range of {
		total += n
		fmt.Fprintf(w, "%d\t", n)
	}
	fmt.Fprintf(w, "%d\t\n", total)
}

func printCountsJSON(w io.Writer, counts policyCounts) error {
	policies := make(map[string]map[string]int, len(counts))
	for policy, of := range counts {
		policies[policy] = map[string]int{}
		for s, n := range of {
			policies[policy][compliance.Status(s).String()] = n
		}
	}
	return json.NewEncoder(w).Encode(map[string]any{"policies": policies})
}
