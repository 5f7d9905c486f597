package storetest

import "github.com/complianced/complianced/compliance"

// In these tests the store time is as many seconds after the beginning as the
// sequence says, and a tombstone lives [Tombstones], which is 100 of them.

func unexpired(h *hand) {
	h.apply(1, h.report(1, key(), `{"@removed":{}}`, newer, "2"))
	h.wantOutcomes(h.apply(100, h.report(100, key(), `{"status":"error"}`, older, "1")), compliance.Stale)
	// The stale report was merged at 100: the tombstone lives on.
	h.wantTombstone(100)
	h.apply(199)
	h.wantTombstone(100)
	h.wantOutcomes(h.apply(199, h.report(199, key(), `{"@removed":{}}`, newer, "2")), compliance.Unchanged)
	h.wantTombstone(199)
	h.wantCounts(table{})
}

func expired(h *hand) {
	h.apply(2, h.report(1, key(), `{"@removed":{}}`, newer, "2"), h.report(2, sibling(), `{"@removed":{}}`, newer, "2"))
	h.apply(101)
	if record := h.get(key()); !record.Empty() {
		h.t.Errorf("the expired tombstone is still there: %v", record)
	}
	if record := h.get(sibling()); !record.Tombstone() {
		h.t.Errorf("a tombstone that has a second to live is gone: %v", record)
	}
	h.apply(102)
	if record := h.get(sibling()); !record.Empty() {
		h.t.Errorf("the expired tombstone is still there: %v", record)
	}
	// A tombstone that was made a record again does not go.
	h.apply(103, h.report(103, key(), `{"@removed":{}}`, newer, "2"))
	h.apply(104, h.report(104, key(), `{"status":"error"}`, "", "3"))
	h.apply(300)
	h.wantCounts(table{key().Policy: {compliance.StatusError: 1}})
}

func expiredInPlace(h *hand) {
	want := values(map[compliance.Property]compliance.Value{compliance.StatusProperty: compliance.TextValue("5")})
	removed := func(sequence uint64, k compliance.Key) *compliance.Report {
		return h.report(sequence, k, `{"@removed":{}}`, newer, "2")
	}
	stale := func(sequence uint64, k compliance.Key) *compliance.Report {
		return h.report(sequence, k, `{"status":"error"}`, older, "1")
	}
	// In the transaction of the removal itself.
	h.wantOutcomes(h.apply(101, removed(1, key()), stale(101, key())), compliance.Applied, compliance.Applied)
	h.wantValues(key(), want)
	// In a later one, the tombstone being still there.
	h.apply(102, removed(102, key()))
	h.wantOutcomes(h.apply(202, stale(202, key())), compliance.Applied)
	h.wantValues(key(), want)
	// The same, and what the stale report leaves alone is never set.
	h.apply(203, removed(203, key()))
	h.apply(303) // It is taken away.
	h.wantOutcomes(h.apply(304, stale(304, key())), compliance.Applied)
	h.wantValues(key(), want)
	// A removal that finds an expired tombstone makes one as new.
	h.apply(305, removed(305, key()))
	h.wantOutcomes(h.apply(405, removed(405, key())), compliance.Applied)
	h.wantTombstone(405)
	h.wantCounts(table{})
}
