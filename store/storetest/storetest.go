// Package storetest is the contract of a store as tests, which every store must
// pass.
package storetest

import (
	"cmp"
	"context"
	"strconv"
	"testing"
	"time"

	diff "github.com/google/go-cmp/cmp"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/store"
)

// Store is what a store must do. [Run] says how.
type Store interface {
	Apply(ctx context.Context, tx compliance.Transaction) ([]compliance.Effect, error)
	Get(ctx context.Context, key compliance.Key) (compliance.Record, error)
	Counts(ctx context.Context) (map[string][compliance.NumStatuses]int, error)
	Floors(ctx context.Context, buckets []compliance.Bucket) ([]compliance.Floor, error)
	Gaps(ctx context.Context, buckets []compliance.Bucket) ([][]compliance.Gap, error)
	Totals(ctx context.Context, now time.Time, validity int) (store.Totals, error)
}

// Tombstones is how long the stores under test must keep a tombstone.
const Tombstones = 100 * time.Second

// Layout is the layout that the stores under test must have.
func Layout() compliance.Layout {
	return compliance.Layout{Partitions: 1, Buckets: compliance.MaxBuckets}
}

// Run runs the whole suite. Every call of open returns an empty store with
// [Layout] and [Tombstones].
func Run(t *testing.T, open func(t *testing.T) Store) {
	t.Helper()
	for _, c := range []struct {
		name string
		test func(h *hand)
	}{
		{"the first report makes a record and a count", firstReport},
		{"absent, null and a value are three things", threeStates},
		{"the counts follow the status", countsFollow},
		{"buckets and policies are counted together", countsAddUp},
		{"a removal leaves a tombstone and no count", removal},
		{"a removal of what was never there leaves a tombstone", removalFirst},
		{"a report that is newer than the removal makes the record anew", revival},
		{"a transaction from a floor that is not there writes nothing", foreignFloor},
		{"of transactions from one floor at the same time one happens", competition},
		{"a transaction that is applied twice happens once", twice},
		{"a transaction without reports moves the floor", nothingButAFloor},
		{"a floor can be set back as a repair", repair},
		{"gaps are kept until they are accepted", gaps},
		{"reports of one record are merged in sequence with an effect each", sequence},
		{"of equal versions the greater value wins", ties},
		{"a report that asks for its result gets the record", reply},
		{"an outcome is applied, unchanged or stale", outcomes},
		{"a tombstone that has not expired holds off what is older", unexpired},
		{"a tombstone that has expired goes with the next transaction", expired},
		{"a stale report after the end of a tombstone makes a record, taken away or not", expiredInPlace},
		{"a recount leaves right counts as they are", recount},
		{"a grace period ends by itself", graceEnds},
		{"a grace period is there while the record is nonCompliant", graceSurvivesOtherReports},
		{"a record becomes stale by itself", daysGoBy},
		{"a device is counted once, with the worst of its statuses", worstOfADevice},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(&hand{t: t, store: open(t)}) })
	}
}

// hand drives a bucket of a store from floor to floor.
type hand struct {
	t      *testing.T
	store  Store
	at     compliance.Floor
	writes int
}

var began = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// newest and older are event times before any store time.
const (
	newer = "2026-02-01T00:00:00Z"
	older = "2026-01-01T00:00:00Z"
)

func key() compliance.Key { return compliance.Key{Policy: "policy", Device: "device"} }

// sibling is another policy's record of the same device, so of the same bucket.
func sibling() compliance.Key { return compliance.Key{Policy: "other", Device: key().Device} }

func bucket() compliance.Bucket { return Layout().BucketOf(key().Device) }

func storedAt(sequence uint64) time.Time { return began.Add(time.Duration(sequence) * time.Second) }

// floor is a new floor at a sequence, whose store time is as many seconds after
// the beginning.
func (h *hand) floor(sequence uint64) compliance.Floor {
	h.writes++
	return compliance.Floor{
		Stream: "COMPLIANCE", Created: began, Sequence: sequence, Stored: storedAt(sequence),
		Layout: Layout(), Write: "w" + strconv.Itoa(h.writes),
	}
}

// report is one that must be right, with an event time and an event id where
// they are not empty.
func (h *hand) report(sequence uint64, k compliance.Key, body, at, id string) *compliance.Report {
	h.t.Helper()
	return h.decode(sequence, k, body, map[string][]string{
		compliance.HeaderEventTime: {cmp.Or(at, compliance.FormatStored(storedAt(sequence)))},
		compliance.HeaderEventID:   {id},
	})
}

func (h *hand) decode(sequence uint64, k compliance.Key, body string, header map[string][]string) *compliance.Report {
	h.t.Helper()
	r, rejection := compliance.Decode(&compliance.Envelope{
		Subject: k.Subject(), Header: header, Body: []byte(body), Sequence: sequence, Stored: storedAt(sequence),
	})
	if rejection != nil {
		h.t.Fatalf("the report is refused: %v", rejection.Violations)
	}
	return &r
}

// apply applies a transaction that must happen, from the floor left by the last
// one to one at a sequence.
func (h *hand) apply(sequence uint64, reports ...*compliance.Report) []compliance.Effect {
	h.t.Helper()
	tx := compliance.Transaction{Bucket: bucket(), From: h.at, To: h.floor(sequence), Reports: reports}
	return h.must(tx)
}

func (h *hand) must(tx compliance.Transaction) []compliance.Effect {
	h.t.Helper()
	effects, err := h.store.Apply(h.t.Context(), tx)
	if err != nil {
		h.t.Fatalf("Apply: %v", err)
	}
	h.at = tx.To
	return effects
}

func (h *hand) get(k compliance.Key) compliance.Record {
	h.t.Helper()
	record, err := h.store.Get(h.t.Context(), k)
	if err != nil {
		h.t.Fatalf("Get: %v", err)
	}
	return record
}

func (h *hand) floorThere() compliance.Floor {
	h.t.Helper()
	floors, err := h.store.Floors(h.t.Context(), []compliance.Bucket{bucket()})
	if err != nil || len(floors) != 1 {
		h.t.Fatalf("Floors: %v, %v", floors, err)
	}
	return floors[0]
}

// table is what Counts returns.
type table = map[string][compliance.NumStatuses]int

func (h *hand) wantCounts(want table) {
	h.t.Helper()
	have, err := h.store.Counts(h.t.Context())
	if err != nil {
		h.t.Fatalf("Counts: %v", err)
	}
	if d := diff.Diff(want, have); d != "" {
		h.t.Errorf("counts (-want +have):\n%s", d)
	}
}

func (h *hand) wantOutcomes(effects []compliance.Effect, want ...compliance.Outcome) {
	h.t.Helper()
	var have []compliance.Outcome
	for _, e := range effects {
		have = append(have, e.Outcome)
	}
	if d := diff.Diff(want, have); d != "" {
		h.t.Errorf("outcomes (-want +have):\n%s", d)
	}
}

func (h *hand) wantValues(k compliance.Key, want [compliance.NumProperties]compliance.Value) {
	h.t.Helper()
	record := h.get(k)
	if d := diff.Diff(want, record.Values); d != "" {
		h.t.Errorf("values (-want +have):\n%s", d)
	}
}

// wantTotals compares the numbers at an instant.
func (h *hand) wantTotals(now time.Time, want store.Totals) {
	h.t.Helper()
	have, err := h.store.Totals(h.t.Context(), now, Validity)
	if err != nil {
		h.t.Fatalf("Totals: %v", err)
	}
	if d := diff.Diff(want, have); d != "" {
		h.t.Errorf("totals at %v (-want +have):\n%s", now, d)
	}
}
