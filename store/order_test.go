package store_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/store"
)

// reordered is the same history as another stream has it: in another order, some of
// it several times.
func reordered(all []message, random *rand.Rand) []message {
	all = slices.Clone(all)
	for range random.IntN(len(all)) {
		all = append(all, all[random.IntN(len(all))])
	}
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// deliver merges reports in batches that are cut at random. Now and then the floor goes
// back, and what it covered is delivered again. It returns the reports as they came.
func deliver(t *testing.T, m *store.Memory, reports []*compliance.Report, random *rand.Rand) (came []*compliance.Report) {
	t.Helper()
	var at compliance.Floor
	for n := 0; at.Sequence < uint64(len(reports)); n++ {
		to := floor(min(at.Sequence+1+random.Uint64N(9), uint64(len(reports))), fmt.Sprint("forth", n))
		batch := reports[at.Sequence:to.Sequence]
		apply(t, m, at, to, batch...)
		came = append(came, batch...)
		if at = to; random.IntN(8) == 0 {
			back := floor(random.Uint64N(at.Sequence+1), fmt.Sprint("back", n))
			apply(t, m, at, back)
			at = back
		}
	}
	return came
}

// timeless is a dump without the store times of tombstones, which are those of the
// order in which the reports came.
func timeless(dump map[string]any) map[string]any {
	dump = maps.Clone(dump)
	for key, entries := range dump {
		switch of := entries.(type) {
		case map[string]string:
			if v := of["v"]; strings.HasPrefix(v, "t") {
				dump[key] = map[string]string{"v": v[:17]}
			}
		case map[string]float64:
			if strings.HasSuffix(key, "|tombs") {
				dump[key] = slices.Sorted(maps.Keys(of))
			}
		}
	}
	return dump
}

// TestWhatFollowsFromRecordsDependsOnNoOrder brings each history in several orders, and
// holds records, tombstones and all that follows from them against the fold: derived
// anew from the records, and moved with each report.
func TestWhatFollowsFromRecordsDependsOnNoOrder(t *testing.T) {
	const orders = 3
	n := 500
	if *full {
		n = 20_000
	}
	seen, again := kinds{}, 0
	for seed := range n {
		random := rand.New(rand.NewPCG(uint64(seed), 6))
		all := history(random)
		first := oracle(all)
		for order := range orders {
			if order > 0 {
				all = reordered(all, random)
			}
			m, moved := store.NewMemory(0), store.NewMoved()
			came := deliver(t, m, reportsOf(t, all), random)
			for _, report := range came {
				moved.Merge(report)
			}
			again += len(came) - len(all)
			want, have := oracle(all), m.Derived(0)
			wantSame(t, seed, order, "another order", timeless(first), timeless(want))
			derived := maps.Clone(want)
			maps.DeleteFunc(derived, func(key string, _ any) bool { return !strings.Contains(key, "|") })
			wantSame(t, seed, order, "moved", derived, moved.Derived(0))
			for key, hash := range m.Dump() {
				have[key] = hash
			}
			wantSame(t, seed, order, "derived", want, have)
			seen.note(have)
		}
	}
	seen.wantEvery(t)
	if again == 0 {
		t.Error("nothing was delivered again")
	}
	t.Logf("%d histories in %d orders each, %d reports delivered again", n, orders, again)
}

func wantSame(t *testing.T, seed, order int, what string, want, have map[string]any) {
	t.Helper()
	if !reflect.DeepEqual(want, have) { // Faster than what tells the difference.
		t.Fatalf("history %d, order %d, %s (-oracle +store):\n%s", seed, order, what, cmp.Diff(want, have))
	}
}
