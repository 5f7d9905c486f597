package replay_test

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/replay"
)

func TestTheRateFallsWhileTheLagGrows(t *testing.T) {
	p := replay.NewPace(1000)
	for _, step := range []struct {
		lag  time.Duration
		had  float64
		want float64
	}{
		{0, 1000, 1000},
		{900 * time.Millisecond, 1000, 1000}, // It comes and goes.
		{2 * time.Second, 1000, 500},
		{3 * time.Second, 500, 250},
		{3 * time.Second, 250, 312.5}, // It does not grow.
		{2 * time.Second, 312, 390.625},
		{4 * time.Second, 100, 50}, // What was had counts, where it is less.
		{5 * time.Second, 50, 25},
		{6 * time.Second, 25, 12.5},
		{7 * time.Second, 12, 10}, // A hundredth is the least.
		{8 * time.Second, 10, 10},
		{0, 10, 12.5},
	} {
		if have := p.Look(step.lag, step.had); math.Abs(have-step.want) > 1e-9 {
			t.Errorf("lag %s: %v a second, want %v", step.lag, have, step.want)
		}
	}
	for range 100 {
		p.Look(0, 0)
	}
	if have := p.Look(0, 0); have != 1000 {
		t.Errorf("at last %v", have)
	}
	unbound := replay.NewPace(0)
	if have := unbound.Look(0, 50_000); !math.IsInf(have, 1) {
		t.Errorf("without a bound %v", have)
	}
	if have := unbound.Look(2*time.Second, 50_000); have != 25_000 {
		t.Errorf("without a bound, behind: %v", have)
	}
	slow := replay.NewPace(0.5)
	for _, step := range []struct {
		lag  time.Duration
		want float64
	}{{2 * time.Second, 0.5}, {3 * time.Second, 0.5}, {0, 0.5}} { // It is as slow as it may become.
		if have := slow.Look(step.lag, 0.5); have != step.want {
			t.Errorf("at most 0.5 a second, lag %s: %v a second", step.lag, have)
		}
	}
}

func TestAPositionIsPassedByAllBeforeIt(t *testing.T) {
	tracker := replay.NewTracker(replay.Position{Of: "x"})
	var n []uint64
	for i := range 4 {
		r := replay.NewReport(compliance.Envelope{Subject: "compliance.status.p.d", Sequence: uint64(10 + i)}, "S", 1)
		n = append(n, tracker.Begin(&r))
	}
	for _, step := range []struct {
		end     int
		outcome replay.Outcome
		passed  uint64
		reached uint64
	}{
		{1, replay.Applied, 0, 0},
		{3, replay.Failed, 0, 0},
		{0, replay.Stale, 2, 11},
		{2, replay.NoResult, 4, 13},
	} {
		p, table := tracker.End(n[step.end], step.outcome)
		if p.Passed != step.passed || p.Reached["S"] != step.reached || p.Table.Reports != p.Passed || table.Reports < p.Passed {
			t.Errorf("after %d: %+v, %+v", step.end, p, table)
		}
	}
	p, table := tracker.End(tracker.Begin(&replay.Report{}), replay.Unchanged)
	want := replay.Table{Reports: 5, Applied: 1, Unchanged: 1, Stale: 1, NoResult: 1, Failed: 1}
	if diff := cmp.Diff(want, table); diff != "" || p.Table != table {
		t.Error(diff)
	}
}
