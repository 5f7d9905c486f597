package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/complianced/complianced/internal/fleet"
	"github.com/complianced/complianced/internal/rig"
)

// Derived is what roll-up, indexes, and the numbers but the counts by status add to the
// cost of a report: complianced as it is, beside one that keeps none of them.
type Derived struct {
	AppendOnly string    `json:"appendonly"`
	Mix        fleet.Mix `json:"mix"`
	With       Cost      `json:"with"`
	Without    Cost      `json:"without"`
	// Ratio is the processor time of all processes, that without them being 1.
	Ratio Figure `json:"cpu_ratio"`
}

// countsAlone stands behind onChange in a complianced that keeps the counts alone.
const (
	onChange    = "\tpolicy := c.policy(key.Policy)\n"
	countsAlone = onChange + `	if before.Standing == after.Standing {
		return
	}
	if before.Exists {
		c.counts.move(policy, counter{key.Policy, int32(before.Status)}, -1)
	}
	if after.Exists {
		c.counts.move(policy, counter{key.Policy, int32(after.Status)}, 1)
	}
	if true {
		return
	}
`
)

// buildCounting builds a complianced that keeps the counts alone into a folder.
func buildCounting(ctx context.Context, programs rig.Programs, dir string) (rig.Programs, error) {
	programs.Complianced = filepath.Join(dir, "complianced-counting")
	folder, err := packageDir(ctx, "store")
	if err != nil {
		return programs, err
	}
	file := filepath.Join(folder, "changes.go")
	text, err := os.ReadFile(file)
	if err != nil {
		return programs, err
	}
	if strings.Count(string(text), onChange) != 1 {
		return programs, wrongf("%s is not what this program knows", file)
	}
	return programs, buildOverlaid(ctx, programs.Complianced, file, strings.Replace(string(text), onChange, countsAlone, 1))
}

// derivedTimes is how many times the number of runs of other measurements this one has: it
// compares two costs that are close.
const derivedTimes = 2

// derived measures as often as the settings say. The two take turns in being first.
func (b *bench) derived(ctx context.Context, appendOnly string, mix fleet.Mix) (err error) {
	counting, err := buildCounting(ctx, b.programs, b.bin)
	if err != nil {
		return err
	}
	var both [2]*session
	for i, programs := range []rig.Programs{b.programs, counting} {
		o, err := startSession(ctx, programs, b.Settings, appendOnly, mix, i == 1)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, o.close()) }()
		both[i] = o
	}
	runs := make([]Run, derivedTimes*b.Count)
	for n := range runs {
		for turn := range both {
			i := (n + turn) % len(both)
			want, err := both[i].publish(ctx, b.Reports, 0)
			if err != nil {
				return err
			}
			drained, err := both[i].drain(ctx, want)
			if err != nil {
				return err
			}
			if i == 0 {
				runs[n].system = drained
			} else {
				runs[n].used = drained.cpu
				runs[n].bare = BareResult{Took: drained.took, Mallocs: uint64(drained.mallocs), Bytes: uint64(drained.bytes)}
			}
		}
		b.tell(fmt.Sprintf("derived: %.2f times the processor time without", runs[n].ratio()))
	}
	for _, o := range both {
		if err := o.checkState(ctx, o.expected); err != nil {
			return err
		}
	}
	speed := speedOf(appendOnly, mix, runs)
	b.output.Derived = append(b.output.Derived, Derived{
		AppendOnly: appendOnly, Mix: mix, With: speed.System, Without: speed.Bare, Ratio: speed.Ratio,
	})
	return nil
}
