package storetest

import (
	"cmp"
	"errors"
	"slices"
	"sync"

	diff "github.com/google/go-cmp/cmp"

	"github.com/complianced/complianced/compliance"
)

// wantFloorError expects that a transaction is refused, with the floor that is
// there, and that nothing was written.
func (h *hand) wantFloorError(tx compliance.Transaction, want compliance.Floor) {
	h.t.Helper()
	counts, err := h.store.Counts(h.t.Context())
	if err != nil {
		h.t.Fatalf("Counts: %v", err)
	}
	record := h.get(key())
	effects, err := h.store.Apply(h.t.Context(), tx)
	foreign, ok := errors.AsType[*compliance.FloorError](err)
	if !ok || effects != nil {
		h.t.Fatalf("Apply returns %v and %v, not a FloorError", effects, err)
	}
	if foreign.Bucket != tx.Bucket || !foreign.Want.Equal(tx.From) || !foreign.Have.Equal(want) {
		h.t.Errorf("the error says %+v, the floor is %v", foreign, want)
	}
	h.wantCounts(counts)
	if have := h.get(key()); have != record {
		h.t.Errorf("the record is %v, was %v", have, record)
	}
	if have := h.floorThere(); !have.Equal(want) {
		h.t.Errorf("the floor is %v, was %v", have, want)
	}
}

func foreignFloor(h *hand) {
	r := h.report(1, key(), `{"status":"error"}`, older, "1")
	from := h.floor(1)
	h.wantFloorError(compliance.Transaction{Bucket: bucket(), From: from, To: h.floor(2), Reports: []*compliance.Report{r}}, compliance.Floor{})
	h.apply(1, r)
	next := h.report(2, key(), `{"status":"compliant"}`, newer, "2")
	for _, change := range []func(f *compliance.Floor){
		func(f *compliance.Floor) { *f = compliance.Floor{} },
		func(f *compliance.Floor) { f.Stream = "OTHER" },
		func(f *compliance.Floor) { f.Created = f.Created.Add(1) },
		func(f *compliance.Floor) { f.Sequence++ },
		func(f *compliance.Floor) { f.Sequence-- },
		func(f *compliance.Floor) { f.Stored = f.Stored.Add(1) },
		func(f *compliance.Floor) { f.Layout.Buckets = 128 },
		func(f *compliance.Floor) { f.Layout.Partitions = 2 },
		func(f *compliance.Floor) { f.Write += "x" },
		func(f *compliance.Floor) { f.Repair = true },
	} {
		wrong := h.at
		change(&wrong)
		h.wantFloorError(compliance.Transaction{
			Bucket: bucket(), From: wrong, To: h.floor(2), Reports: []*compliance.Report{next},
			Gaps: []compliance.Gap{{First: 1, Last: 1, Seen: began}}, Accept: true, Recount: true,
		}, h.at)
	}
	h.wantGaps()
}

func competition(h *hand) {
	h.apply(1, h.report(1, key(), `{"status":"unknown"}`, older, "1"))
	var txs []compliance.Transaction
	for i, body := range []string{`{"status":"error"}`, `{"status":"compliant"}`, `{"@removed":{}}`, `{"status":"conflict"}`} {
		r := h.report(2, key(), body, newer, string(rune('a'+i)))
		txs = append(txs, compliance.Transaction{Bucket: bucket(), From: h.at, To: h.floor(2), Reports: []*compliance.Report{r}})
	}
	errs := make([]error, len(txs))
	var all sync.WaitGroup
	for i, tx := range txs {
		all.Go(func() { _, errs[i] = h.store.Apply(h.t.Context(), tx) })
	}
	all.Wait()
	winner := slices.Index(errs, nil)
	if winner < 0 {
		h.t.Fatalf("none happened: %v", errs)
	}
	for i, err := range errs {
		foreign, ok := errors.AsType[*compliance.FloorError](err)
		if i != winner && (!ok || !foreign.Have.Equal(txs[winner].To)) {
			h.t.Errorf("beside the winner: %v", err)
		}
	}
	if have := h.get(key()); have.Newest() != txs[winner].Reports[0].Version {
		h.t.Errorf("the record is not the winner's: %v", have)
	}
}

