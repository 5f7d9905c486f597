package ingest_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/ingest"
	"github.com/complianced/complianced/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var layout = compliance.Layout{Partitions: 1, Buckets: 4}

// rig is a loop over memory, with all that it touches.
type rig struct {
	*testing.T
	stream   *stream
	store    *store.Memory
	outlet   *outlet
	observer *observer
	// tap and view are what startWith gives its loop.
	tap  *tap
	view *view
	stop func()
}

func setup(t *testing.T) *rig {
	t.Helper()
	r := &rig{
		T: t, stream: newStream(), store: store.NewMemory(0),
		outlet: newOutlet(), observer: newObserver(),
	}
	r.tap = &tap{T: t, Memory: r.store}
	r.view = &view{stream: r.stream}
	return r
}

// start runs a loop until the test or stop ends it.
func (r *rig) start() {
	r.Helper()
	r.stop = r.run(&view{stream: r.stream}, r.store)
}

// startWith runs a loop on the rig's view and tap. Where it does not say
// otherwise, only a new consumer, a gap and an error make the loop look.
func (r *rig) startWith(change func(*ingest.Options)) {
	r.Helper()
	r.stop = r.runWith(r.view, r.tap, func(o *ingest.Options) {
		o.LookEvery = time.Hour
		if change != nil {
			change(o)
		}
	})
}

func (r *rig) run(source ingest.Source, sink ingest.Store) (stop func()) {
	r.Helper()
	return r.runWith(source, sink, func(*ingest.Options) {})
}

func (r *rig) runWith(source ingest.Source, sink ingest.Store, change func(*ingest.Options)) (stop func()) {
	r.Helper()
	options := ingest.Options{
		Layout: layout, LookEvery: 20 * time.Millisecond, Backoff: time.Millisecond, Observer: r.observer,
		Now: func() time.Time { r.stream.mu.Lock(); defer r.stream.mu.Unlock(); return r.stream.clock },
	}
	change(&options)
	loop, err := ingest.NewLoop(source, sink, r.outlet, options)
	if err != nil {
		r.Fatal(err)
	}
	ctx, cancel := context.WithCancel(r.Context())
	done := make(chan error, 1)
	go func() { done <- loop.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			r.Errorf("Run: %v", err)
		}
	}
	r.Cleanup(stop)
	return stop
}

func key(n int) compliance.Key {
	return compliance.Key{Policy: fmt.Sprint("policy", n%2), Device: fmt.Sprint("device", n)}
}

func (r *rig) publish(from, to int, status string) {
	for n := from; n < to; n++ {
		r.stream.publish(key(n), fmt.Sprintf(`{"status":%q,"userName":"user %d"}`, status, n))
	}
}

// settled waits until every floor is at the end of the stream.
func (r *rig) settled() {
	r.Helper()
	eventually(r.T, "every floor at the end of the stream", func() bool {
		info, _ := r.stream.Info(r.Context())
		floors, _ := r.store.Floors(r.Context(), layout.BucketsOf(0))
		return !slices.ContainsFunc(floors, func(f compliance.Floor) bool {
			return f.Sequence != info.Last || !f.Created.Equal(info.Created)
		})
	})
}

// fold merges these reports, in this order, into an empty store.
func (r *rig) fold(messages ...map[uint64]compliance.Envelope) map[string]map[string]string {
	want := store.NewMemory(0)
	floors := make([]compliance.Floor, layout.Buckets)
	n := 0
	for _, part := range messages {
		for _, sequence := range sortedKeys(part) {
			envelope := part[sequence]
			report, rejection := compliance.Decode(&envelope)
			if rejection != nil {
				continue
			}
			n++
			b := layout.BucketOf(report.Key.Device)
			to := compliance.Floor{Stream: "fold", Sequence: uint64(n), Write: fmt.Sprint(n)}
			if _, err := want.Apply(r.Context(), compliance.Transaction{Bucket: b, From: floors[b], To: to, Reports: []*compliance.Report{&report}}); err != nil {
				r.Fatal(err)
			}
			floors[b] = to
		}
	}
	return want.Dump()
}

func (r *rig) same(messages ...map[uint64]compliance.Envelope) {
	r.Helper()
	if diff := cmp.Diff(r.fold(messages...), r.store.Dump()); diff != "" {
		r.Errorf("the state is not that of the reports (-want +have):\n%s", diff)
	}
}

