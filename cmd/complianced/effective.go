package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/complianced/complianced/compliance"
)

// defaultValidity is for how many days a report is fresh.
const defaultValidity = 30

// validity is the flag --validity.
type validity struct{ days int }

func (v *validity) add(cmd *cobra.Command) {
	cmd.Flags().IntVar(&v.days, "validity", defaultValidity, "a record whose newest event is more than so many UTC `days` old is stale")
}

func (v *validity) validate() error {
	if v.days < 1 || v.days > compliance.MaxValidity {
		return usagef("--validity is 1 to %d days", compliance.MaxValidity)
	}
	return nil
}

// printEffective prints what a record counts as, beside its table.
func printEffective(w io.Writer, f compliance.Facts, now time.Time, validity int) error {
	if !f.Exists {
		_, err := fmt.Fprintln(w, "\nthe record was removed")
		return err
	}
	e := f.At(now, validity)
	stale := "no"
	if e.Stale {
		stale = "yes"
	}
	_, err := fmt.Fprintf(w, "\neffective status: %s; %s; stale: %s\n", e.Status, grace(f, now), stale)
	return err
}

func grace(f compliance.Facts, now time.Time) string {
	switch {
	case f.GraceEnds == 0:
		return "no grace period"
	case f.InGrace(now):
		return "in grace until " + graceEnd(f)
	}
	return "grace period ended " + graceEnd(f)
}

// graceEnd is when the grace period ends; empty where there is none.
func graceEnd(f compliance.Facts) string {
	if f.GraceEnds == 0 {
		return ""
	}
	return compliance.FormatStored(time.UnixMilli(f.GraceEnds))
}
