package main

import "github.com/spf13/pflag"

// validity is the flag --validity: how many UTC days the newest event of a record is
// fresh.
type validity struct{ days int }

// The least, usual and greatest validity, as Microsoft Intune has them.
const (
	minValidity     = 1
	defaultValidity = 30
	maxValidity     = 120
)

func (v *validity) add(flags *pflag.FlagSet) {
	flags.IntVar(&v.days, "validity", defaultValidity, "a record whose newest event is more than so many UTC `days` old is stale; 1 to 120")
}

func (v *validity) check() error {
	if v.days < minValidity || v.days > maxValidity {
		return usagef("--validity is from %d to %d days", minValidity, maxValidity)
	}
	return nil
}
