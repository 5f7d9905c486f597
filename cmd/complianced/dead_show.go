package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/deadletter"
)

func newDeadShow(c *common) *cobra.Command {
	var h choice
	var out output
	cmd := &cobra.Command{
		Use:   "show SEQUENCE...",
		Short: "Show a dead letter: the report, what is wrong with it, and where",
		Long: `Shows a dead letter: the report with its headers and its payload, each rule that it breaks, and
under the part of the payload that breaks it a caret. What a terminal must not get is written as
an escape (\u001b; a byte that is no UTF-8 as \xff).

With -o json the payload is "payload" where it is text in UTF-8, else "payloadBase64".`,
		Example: `  complianced dead show 12
  complianced dead show 12 -o json | jq -r .payload`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			asJSON, err := out.json()
			if err != nil {
				return err
			}
			if err := h.read(args); err != nil {
				return err
			}
			nc, box, err := c.openDead(cmd.Context(), "dead show")
			if err != nil {
				return err
			}
			defer nc.Close()
			for i, sequence := range h.sequences {
				letter, err := getLetter(cmd.Context(), box, sequence)
				if err != nil {
					return fmt.Errorf("dead letter %d: %w", sequence, err)
				}
				if !asJSON {
					printLetter(cmd.OutOrStdout(), &letter, i > 0)
				} else if err := encodeLine(cmd.OutOrStdout(), shownLetter(&letter)); err != nil {
					return err
				}
			}
			return nil
		},
	}
	out.add(cmd)
	return cmd
}

func getLetter(ctx context.Context, box *deadletter.Box, sequence uint64) (deadletter.Letter, error) {
	ctx, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	return box.Get(ctx, sequence)
}

// faultsIn returns what is wrong with the report, as the letter has it, with the places
// in the payload, which the letter has not: the payload is decoded once more. What
// depends on the deployment is only in the letter.
func faultsIn(l *deadletter.Letter) []fault {
	var found []compliance.Violation
	if _, rejection := compliance.Decode(&l.Envelope); rejection != nil {
		found = rejection.Violations
	}
	faults := make([]fault, 0, len(l.Error.Details))
	for _, d := range l.Error.Details {
		f := fault{Code: d.Code, Target: d.Target, Message: d.Message}
		same := func(v compliance.Violation) bool { return v.Code == d.Code && v.Target == d.Target }
		if i := slices.IndexFunc(found, same); i >= 0 {
			f.Place = placeOf(l.Envelope.Body, found[i].Offset)
			found = slices.Delete(found, i, i+1)
		}
		faults = append(faults, f)
	}
	return faults
}

// letterObject is a dead letter as dead show -o json prints it.
type letterObject struct {
	letterLine

	EventID       string              `json:"eventId"`
	Headers       map[string][]string `json:"headers"`
	Faults        []fault             `json:"faults"`
	Payload       *string             `json:"payload,omitempty"`
	PayloadBase64 []byte              `json:"payloadBase64,omitempty"`
}

func shownLetter(l *deadletter.Letter) letterObject {
	o := letterObject{letterLine: lineOf(l), EventID: l.Error.Inner.RequestID, Headers: l.Envelope.Header, Faults: faultsIn(l)}
	if utf8.Valid(l.Envelope.Body) {
		text := string(l.Envelope.Body)
		o.Payload = &text
	} else {
		o.PayloadBase64 = l.Envelope.Body
	}
	return o
}

// maxShown is how much of a payload dead show prints, in bytes. None larger is applied.
const maxShown = compliance.MaxBody

func printLetter(w io.Writer, l *deadletter.Letter, more bool) {
	if more {
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "dead letter %d, buried %s\n", l.Sequence, compliance.FormatStored(l.Buried))
	for _, row := range [][2]string{
		{"report", l.Report()},
		{"subject", l.Envelope.Subject},
		{"stored", compliance.FormatStored(l.Envelope.Stored)},
		{"event id", l.Error.Inner.RequestID},
		{"retry of", l.RetryOf},
	} {
		if row[1] != "" {
			fmt.Fprintf(w, "  %-9s %s\n", row[0], visible([]byte(row[1])))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(l.Envelope.Header)) {
		for _, value := range l.Envelope.Header[name] {
			fmt.Fprintf(w, "  %-9s %s: %s\n", "header", visible([]byte(name)), visible([]byte(value)))
		}
	}
	if l.Dropped > 0 {
		fmt.Fprintf(w, "  %d headers of the report did not fit into the letter; its payload may be missing, too\n", l.Dropped)
	}
	fmt.Fprintln(w)
	printFaults(w, l.Envelope.Body, faultsIn(l))
	body := l.Envelope.Body
	fmt.Fprintf(w, "\npayload of %d bytes:\n", len(body))
	shown := body
	if len(body) > maxShown {
		shown = body[:runeAt(body, maxShown)]
	}
	for line := range strings.Lines(string(shown)) {
		fmt.Fprintf(w, "  %s\n", visible([]byte(strings.TrimSuffix(line, "\n"))))
	}
	if len(shown) < len(body) {
		fmt.Fprintf(w, "  … and %d bytes more; -o json has all\n", len(body)-len(shown))
	}
}
