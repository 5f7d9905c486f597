package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"github.com/complianced/complianced/compliance"
)

// checking are the flags of check.
type checking struct {
	key     compliance.Key
	allow   compliance.Patterns
	headers []string
	at      string
	out     output
}

func newCheck() *cobra.Command {
	var k checking
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Say whether a report on standard input is right, and where it is not",
		Long: `Reads the body of one report from standard input and says what a worker would: what the report
sets, or each rule that it breaks, with line and column of the place. Nothing is sent, and no
server is needed.

Without --device the report counts as one of the device that its id names. Which policies a
deployment takes is checked where both are given: --allow-policies as its serve has it, and --policy.

The exit status is 0 where the report is right, 1 where it is wrong, and 2 after wrong usage.`,
		Example: `  echo '{"status":"compliant","platform":8}' | complianced check
  complianced check --policy my-policy --device my-device --event-time 2026-01-31T12:00:00Z < report.json
  complianced check --policy my-policy --allow-policies 'my-*' < report.json`,
		Args: args(noArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := k.validate(cmd); err != nil {
				return err
			}
			envelope, err := k.envelope(cmd)
			if err != nil {
				return err
			}
			asJSON, err := k.out.json()
			if err != nil {
				return err
			}
			report, rejection := compliance.Rules{Allow: k.allow}.Decode(&envelope)
			if rejection != nil {
				return printWrong(cmd.OutOrStdout(), envelope.Body, rejection, asJSON)
			}
			return printRight(cmd.OutOrStdout(), &report, asJSON)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&k.key.Policy, "policy", "", "the `policy` that the report is for (default any)")
	flags.StringVar(&k.key.Device, "device", "", "the `device` that the report is for (default the one that its id names)")
	flags.StringSliceVar((*[]string)(&k.allow), "allow-policies", nil, "as with serve: the `patterns` of the policies to take, as policy-*; goes with --policy")
	flags.StringArrayVar(&k.headers, "header", nil, "a `header` of the report, as 'ce-id: 7'; may be given several times")
	flags.StringVar(&k.at, "event-time", "", "the event time; stands for --header 'ce-time: …'")
	k.out.add(cmd)
	return cmd
}

// validate checks the flags, and puts a stand-in where the policy does not matter.
func (k *checking) validate(cmd *cobra.Command) error {
	if err := notEmpty(cmd, "policy", "device", "allow-policies"); err != nil {
		return err
	}
	if err := k.allow.Validate(); err != nil {
		return usagef("--allow-policies: %w", err)
	}
	if k.key.Policy != "" {
		return nil
	}
	if cmd.Flags().Changed("allow-policies") {
		return usagef("--allow-policies needs to know which policy the report is for: give --policy")
	}
	k.key.Policy, k.allow = "policy", nil // The environment may have those of a serve.
	return nil
}

// envelope is the report as it would be stored now.
func (k *checking) envelope(cmd *cobra.Command) (compliance.Envelope, error) {
	e := compliance.Envelope{Header: map[string][]string{}, Sequence: 1, Stored: time.Now()}
	for _, text := range k.headers {
		name, value, ok := strings.Cut(text, ":")
		if name = strings.TrimSpace(name); !ok || name == "" {
			return e, usagef("--header %q is not of the form 'name: value'", text)
		}
		e.Header[name] = append(e.Header[name], strings.TrimSpace(value))
	}
	if k.at != "" && holds(e.Header, compliance.HeaderEventTime) {
		return e, usagef("--event-time and a --header ce-time do not go together")
	}
	if k.at != "" {
		e.Header[compliance.HeaderEventTime] = []string{k.at}
	}
	if file, ok := cmd.InOrStdin().(*os.File); ok && isTerminal(file) {
		return e, usagef("no report: give the JSON body on standard input")
	}
	var err error
	if e.Body, err = read(cmd.Context(), cmd.InOrStdin()); err != nil {
		return e, err
	}
	if k.key.Device == "" {
		k.key.Device = deviceIn(e.Body)
	}
	e.Subject = k.key.Subject()
	return e, nil
}

// deviceIn returns the device that the id in a body names; a stand-in where there is
// none.
func deviceIn(body []byte) string {
	var named struct {
		ID string `json:"id"`
	}
	// Unlike encoding/json this one takes no ID for id.
	err := jsonv2.Unmarshal(body, &named, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if err == nil && compliance.ValidID(named.ID) {
		return named.ID
	}
	return "device"
}

// verdict is what check says as JSON.
type verdict struct {
	Right bool `json:"right"`
	// Faults are those of a wrong report; the other members are of a right one.
	Faults    []fault         `json:"faults,omitempty"`
	EventTime string          `json:"eventTime,omitempty"`
	EventID   string          `json:"eventId,omitempty"`
	Removed   bool            `json:"removed,omitempty"`
	Record    json.RawMessage `json:"record,omitempty"`
}

// printWrong prints the faults. The error makes the exit status 1.
func printWrong(w io.Writer, body []byte, rejection *compliance.Rejection, asJSON bool) error {
	faults := faultsOf(body, rejection.Violations)
	if asJSON {
		if err := encodeLine(w, verdict{Faults: faults}); err != nil {
			return err
		}
	} else {
		printFaults(w, body, faults)
	}
	if len(faults) == 1 {
		return fmt.Errorf("the report is wrong")
	}
	return fmt.Errorf("the report is wrong in %d places", len(faults))
}

// printRight prints what the report makes of a record that was not there.
func printRight(w io.Writer, report *compliance.Report, asJSON bool) error {
	at := compliance.FormatStored(report.Version.Time.Time())
	var record compliance.Record
	record.Merge(report)
	if asJSON {
		v := verdict{Right: true, EventTime: at, EventID: report.EventID, Removed: report.Removed}
		if !report.Removed {
			v.Record = record.JSON(report.Key.Device)
		}
		return encodeLine(w, v)
	}
	if report.Removed {
		_, err := fmt.Fprintf(w, "the report is right: it removes the record, as of %s\n", at)
		return err
	}
	fmt.Fprintln(w, "the report is right; of a device without a record it makes this one:")
	return printRecord(w, &record)
}