func (r *rig) messages() map[uint64]compliance.Envelope {
	r.stream.mu.Lock()
	defer r.stream.mu.Unlock()
	twin := map[uint64]compliance.Envelope{}
	maps.Copy(twin, r.stream.messages)
	return twin
}

func (r *rig) gaps() []string {
	r.Helper()
	gaps, err := r.store.Gaps(r.Context(), layout.BucketsOf(0))
	if err != nil {
		r.Fatal(err)
	}
	var list []string
	for _, of := range gaps {
		for _, gap := range of {
			list = append(list, fmt.Sprint(gap.First, "-", gap.Last))
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func TestReportsBecomeStateAndFloorsMoveWithoutTraffic(t *testing.T) {
	r := setup(t)
	r.start()
	r.publish(0, 500, "compliant")
	r.publish(100, 200, "nonCompliant")
	r.settled()
	r.same(r.messages())
	counts, _ := r.store.Counts(t.Context())
	want := map[string][compliance.NumStatuses]int{
		"policy0": {compliance.StatusCompliant: 200, compliance.StatusNonCompliant: 50},
		"policy1": {compliance.StatusCompliant: 200, compliance.StatusNonCompliant: 50},
	}
	if diff := cmp.Diff(want, counts); diff != "" {
		t.Error(diff)
	}
}

func TestABadReportIsADeadLetterAndLeavesNoTrace(t *testing.T) {
	r := setup(t)
	r.start()
	bad := r.stream.publish(key(1), `{"status":"String"}`, "Compliance-Reply", "token")
	r.publish(2, 3, "compliant")
	r.settled()
	if diff := cmp.Diff(map[uint64]compliance.Code{bad: compliance.InvalidStatus}, r.outlet.codes()); diff != "" {
		t.Error(diff)
	}
	if len(r.store.Dump()) != 1 {
		t.Errorf("want one record, have %v", r.store.Dump())
	}
	if diff := cmp.Diff([]compliance.Outcome{compliance.Rejected}, r.outlet.outcomes()); diff != "" {
		t.Error(diff)
	}
}

func TestNoFloorPassesADeadLetterThatIsNotAcknowledged(t *testing.T) {
	r := setup(t)
	r.outlet.setDown(true)
	r.publish(0, 50, "compliant")
	r.stream.publish(key(1), `{`)
	r.publish(0, 50, "error")
	r.start()
	eventually(t, "some attempts", func() bool {
		r.stream.mu.Lock()
		defer r.stream.mu.Unlock()
		return r.stream.seeks > 3
	})
	floors, _ := r.store.Floors(t.Context(), layout.BucketsOf(0))
	for _, floor := range floors {
		if floor.Sequence > 50 {
			t.Errorf("a floor is at %d, the dead letter is 51", floor.Sequence)
		}
	}
	r.outlet.setDown(false)
	r.settled()
	r.same(r.messages())
}

func TestResultsAreSentOnceAndInSequence(t *testing.T) {
	r := setup(t)
	r.start()
	r.stream.publish(key(1), `{"status":"compliant"}`, "ce-id", "1", "ce-time", "2026-01-01T00:00:00Z", "Compliance-Reply", "a.b")
	r.stream.publish(key(1), `{"status":"compliant"}`, "ce-id", "1", "ce-time", "2026-01-01T00:00:00Z", "Compliance-Reply", "a.b")
	r.stream.publish(key(1), `{"status":"error"}`, "ce-id", "1", "ce-time", "2025-01-01T00:00:00Z", "Compliance-Reply", "a.b")
	r.settled()
	r.store.Lose()
	eventually(t, "the rewind", func() bool { return r.observer.rewound(ingest.StoreEmpty) > 0 })
	r.settled()
	want := []compliance.Outcome{compliance.Applied, compliance.Unchanged, compliance.Stale}
	if diff := cmp.Diff(want, r.outlet.outcomes()); diff != "" {
		t.Error(diff)
	}
}

func TestAnEmptyStoreIsFilledAgain(t *testing.T) {
	r := setup(t)
	r.start()
	r.publish(0, 300, "compliant")
	r.settled()
	r.store.Lose()
	r.settled()
	r.same(r.messages())
	if r.observer.rewound(ingest.StoreEmpty) == 0 {
		t.Error("no rewind was counted")
	}
}

func TestAStoreThatLostItsTailIsHealed(t *testing.T) {
	r := setup(t)
	r.start()
	r.publish(0, 100, "compliant")
	r.settled()
	restore := r.store.Snapshot()
	r.publish(50, 200, "error")
	r.settled()
	restore()
	eventually(t, "the rewind", func() bool { return r.observer.rewound(ingest.StoreBehind) > 0 })
	r.settled()
	r.same(r.messages())
}

func TestAWorkerThatStartsAnewGoesOnFromTheFloors(t *testing.T) {
	r := setup(t)
	r.start()
	r.publish(0, 100, "compliant")
	r.settled()
	r.stop()
	r.publish(0, 50, "error")
	r.start()
	r.settled()
	r.same(r.messages())
	r.stop()
	if n := r.observer.outcomes[compliance.Applied]; n != 150 {
		t.Errorf("want 150 reports applied, have %d", n)
	}
}

func TestTwoLoopsOnOnePartitionDoNotHarmEachOther(t *testing.T) {
	r := setup(t)
	r.start()
	r.publish(0, 200, "compliant")
	r.settled()
	r.run(&view{stream: r.stream}, r.store)
	eventually(t, "a takeover", func() bool {
		r.publish(0, 50, "error")
		return r.observer.rewound(ingest.OwnerChanged) > 0
	})
	r.settled()
	r.same(r.messages())
}

func TestARecreatedStreamIsMergedOnTop(t *testing.T) {
	r := setup(t)
	r.start()
	r.publish(0, 100, "compliant")
	r.settled()
	before := r.messages()
	r.stream.recreate()
	r.publish(50, 120, "error")
	r.settled()
	r.same(before, r.messages())
	if r.observer.rewound(ingest.StreamRecreated) == 0 {
		t.Error("no rewind was counted")
	}
}

func TestAStreamRecreatedWhileNobodyReadIsNoticed(t *testing.T) {
	r := setup(t)
	r.start()
	r.publish(0, 100, "compliant")
	r.settled()
	r.stop()
	before := r.messages()
	r.stream.recreate()
	r.publish(0, 100, "error")
	r.start()
	r.settled()
	r.same(before, r.messages())
	if r.observer.rewound(ingest.StreamRecreated) == 0 {
		t.Error("no rewind was counted")
	}
}

func TestARolledBackStreamIsMergedAgain(t *testing.T) {
	for _, c := range []struct {
		name  string
		grown int
	}{{"and shorter than the floors", 0}, {"and grown past the floors", 120}} {
		t.Run(c.name, func(t *testing.T) {
			r := setup(t)
			r.start()
			r.publish(0, 100, "compliant")
			r.settled()
			r.stop()
			before := r.messages()
			r.stream.rollBack(60)
			r.publish(0, c.grown, "error")
			r.start()
			r.settled()
			r.same(before, r.messages())
			if r.observer.rewound(ingest.StreamRolledBack) == 0 {
				t.Error("no rewind was counted")
			}
			if gaps := r.gaps(); gaps != nil {
				t.Errorf("want no gap, have %v", gaps)
			}
		})
	}
}

func TestAgedOutReportsAreAGap(t *testing.T) {
	r := setup(t)
	r.start()
	r.publish(0, 50, "compliant")
	r.settled()
	r.stop()
	kept := r.messages()
	r.publish(0, 100, "error")
	r.stream.ageOut(101)
	r.start()
	r.settled()
	if diff := cmp.Diff([]string{"51-100"}, r.gaps()); diff != "" {
		t.Error(diff)
	}
	r.same(kept, r.messages())
}

func TestAnEmptyStoreAndAStreamThatDoesNotBeginAtOneAreAGap(t *testing.T) {
	r := setup(t)
	r.publish(0, 50, "compliant")
	r.stream.ageOut(11)
	r.start()
	r.settled()
	if diff := cmp.Diff([]string{"1-10"}, r.gaps()); diff != "" {
		t.Error(diff)
	}
	r.same(r.messages())
}

func TestARemovedReportIsAGap(t *testing.T) {
	r := setup(t)
	r.publish(0, 50, "compliant")
	r.stream.remove(20)
	r.stream.remove(21)
	r.start()
	r.settled()
	if diff := cmp.Diff([]string{"20-21"}, r.gaps()); diff != "" {
		t.Error(diff)
	}
	r.same(r.messages())
}

func TestAReportRemovedAfterItWasMergedIsNoGap(t *testing.T) {
	r := setup(t)
	r.start()
	r.publish(0, 50, "compliant")
	r.settled()
	r.stream.remove(20)
	r.publish(50, 60, "compliant")
	r.settled()
	if gaps := r.gaps(); gaps != nil {
		t.Errorf("want no gap, have %v", gaps)
	}
}
