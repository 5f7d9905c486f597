package main

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/complianced/complianced/internal/fleet"
)

// measured is an output in which each value is just at its target, or by as much
// above as said.
func measured(t *testing.T, above float64, args ...string) *Output {
	t.Helper()
	s, err := parse(args, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	at := func(v float64) Figure { return Figure{Median: v + above} }
	o := &Output{
		Settings: s,
		Speed:    []Speed{{Mix: fleet.Worst, Ratio: at(2.2)}, {Mix: fleet.Steady, Ratio: at(1.6)}},
		Latency:  []Latency{{Mix: fleet.Worst, System: Tail{P99: at(.020)}}},
		Memory: []Memory{
			{Of: ofUniform, Alone: 430 + above, All: 600},
			{Of: ofSteady, All: 520 + above, Alone: 600},
			{Of: ofOwn, Alone: 700 + above, All: 900},
			{Of: ofBare, All: 900},
		},
		Derived: []Derived{{Mix: fleet.Steady, Ratio: at(1.15)}},
		Backlog: []Backlog{{Peak: 200e6 - 1 + int64(1e3*above), PeakLarge: 200e6 - 1 + int64(1e3*above)}},
	}
	o.Targets = o.targets()
	return o
}

func TestATargetIsMetUpToItsLimit(t *testing.T) {
	if o := measured(t, 0); len(o.Targets) != 9 || o.missed() != nil {
		t.Errorf("%v: %+v", o.missed(), o.Targets)
	}
	o := measured(t, .001)
	for _, target := range o.Targets {
		if target.Met {
			t.Errorf("%+v is met", target)
		}
	}
	if err := o.missed(); !errors.Is(err, errMissed) {
		t.Error(err)
	}
	var text strings.Builder
	if err := o.printTargets(&text); err != nil || strings.Count(text.String(), "NO") != 9 {
		t.Error(err, text.String())
	}
	o.Backlog[0].Peak = 200e6
	if last := o.targets()[7]; last.Met || last.Value != 200 {
		t.Errorf("exactly 200 MB: %+v", last)
	}
}

func TestTargetsArePromisedAtTheDefaultLoadAlone(t *testing.T) {
	for _, args := range [][]string{{"--seed", "7", "--appendonly", "no", "--mix", "worst", "--only", "speed", "--json", "x"}, nil} {
		if measured(t, 1, args...).missed() == nil {
			t.Errorf("%v: nothing is missed", args)
		}
	}
	for _, args := range [][]string{{"--count", "1"}, {"--reports", "1000"}, {"--bare-pipeline", "1"}, {"--rate", "10"}, {"--backlog", "9"}, {"--records", "9"}} {
		if err := measured(t, 1, args...).missed(); err != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
}
