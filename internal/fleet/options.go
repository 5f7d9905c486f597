package fleet

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Mix says what the reports of a fleet are like.
type Mix string

// The mixes.
const (
	// Default is a fleet with everything that can happen, in the shares of the
	// options. Devices report at random. Until each has introduced itself, every second
	// report is a device's first under a policy, in full; fewer, where the kinds that
	// are not full are more than half of the reports.
	Default Mix = "default"
	// Worst is the worst case: full reports in which every property differs from
	// the device's previous report under the policy. (The id cannot; its version
	// does.) Each record is reported once in a round, in an order that the seed
	// decides.
	Worst Mix = "worst"
	// Steady is a fleet at rest. The first round introduces every record; from then
	// on, of the reports sent, 95 % are full and change lastReportedDateTime alone,
	// 3 % are full and change the status as well, 1 % are partial, with present
	// values, and 1 % are duplicates. Rounds as in Worst.
	Steady Mix = "steady"
)

// Mixes returns all mixes.
func Mixes() []Mix { return []Mix{Default, Worst, Steady} }

// ParseMix returns the mix of a name.
func ParseMix(name string) (Mix, error) {
	names := make([]string, 0, len(Mixes()))
	for _, m := range Mixes() {
		if string(m) == name {
			return m, nil
		}
		names = append(names, string(m))
	}
	return "", fmt.Errorf("%q is no mix; there are %s", name, strings.Join(names, ", "))
}

// Limits of the options.
const (
	MaxDevices  = 1_000_000_000
	MaxPolicies = 1_000_000
	MinRate     = 0.001
	// MaxRate is the greatest rate in reports a second at which event times keep up
	// with the clock.
	MaxRate = 300_000
	// MaxClockSkew is the greatest error of a device's clock: half of the 10 minutes
	// after which a report is refused as from the future.
	MaxClockSkew = 5 * time.Minute
	// MaxOthers is the greatest share of Partial, Removed and Bad together: the rest
	// are full, and with them devices introduce themselves.
	MaxOthers = 0.99
)

// Options describe a fleet. Shares are from 0 to 1 and default to 0. In the mixes
// Worst and Steady all shares and the clock skew are 0.
type Options struct {
	// Devices and Policies are how many there are. Each device has each policy.
	// Each defaults to 1.
	Devices  int
	Policies int
	Seed     uint64
	// Mix defaults to Default.
	Mix Mix
	// Start is the event time of the first report. Defaults to 2025-01-01T00:00:00Z.
	Start time.Time
	// Rate is how many reports are sent a second; event times are spaced for it.
	// Defaults to as fast as possible: event times are then 3.2 µs apart, and are
	// ahead of the clock where more than 312,500 reports a second are sent.
	Rate float64
	// Partial is the share of reports with a random subset of the properties, one
	// in sixteen of them with none at all.
	Partial float64
	// Nulls is the share of null among the values in partial reports, of properties
	// that may be null.
	Nulls float64
	// Removed is the share of reports that delete their record.
	Removed float64
	// Bad is the share of reports that break a rule.
	Bad float64
	// Duplicates is the share of reports that are sent a second time, up to 64
	// reports later.
	Duplicates float64
	// Reorder is the share of reports that are sent after up to 1,023 reports that
	// were made later.
	Reorder float64
	// Late is the share of reports that were made up to two hours before they are
	// sent.
	Late float64
	// ClockSkew is the greatest error of a device's clock, one way or the other. Each
	// device has one of sixteen errors in this range, always the same.
	ClockSkew time.Duration
}

var defaultStart = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

func (o Options) withDefaults() Options {
	o.Devices, o.Policies = max(o.Devices, 1), max(o.Policies, 1)
	if o.Mix == "" {
		o.Mix = Default
	}
	if o.Start.IsZero() {
		o.Start = defaultStart
	}
	o.Start = o.Start.UTC().Truncate(tick)
	if o.Mix == Steady {
		// Of 100 reports sent, 99 are made.
		o.Partial, o.Duplicates = 1./99, 1./99
	}
	return o
}

// others is the share of reports that are not full.
func (o Options) others() float64 { return o.Partial + o.Removed + o.Bad }

// Validate returns an error that begins with the first option that is wrong, as its
// flag is called.
func (o Options) Validate() error {
	if o.Devices < 0 || o.Devices > MaxDevices || o.Policies < 0 || o.Policies > MaxPolicies {
		return fmt.Errorf("devices are from 1 to %d and policies from 1 to %d", MaxDevices, MaxPolicies)
	}
	if o.Rate != 0 && !(o.Rate >= MinRate && o.Rate <= MaxRate) {
		return fmt.Errorf("rate is from %g to %d reports a second, or 0 for as fast as possible", MinRate, MaxRate)
	}
	for _, share := range []struct {
		name string
		of   float64
	}{
		{"partial", o.Partial},
		{"nulls", o.Nulls},
		{"removed", o.Removed},
		{"bad", o.Bad},
		{"duplicates", o.Duplicates},
		{"reorder", o.Reorder},
		{"late", o.Late},
	} {
		if !(share.of >= 0 && share.of <= 1) {
			return fmt.Errorf("%s is a share, from 0 to 1", share.name)
		}
	}
	if o.others() > MaxOthers+1e-9 {
		return fmt.Errorf("partial, removed and bad are at most %g together: the rest are the full reports with which devices introduce themselves", MaxOthers)
	}
	if o.ClockSkew < 0 || o.ClockSkew > MaxClockSkew {
		return fmt.Errorf("clock-skew is from 0 to %s: reports from more than 10 minutes ahead are refused", MaxClockSkew)
	}
	if year := o.Start.Year(); !o.Start.IsZero() && (year < 1970 || year > 2999) {
		return errors.New("start is in the years 1970 to 2999")
	}
	return o.validateMix()
}

func (o Options) validateMix() error {
	if o.Mix == "" || o.Mix == Default {
		return nil
	}
	if _, err := ParseMix(string(o.Mix)); err != nil {
		return fmt.Errorf("mix: %w", err)
	}
	if o.Partial+o.Nulls+o.Removed+o.Bad+o.Duplicates+o.Reorder+o.Late > 0 || o.ClockSkew > 0 {
		return fmt.Errorf("mix %s has shares of its own: leave out all shares and clock-skew", o.Mix)
	}
	return nil
}