func twice(h *hand) {
	tx := compliance.Transaction{
		Bucket: bucket(), To: h.floor(1), Reports: []*compliance.Report{h.report(1, key(), `{"status":"error"}`, older, "1")},
		Gaps: []compliance.Gap{{First: 1, Last: 1, Seen: began}},
	}
	h.wantOutcomes(h.must(tx), compliance.Applied)
	record := h.get(key())
	effects, err := h.store.Apply(h.t.Context(), tx)
	if err != nil || effects != nil {
		h.t.Errorf("the second Apply returns %v and %v, not nothing", effects, err)
	}
	h.wantCounts(table{key().Policy: {compliance.StatusError: 1}})
	h.wantGaps(tx.Gaps...)
	if have := h.get(key()); have != record {
		h.t.Errorf("the record is %v, was %v", have, record)
	}
}

func nothingButAFloor(h *hand) {
	for _, sequence := range []uint64{7, 7, 8} {
		if effects := h.apply(sequence); len(effects) != 0 {
			h.t.Errorf("effects of no reports: %v", effects)
		}
		if have := h.floorThere(); !have.Equal(h.at) {
			h.t.Errorf("the floor is %v, not %v", have, h.at)
		}
	}
	h.wantCounts(table{})
}

func repair(h *hand) {
	h.apply(9, h.report(9, key(), `{"status":"error"}`, older, "1"))
	back := h.floor(0)
	back.Repair = true
	back.Stored = began.AddDate(-1000, 0, 0).AddDate(1000, 0, 0)
	h.must(compliance.Transaction{Bucket: bucket(), From: h.at, To: back})
	if have := h.floorThere(); !have.Equal(back) || !have.Repair {
		h.t.Errorf("the floor is %v, not %v", have, back)
	}
	h.wantOutcomes(h.apply(9, h.report(9, key(), `{"status":"error"}`, older, "1")), compliance.Unchanged)
	h.wantCounts(table{key().Policy: {compliance.StatusError: 1}})
	if h.floorThere().Repair {
		h.t.Error("the floor after the repair is still marked")
	}
}

func (h *hand) wantGaps(want ...compliance.Gap) {
	h.t.Helper()
	have, err := h.store.Gaps(h.t.Context(), []compliance.Bucket{bucket()})
	if err != nil || len(have) != 1 {
		h.t.Fatalf("Gaps: %v, %v", have, err)
	}
	slices.SortFunc(have[0], func(a, b compliance.Gap) int { return cmp.Compare(a.First, b.First) })
	if len(want)+len(have[0]) > 0 && !diff.Equal(want, have[0]) {
		h.t.Errorf("gaps (-want +have):\n%s", diff.Diff(want, have[0]))
	}
}

func gaps(h *hand) {
	h.wantGaps()
	one := compliance.Gap{First: 1, Last: 4, Seen: began.Add(1)}
	two := compliance.Gap{First: 6, Last: 6, Seen: began.Add(2)}
	three := compliance.Gap{First: 8, Last: 9, Seen: began.Add(3)}
	h.must(compliance.Transaction{Bucket: bucket(), To: h.floor(6), Gaps: []compliance.Gap{one, two}})
	h.wantGaps(one, two)
	h.apply(7, h.report(7, key(), `{}`, older, "1"))
	h.wantGaps(one, two)
	h.must(compliance.Transaction{Bucket: bucket(), From: h.at, To: h.floor(9), Gaps: []compliance.Gap{three}, Accept: true})
	h.wantGaps(three) // Those of before are forgotten, not its own.
	h.must(compliance.Transaction{Bucket: bucket(), From: h.at, To: h.floor(9), Accept: true})
	h.wantGaps()
}

func recount(h *hand) {
	h.apply(3,
		h.report(1, key(), `{"status":"error"}`, older, "1"),
		h.report(2, sibling(), `{"status":"compliant"}`, older, "1"),
		h.report(3, sibling(), `{"@removed":{}}`, newer, "2"))
	record := h.get(key())
	want := table{key().Policy: {compliance.StatusError: 1}}
	h.must(compliance.Transaction{Bucket: bucket(), From: h.at, To: h.floor(3), Recount: true})
	h.wantCounts(want)
	if have := h.get(key()); have != record {
		h.t.Errorf("the record is %v, was %v", have, record)
	}
	h.must(compliance.Transaction{
		Bucket: bucket(), From: h.at, To: h.floor(4), Recount: true,
		Reports: []*compliance.Report{h.report(4, key(), `{"status":"conflict"}`, newer, "2")},
	})
	h.wantCounts(table{key().Policy: {compliance.StatusConflict: 1}})
	h.apply(104) // The tombstone is found by the index that was made anew.
	if have := h.get(sibling()); !have.Empty() {
		h.t.Errorf("the expired tombstone is still there: %v", have)
	}
	h.wantCounts(table{key().Policy: {compliance.StatusConflict: 1}})
}
