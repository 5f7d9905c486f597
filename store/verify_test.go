package store_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	godiff "github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/store"
	"github.com/complianced/complianced/store/storetest"
)

// journal remembers which record each report concerns, as a stream does.
type journal struct {
	mu   sync.Mutex
	keys map[uint64]compliance.Key
}

func (j *journal) add(reports ...*compliance.Report) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, r := range reports {
		j.keys[r.Sequence] = r.Key
	}
}

func (j *journal) touched(_ context.Context, _ compliance.Bucket, from, to compliance.Floor) ([]compliance.Key, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var keys []compliance.Key
	for n := from.Sequence + 1; n <= to.Sequence; n++ {
		if key, ok := j.keys[n]; ok {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

// before returns the floor before the first report of the tests' stream.
func before(context.Context, compliance.Bucket) (compliance.Floor, error) {
	f := floor(0, "")
	f.Stored, f.Repair = time.Time{}, true
	return f, nil
}

// verify checks a store, and returns what was found in a stable order.
func verify(t *testing.T, r *store.Redis, j *journal, repair bool) ([]store.Difference, store.Verified) {
	t.Helper()
	var found []store.Difference
	result, err := r.Verify(t.Context(), store.VerifyOptions{
		Touched: j.touched, Before: before, Repair: repair, Found: func(d store.Difference) { found = append(found, d) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != result.Differences {
		t.Errorf("%d differences were told, and %d counted", len(found), result.Differences)
	}
	slices.SortFunc(found, func(a, b store.Difference) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Policy, b.Policy), cmp.Compare(a.Device, b.Device),
			cmp.Compare(a.Status, b.Status), cmp.Compare(a.Day, b.Day), cmp.Compare(a.Name, b.Name))
	})
	return found, result
}

func TestVerifyNamesEachKindOfCorruptionAndRepairMendsIt(t *testing.T) {
	s := startServer(t)
	ctx := t.Context()
	id := device.Device
	other, stray := devicesOfBucket0()[1], devicesOfBucket0()[2]
	record := "cs:{00}:policy:" + id
	const day, graceDay = "2027-01-15", "2027-01-16"
	of := func(kind store.Kind, d store.Difference) store.Difference {
		d.Kind = kind
		return d
	}
	type differences = []store.Difference
	member := func(device string) string { return packed(compliance.Key{Policy: "policy", Device: device}) }
	inError := func(device string) redis.Z {
		return z(attention(compliance.Key{Policy: "policy", Device: device}, 5), member(device))
	}
	// What is missing when the record of the device under "policy" is.
	cascade := func(first store.Difference) differences {
		return differences{
			{Kind: store.KindAttention, Policy: "policy", Device: id, Status: "nonCompliant", Want: "none", Have: "nonCompliant"},
			{Kind: store.KindCount, Policy: "policy", Status: "nonCompliant", Want: "none", Have: "1"},
			{Kind: store.KindDayCount, Policy: "policy", Day: day, Want: "1", Have: "2"},
			{Kind: store.KindDeviceCount, Status: "compliant", Want: "2", Have: "1"},
			{Kind: store.KindDeviceCount, Status: "nonCompliant", Want: "none", Have: "1"},
			{Kind: store.KindGraceCount, Policy: "policy", Day: graceDay, Want: "none", Have: "1"},
			{Kind: store.KindGrace, Policy: "policy", Device: id, Want: "none", Have: "1800057600000"},
			first,
		}
	}
	for _, c := range []struct {
		name string
		harm func() error
		want differences
		// lost says that the bucket has to be merged again.
		lost bool
	}{
		{name: "nothing"},
		{
			"a count", func() error { return s.raw.HSet(ctx, "cs:{00}:|counts", "policy|nonCompliant", "7").Err() },
			differences{{Kind: store.KindCount, Policy: "policy", Status: "nonCompliant", Want: "1", Have: "7"}},
			false,
		},
		{
			"a count of a policy that has no records", func() error { return s.raw.HSet(ctx, "cs:{00}:|counts", "x|error", "1").Err() },
			differences{{Kind: store.KindCount, Policy: "x", Status: "error", Want: "none", Have: "1"}},
			false,
		},
		{
			"a count of nothing", func() error { return s.raw.HSet(ctx, "cs:{00}:|counts", "x", "1").Err() },
			differences{{Kind: store.KindCount, Name: "x", Want: "none", Have: "1"}},
			false,
		},
		{
			"a count that is gone", func() error { return s.raw.HDel(ctx, "cs:{00}:|counts", "policy|compliant").Err() },
			differences{{Kind: store.KindCount, Policy: "policy", Status: "compliant", Want: "1", Have: "none"}},
			false,
		},
		{"counts of another type", func() error {
			return errors.Join(s.raw.Del(ctx, "cs:{00}:|counts").Err(), s.raw.RPush(ctx, "cs:{00}:|counts", "x").Err())
		}, differences{{Kind: store.KindCount, Want: "a hash", Have: "a key of another type"}}, false},
		{
			"a count of devices", func() error { return s.raw.HIncrBy(ctx, "cs:{00}:|worst", "compliant", 1).Err() },
			differences{{Kind: store.KindDeviceCount, Status: "compliant", Want: "1", Have: "2"}},
			false,
		},
		{
			"a count of a day", func() error { return s.raw.HSet(ctx, "cs:{00}:|days", "policy|2027-01-14", "3").Err() },
			differences{{Kind: store.KindDayCount, Policy: "policy", Day: "2027-01-14", Want: "none", Have: "3"}},
			false,
		},
		{
			"a count of grace periods", func() error { return s.raw.Del(ctx, "cs:{00}:|gracedays").Err() },
			differences{{Kind: store.KindGraceCount, Policy: "policy", Day: graceDay, Want: "1", Have: "none"}},
			false,
		},
		{
			"an end of a grace period", func() error { return s.raw.ZAdd(ctx, "cs:{00}:|grace", z(5, member(id))).Err() },
			differences{{Kind: store.KindGrace, Policy: "policy", Device: id, Want: "1800057600000", Have: "5"}},
			false,
		},
		{
			"a grace period that is not listed", func() error { return s.raw.ZRem(ctx, "cs:{00}:|grace", member(id)).Err() },
			differences{{Kind: store.KindGrace, Policy: "policy", Device: id, Want: "1800057600000", Have: "none"}},
			false,
		},
		{
			"an entry of what needs attention that is gone", func() error { return s.raw.ZRem(ctx, "cs:{00}:|attention", member(id)).Err() },
			differences{{Kind: store.KindAttention, Policy: "policy", Device: id, Status: "nonCompliant", Want: "nonCompliant", Have: "none"}},
			false,
		},
		{
			"an entry of what needs attention that does not", func() error { return s.raw.ZAdd(ctx, "cs:{00}:|attention", inError(other)).Err() },
			differences{{Kind: store.KindAttention, Policy: "policy", Device: other, Status: "error", Want: "none", Have: "error"}},
			false,
		},
		{
			"an entry of what needs attention for another status", func() error { return s.raw.ZAdd(ctx, "cs:{00}:|attention", inError(id)).Err() },
			differences{{Kind: store.KindAttention, Policy: "policy", Device: id, Status: "nonCompliant", Want: "nonCompliant", Have: "error"}},
			false,
		},
		{
			"an entry of what needs attention for no status", func() error { return s.raw.ZAdd(ctx, "cs:{00}:|attention", z(5, member(id))).Err() },
			differences{{Kind: store.KindAttention, Policy: "policy", Device: id, Status: "nonCompliant", Want: "nonCompliant", Have: "score 5"}},
			false,
		},
		{
			"an entry of what needs attention that does not, for no status",
			func() error { return s.raw.ZAdd(ctx, "cs:{00}:|attention", z(math.Inf(1), member(other))).Err() },
			differences{{Kind: store.KindAttention, Policy: "policy", Device: other, Want: "none", Have: "score +Inf"}},
			false,
		},
		{
			"an entry of what needs attention that is none", func() error { return s.raw.ZAdd(ctx, "cs:{00}:|attention", z(0, "x")).Err() },
			differences{{Kind: store.KindAttention, Name: "x", Want: "none", Have: "score 0"}},
			false,
		},
		{
			"an entry of what needs attention with more than a record", func() error { return s.raw.ZAdd(ctx, "cs:{00}:|attention", z(0, member(id)+"\xff")).Err() },
			differences{{Kind: store.KindAttention, Name: `"\x06policy\a` + id + `\xff"`, Want: "none", Have: "score 0"}},
			false,
		},
		{
			"a grace period under ids in full", func() error { return s.raw.ZAdd(ctx, "cs:{00}:|grace", z(5, "policy:"+id)).Err() },
			differences{{Kind: store.KindGrace, Name: "policy:" + id, Want: "none", Have: "5"}},
			false,
		},
		{
			"a grace period of a record that is not there, with UUIDs as ids", func() error {
				return s.raw.ZAdd(ctx, "cs:{00}:|grace", z(5, packed(compliance.Key{Policy: documented, Device: uuidOfBucket0}))).Err()
			},
			differences{{Kind: store.KindGrace, Policy: documented, Device: uuidOfBucket0, Want: "none", Have: "5"}},
			true,
		},
		{"an index of another type", func() error {
			return errors.Join(s.raw.Del(ctx, "cs:{00}:|attention").Err(), s.raw.Set(ctx, "cs:{00}:|attention", "x", 0).Err())
		}, differences{{Kind: store.KindAttention, Want: "a sorted set", Have: "a key of another type"}}, false},
		{
			"a device that is not listed", func() error { return s.raw.ZRem(ctx, "cs:{00}:|devices", id).Err() },
			differences{{Kind: store.KindDevice, Device: id, Want: "0", Have: "none"}},
			false,
		},
		{
			"a device out of order", func() error { return s.raw.ZAdd(ctx, "cs:{00}:|devices", z(1, id)).Err() },
			differences{{Kind: store.KindDevice, Device: id, Want: "0", Have: "1"}},
			false,
		},
		{
			"a roll-up with another status", func() error { return s.raw.HSet(ctx, "cs:{00}:|rollup", id, "2\x05other5\x06policy").Err() },
			differences{{Kind: store.KindRollup, Policy: "policy", Device: id, Want: "nonCompliant", Have: "error"}},
			false,
		},
		{
			"a roll-up that is none", func() error { return s.raw.HSet(ctx, "cs:{00}:|rollup", id, "x").Err() },
			differences{{Kind: store.KindRollup, Device: id, Want: "other=compliant policy=nonCompliant", Have: "unreadable"}},
			false,
		},
		{
			"a roll-up without a policy", func() error { return s.raw.HSet(ctx, "cs:{00}:|rollup", id, "2\x05other").Err() },
			differences{{Kind: store.KindRollup, Policy: "policy", Device: id, Want: "nonCompliant", Have: "none"}},
			false,
		},
		{
			"a tombstone that is not listed", func() error { return s.raw.Del(ctx, "cs:{00}:|tombs").Err() },
			differences{{Kind: store.KindTombstone, Policy: "gone", Device: id, Want: "1800000003000", Have: "none"}},
			false,
		},
		{
			"a tombstone that is not there", func() error { return s.raw.Del(ctx, "cs:{00}:gone:"+id).Err() },
			differences{{Kind: store.KindTombstone, Policy: "gone", Device: id, Want: "none", Have: "1800000003000"}},
			true,
		},
		{
			"a gap that is none", func() error { return s.raw.HSet(ctx, "cs:{00}:|gaps", "9-1", "x").Err() },
			differences{{Kind: store.KindGap, Name: "9-1", Want: "a gap", Have: "x"}},
			false,
		},
		{
			"a floor that is gone", func() error { return s.raw.Del(ctx, "cs:{00}:|floor").Err() },
			differences{{Kind: store.KindFloor, Want: "a floor", Have: "none"}},
			true,
		},
		{
			"a floor that is none", func() error { return s.raw.Set(ctx, "cs:{00}:|floor", "x", 0).Err() },
			differences{{Kind: store.KindFloor, Want: "a floor", Have: "unreadable"}},
			true,
		},
		{
			"a value that is another", func() error { return s.raw.HSet(ctx, record, "g", "2027-01-16T00:00:00+00:00").Err() },
			cascade(of(store.KindUnreadable, store.Difference{Policy: "policy", Device: id, Want: "a record", Have: "unreadable"})), true,
		},
		{"a record in no index", func() error {
			hash := map[string]string{"v": head("2", "00000000000000010000000000000002", nil, "")}
			return s.raw.HSet(ctx, "cs:{00}:policy:"+stray, hash).Err()
		}, differences{
			{Kind: store.KindCount, Policy: "policy", Status: "compliant", Want: "2", Have: "1"},
			{Kind: store.KindDayCount, Policy: "policy", Day: "0001-01-01", Want: "1", Have: "none"},
			{Kind: store.KindDeviceCount, Status: "compliant", Want: "2", Have: "1"},
			{Kind: store.KindDevice, Device: stray, Want: "0", Have: "none"},
			{Kind: store.KindUnindexed, Policy: "policy", Device: stray, Want: "in the indexes", Have: "none"},
		}, false},
		{
			"a record that is not there", func() error { return s.raw.Del(ctx, record).Err() },
			cascade(store.Difference{Kind: store.KindMissing, Policy: "policy", Device: id, Want: "nonCompliant", Have: "none"}), true,
		},
		{
			"a record that is none", func() error { return s.raw.HSet(ctx, record, "v", "x").Err() },
			cascade(of(store.KindUnreadable, store.Difference{Policy: "policy", Device: id, Want: "a record", Have: "unreadable"})), true,
		},
		{
			"a record of another type", func() error { return errors.Join(s.raw.Del(ctx, record).Err(), s.raw.Set(ctx, record, "x", 0).Err()) },
			cascade(of(store.KindUnreadable, store.Difference{Policy: "policy", Device: id, Want: "a record", Have: "unreadable"})), true,
		},
		{"a record without a field of one", func() error {
			return errors.Join(s.raw.Del(ctx, record).Err(), s.raw.HSet(ctx, record, "x", "x").Err())
		}, cascade(of(store.KindUnreadable, store.Difference{Policy: "policy", Device: id, Want: "a record", Have: "unreadable"})), true},
		{
			"a stray that is none", func() error { return s.raw.Set(ctx, "cs:{00}:policy:"+stray, "x", 0).Err() },
			differences{{Kind: store.KindUnreadable, Policy: "policy", Device: stray, Want: "a record", Have: "unreadable"}},
			true,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := s.raw.FlushAll(ctx).Err(); err != nil {
				t.Fatal(err)
			}
			r := s.open(t, store.Options{Tombstones: keepTombstones})
			reports := []*compliance.Report{
				report(t, 1, device, `{"status":"nonCompliant","complianceGracePeriodExpirationDateTime":"2027-01-16T00:00Z"}`),
				report(t, 2, compliance.Key{Policy: "other", Device: id}, `{"status":"compliant"}`),
				report(t, 3, compliance.Key{Policy: "gone", Device: id}, `{"@removed":{}}`),
				report(t, 4, compliance.Key{Policy: "policy", Device: other}, `{"status":"compliant"}`),
			}
			j := &journal{keys: map[uint64]compliance.Key{}}
			j.add(reports...)
			gap := []compliance.Gap{{First: 1, Last: 1, Seen: began}}
			if _, err := r.Apply(ctx, compliance.Transaction{To: floor(4, "a"), Reports: reports, Gaps: gap}); err != nil {
				t.Fatal(err)
			}
			intact := s.dump(t)
			if c.harm != nil {
				if err := c.harm(); err != nil {
					t.Fatal(err)
				}
			}
			harmed := s.serialized(t)
			found, _ := verify(t, r, j, false)
			if diff := godiff.Diff(c.want, found); diff != "" {
				t.Errorf("(-want +found):\n%s", diff)
			}
			if diff := godiff.Diff(harmed, s.serialized(t)); diff != "" {
				t.Errorf("a check has written (-before +after):\n%s", diff)
			}
			found, result := verify(t, r, j, true)
			if diff := godiff.Diff(c.want, found); diff != "" {
				t.Errorf("with repair (-want +found):\n%s", diff)
			}
			if again := len(result.Again) > 0; again != c.lost {
				t.Errorf("merged again: %t", again)
			}
			if found, _ := verify(t, r, j, false); found != nil {
				t.Errorf("after the repair: %v", found)
			}
			mergeOn(t, r, c.lost, reports)
			have := s.dump(t)
			for _, dump := range []map[string]any{have, intact} {
				delete(dump, "cs:{00}:|floor")
				delete(dump, "cs:{00}:|seal")
			}
			delete(have, "cs:{00}:policy:"+stray)
			if c.name == "a record in no index" {
				return // It is in all of them now.
			}
			if diff := godiff.Diff(intact, have); diff != "" {
				t.Errorf("after the repair (-intact +mended):\n%s", diff)
			}
		})
	}
}

// serialized returns every key, of whatever type, as the server serializes it.
func (s *server) serialized(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	scan := s.raw.Scan(t.Context(), 0, "*", 1000).Iterator()
	for scan.Next(t.Context()) {
		text, err := s.raw.Dump(t.Context(), scan.Val()).Result()
		if err != nil {
			t.Fatal(err)
		}
		all[scan.Val()] = text
	}
	if err := scan.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// mergeOn does what the owner does about the floor that a repair left: it adopts one
// that is level, and goes back to one before the stream.
func mergeOn(t *testing.T, r *store.Redis, lost bool, reports []*compliance.Report) {
	t.Helper()
	floors, err := r.Floors(t.Context(), []compliance.Bucket{0})
	if err != nil {
		t.Fatal(err)
	}
	have := floors[0]
	switch {
	case have.Equal(floor(4, "a")) && lost, have.Repair != lost, !have.SameStream(floor(4, "a")), have.Layout != layout:
		t.Fatalf("the floor is %+v", have)
	case !lost && have.Sequence != 4, lost && have.Sequence != 0:
		t.Fatalf("the floor is at %d", have.Sequence)
	case lost:
		if _, err := r.Apply(t.Context(), compliance.Transaction{From: have, To: floor(4, "b"), Reports: reports}); err != nil {
			t.Fatal(err)
		}
	}
}

// merger merges random reports as fast as it can, and remembers them.
type merger struct {
	journal

	store    *store.Redis
	random   *rand.Rand
	floors   []compliance.Floor
	sequence uint64
	// copied, where not nil, gets every report too.
	copied *journal
	// beside, where not nil, is one that this one does not run far ahead of.
	beside *merger
	came   atomic.Uint64
}

func newMerger(r *store.Redis) *merger {
	return &merger{
		journal: journal{keys: map[uint64]compliance.Key{}}, store: r, random: rand.New(rand.NewPCG(1, 2)),
		floors: make([]compliance.Floor, layout.Buckets),
	}
}

// batch merges the next reports, of all buckets.
func (w *merger) batch(t *testing.T, n int) {
	t.Helper()
	byBucket := make([][]*compliance.Report, layout.Buckets)
	for range n {
		w.sequence++
		key := compliance.Key{Policy: fmt.Sprintf("p%d", w.random.IntN(5)), Device: fmt.Sprintf("d%d", w.random.IntN(400))}
		end := began.Add(time.Duration(w.random.IntN(20)) * 24 * time.Hour).Format(time.RFC3339)
		at := began.Add(time.Duration(int(w.sequence)-w.random.IntN(1_000_000)) * time.Second).Format(time.RFC3339)
		body := fmt.Sprintf(`{"status":"%s","complianceGracePeriodExpirationDateTime":"%s"}`, compliance.Status(w.random.IntN(8)), end)
		switch w.random.IntN(8) {
		case 0:
			body = `{"@removed":{}}`
		case 1:
			body = `{"status":"nonCompliant"}`
		case 2:
			body = `{}`
		}
		r := report(t, w.sequence, key, body, "ce-time", at)
		w.add(r)
		if w.copied != nil {
			w.copied.add(r)
		}
		b := layout.BucketOf(key.Device)
		byBucket[b] = append(byBucket[b], r)
	}
	for b, reports := range byBucket {
		to := floor(w.sequence, fmt.Sprint("w", w.sequence))
		tx := compliance.Transaction{Bucket: compliance.Bucket(b), From: w.floors[b], To: to, Reports: reports}
		_, err := w.store.Apply(t.Context(), tx)
		if foreign, ok := errors.AsType[*compliance.FloorError](err); ok && foreign.Have.SameStream(to) && foreign.Have.Sequence == tx.From.Sequence {
			tx.From = foreign.Have // Level: adopted.
			_, err = w.store.Apply(t.Context(), tx)
		}
		if err != nil {
			t.Error(err)
			return
		}
		w.floors[b] = to
	}
}

// run merges until the test says so.
func (w *merger) run(t *testing.T, reports int) (stop func()) {
	t.Helper()
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for !t.Failed() {
			select {
			case <-done:
				return
			default:
				if w.beside != nil && w.came.Load() > w.beside.came.Load()+200 {
					runtime.Gosched()
					continue
				}
				w.batch(t, reports)
				w.came.Store(w.sequence)
			}
		}
	}()
	return func() {
		close(done)
		<-stopped
	}
}

func TestVerifyFindsNothingWhileReportsAreMerged(t *testing.T) {
	s := startServer(t)
	// Tombstones expire all the time: no report says so.
	r := s.open(t, store.Options{Tombstones: 20 * time.Second})
	rounds := 3
	if *full {
		rounds = 15
	}
	for _, reports := range []int{1, 50, 1000} {
		t.Run(fmt.Sprintf("%d reports a batch", reports), func(t *testing.T) {
			if err := s.raw.FlushAll(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			w := newMerger(r)
			w.batch(t, 3000)
			defer w.run(t, reports)()
			for range rounds {
				if found, result := verify(t, r, &w.journal, false); found != nil || result.Records == 0 {
					t.Fatalf("of %d records: %v", result.Records, found)
				}
			}
		})
	}
}

func TestRepairWhileReportsAreMergedLeadsToTheStateThatWasNeverHarmed(t *testing.T) {
	s := startServer(t)
	ctx := t.Context()
	r := s.open(t, store.Options{Tombstones: storetest.Tombstones})
	w := newMerger(r)
	w.batch(t, 3000)
	stop := w.run(t, 20)
	nobody := []string{packed(compliance.Key{Policy: "p0", Device: "nobody"}), packed(compliance.Key{Policy: "p1", Device: "nobody"})}
	for n := range 10 {
		// What no report moves, so that no transaction finds it.
		if err := errors.Join(
			s.raw.HSet(ctx, fmt.Sprintf("cs:{%02x}:|counts", n%4), "gone|error", "1", "lost|error", "2").Err(),
			s.raw.ZAdd(ctx, fmt.Sprintf("cs:{%02x}:|attention", n%4), z(5, nobody[0]), z(4, nobody[1])).Err(),
			s.raw.HSet(ctx, fmt.Sprintf("cs:{%02x}:|days", n%4), "p0|1999-01-01", "1").Err(),
		); err != nil {
			t.Fatal(err)
		}
		if err := s.raw.ZRem(ctx, fmt.Sprintf("cs:{%02x}:|attention", n%4), nobody[0], nobody[1]).Err(); err != nil {
			t.Fatal(err)
		}
		found, result := verify(t, r, &w.journal, true)
		if len(found) != 3 || result.Mended != 3 || result.Again != nil {
			t.Errorf("round %d: %+v, found %v", n, result, found)
		}
	}
	stop()
	if found, _ := verify(t, r, &w.journal, false); found != nil {
		t.Error(found)
	}
	have := s.withoutFloors(t)
	for b, f := range w.floors {
		to := f
		to.Write = "recount"
		if _, err := r.Apply(ctx, compliance.Transaction{Bucket: compliance.Bucket(b), From: currentFloor(t, r, b), To: to, Recount: true}); err != nil {
			t.Fatal(err)
		}
	}
	if diff := godiff.Diff(have, s.withoutFloors(t)); diff != "" {
		t.Errorf("(-verified +recounted):\n%s", diff)
	}
}

func (s *server) withoutFloors(t *testing.T) map[string]any {
	t.Helper()
	all := s.dump(t)
	for b := range layout.Buckets {
		delete(all, fmt.Sprintf("cs:{%02x}:|floor", b))
		delete(all, fmt.Sprintf("cs:{%02x}:|seal", b))
	}
	return all
}

func currentFloor(t *testing.T, r *store.Redis, b int) compliance.Floor {
	t.Helper()
	floors, err := r.Floors(t.Context(), []compliance.Bucket{compliance.Bucket(b)})
	if err != nil {
		t.Fatal(err)
	}
	return floors[0]
}

// beforeReading returns a store through which every reading of the roll-ups of the first
// bucket waits until something has been done.
func beforeReading(t *testing.T, s *server, do func()) *store.Redis {
	t.Helper()
	m := startMiddle(t, s, func(w *way, chunk []byte) {
		if bytes.Contains(chunk, []byte("{00}:|rollup")) && bytes.Contains(bytes.ToLower(chunk), []byte("hscan")) {
			do()
		}
		w.pass(chunk)
	})
	r, err := store.New(layout, store.Options{URLs: []string{m.url()}, Backoff: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// ticker merges one report at a time, each of another device of the first bucket.
type ticker struct {
	*testing.T
	journal

	store   *store.Redis
	devices []string
	n       uint64
}

func newTicker(t *testing.T, s *server) *ticker {
	t.Helper()
	w := &ticker{T: t, journal: journal{keys: map[uint64]compliance.Key{}}, store: s.open(t, store.Options{})}
	for n := 0; len(w.devices) < 20; n++ {
		if device := fmt.Sprint("d", n); layout.BucketOf(device) == 0 {
			w.devices = append(w.devices, device)
		}
	}
	w.tick()
	return w
}

func (w *ticker) tick() {
	w.Helper()
	w.n++
	r := report(w.T, w.n, compliance.Key{Policy: "policy", Device: w.devices[w.n]}, `{"status":"error"}`)
	w.add(r)
	from := compliance.Floor{}
	if w.n > 1 {
		from = floor(w.n-1, "w")
	}
	apply(w.T, w.store, from, floor(w.n, "w"), r)
}

// TestADifferenceIsOneThatNobodyWroteBeside writes between the readings of every step,
// so that the number of the records and the records themselves are of no one moment.
func TestADifferenceIsOneThatNobodyWroteBeside(t *testing.T) {
	s := startServer(t)
	w := newTicker(t, s)
	asked := 0
	options := store.VerifyOptions{
		Found: func(d store.Difference) { t.Errorf("found %+v", d) },
		Touched: func(ctx context.Context, b compliance.Bucket, from, to compliance.Floor) ([]compliance.Key, error) {
			if asked++; asked <= 3 {
				w.tick()
			}
			return w.touched(ctx, b, from, to)
		},
	}
	if _, err := beforeReading(t, s, sync.OnceFunc(w.tick)).Verify(t.Context(), options); err != nil || asked != 4 {
		t.Errorf("asked %d times: %v", asked, err)
	}
}

func TestVerifyGivesUpWhereItCannotTellWhatReportsConcern(t *testing.T) {
	s := startServer(t)
	w := newTicker(t, s)
	lost := errors.New("lost")
	n := 0
	options := store.VerifyOptions{
		Touched: func(context.Context, compliance.Bucket, compliance.Floor, compliance.Floor) ([]compliance.Key, error) {
			n++
			return nil, lost
		},
	}
	if _, err := beforeReading(t, s, w.tick).Verify(t.Context(), options); !errors.Is(err, lost) || n < 2 {
		t.Errorf("asked %d times: %v", n, err)
	}
}

func TestVerifyBeginsAgainWhereABucketIsMergedAgain(t *testing.T) {
	for name, c := range map[string]struct {
		to compliance.Floor
	}{
		"a floor that went back":    {to: floor(1, "b")},
		"a repair":                  {to: func() compliance.Floor { f := floor(9, "b"); f.Repair = true; return f }()},
		"a floor of another stream": {to: func() compliance.Floor { f := floor(9, "b"); f.Created = began.Add(1); return f }()},
	} {
		t.Run(name, func(t *testing.T) {
			s := startServer(t)
			first := report(t, 1, device, `{"status":"error"}`)
			apply(t, s.open(t, store.Options{}), compliance.Floor{}, floor(2, "a"), first)
			r := beforeReading(t, s, sync.OnceFunc(func() {
				if _, err := s.open(t, store.Options{}).Apply(t.Context(), compliance.Transaction{From: floor(2, "a"), To: c.to}); err != nil {
					t.Error(err)
				}
			}))
			result, err := r.Verify(t.Context(), store.VerifyOptions{
				Touched: func(context.Context, compliance.Bucket, compliance.Floor, compliance.Floor) ([]compliance.Key, error) {
					t.Error("what reports concern says nothing here")
					return nil, nil
				},
			})
			if err != nil || result.Records != 1 || result.Differences != 0 {
				t.Errorf("%+v, %v", result, err)
			}
		})
	}
}

func TestABucketThatDoesNotRestKeepsNoOtherFromBeingChecked(t *testing.T) {
	s := startServer(t)
	ctx := t.Context()
	writer := s.open(t, store.Options{})
	apply(t, writer, compliance.Floor{}, floor(1, "a"), report(t, 1, device, `{"status":"error"}`))
	if err := s.raw.HSet(ctx, "cs:{01}:|counts", "p|error", 1).Err(); err != nil {
		t.Fatal(err)
	}
	n := 0
	r := beforeReading(t, s, func() {
		n++
		to := floor(1, fmt.Sprint("again", n))
		to.Repair = true
		if _, err := writer.Apply(ctx, compliance.Transaction{From: currentFloor(t, writer, 0), To: to}); err != nil {
			t.Error(err)
		}
	})
	var found []store.Difference
	result, err := r.Verify(ctx, store.VerifyOptions{
		Touched: (&journal{}).touched, Found: func(d store.Difference) { found = append(found, d) },
	})
	if !errors.Is(err, store.ErrRestless) || result.Differences != 1 || len(found) != 1 || found[0].Bucket != 1 {
		t.Errorf("%+v, %v: %v", result, found, err)
	}
}

func TestTheResultOfAVerifyIsKeptBesideTheLayout(t *testing.T) {
	s := startServer(t)
	ctx := t.Context()
	r := s.open(t, store.Options{})
	if err := r.NoteVerified(ctx, store.Left{Drift: 1, At: began}); !errors.Is(err, store.ErrNoLayout) {
		t.Errorf("without a layout: %v", err)
	}
	if err := r.EnsureLayout(ctx); err != nil {
		t.Fatal(err)
	}
	none, some := 0, 5
	later := began.Add(time.Hour)
	for _, c := range []struct {
		name  string
		left  *store.Left
		harm  []any
		drift int
		at    time.Time
		known bool
	}{
		{name: "before the first"},
		{name: "one that found nothing and broke off", left: &store.Left{RebuildDrift: &none}},
		{name: "one that found something and broke off", left: &store.Left{Drift: 2}, drift: 2, known: true},
		{name: "a whole one", left: &store.Left{Drift: 7, At: began}, drift: 7, at: began, known: true},
		{name: "one with the streams", left: &store.Left{Drift: 7, RebuildDrift: &some, At: began}, drift: 12, at: began, known: true},
		{name: "one that cannot see what that one saw", left: &store.Left{At: later}, drift: 5, at: later, known: true},
		{name: "one that broke off", left: &store.Left{Drift: 1, RebuildDrift: &none}, drift: 6, at: later, known: true},
		{name: "a garbled number", harm: []any{"drift", "x"}, drift: 5, at: later},
		{name: "a garbled time", harm: []any{"drift", "1", "verified", "x"}, drift: 6},
		{name: "a check after it", left: &store.Left{RebuildDrift: &none, At: later}, at: later, known: true},
	} {
		if c.left != nil {
			if err := r.NoteVerified(ctx, *c.left); err != nil {
				t.Fatal(err)
			}
		}
		if c.harm != nil {
			if err := s.raw.HSet(ctx, "cs:|meta", c.harm...).Err(); err != nil {
				t.Fatal(err)
			}
		}
		drift, at, known, err := r.LastVerify(ctx)
		if err != nil || known != c.known || known && (drift != c.drift || !at.Equal(c.at)) {
			t.Errorf("%s: %d, %s, known %t, %v", c.name, drift, at, known, err)
		}
	}
	if err := r.EnsureLayout(ctx); err != nil {
		t.Error(err)
	}
	again, err := store.Open(ctx, store.Options{URLs: []string{s.url}})
	if err != nil || again.Layout() != layout {
		t.Errorf("Open: %v", err)
	} else if err := again.Close(); err != nil {
		t.Error(err)
	}
}

// TestTombstonesThatExpireDuringACheckAreNoDifferences takes away more tombstones than
// one step reads again, between the reading of their index and that of the records.
func TestTombstonesThatExpireDuringACheckAreNoDifferences(t *testing.T) {
	const tombstones = 12_000
	s := startServer(t)
	ctx := t.Context()
	writer := s.open(t, store.Options{Tombstones: keepTombstones})
	first := report(t, 1, compliance.Key{Policy: "living", Device: device.Device}, `{"status":"error"}`)
	reports := []*compliance.Report{first}
	for n := range tombstones {
		reports = append(reports, report(t, 2, compliance.Key{Policy: fmt.Sprint("gone", n), Device: device.Device}, `{"@removed":{}}`))
	}
	for _, repair := range []bool{false, true} {
		t.Run(fmt.Sprintf("repair %t", repair), func(t *testing.T) {
			if err := s.raw.FlushAll(ctx).Err(); err != nil {
				t.Fatal(err)
			}
			apply(t, writer, compliance.Floor{}, floor(2, "a"), reports...)
			at := floor(2, "a")
			expire := sync.OnceFunc(func() {
				for n := range tombstones/1000 + 1 {
					to := floor(2, fmt.Sprint("w", n))
					to.Stored = to.Stored.Add(2 * keepTombstones)
					apply(t, writer, at, to)
					at = to
				}
			})
			m := startMiddle(t, s, func(w *way, chunk []byte) {
				if bytes.Contains(chunk, []byte("{00}:gone")) && bytes.Contains(bytes.ToLower(chunk), []byte("hmget")) {
					expire()
				}
				w.pass(chunk)
			})
			r, err := store.New(layout, store.Options{URLs: []string{m.url()}, Tombstones: keepTombstones})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			found, result := verify(t, r, &journal{}, repair)
			if len(found) > 0 || result.Again != nil || result.Records != 1 {
				t.Errorf("%d of %d records: %d differences, merged again %v", result.Records, tombstones, len(found), result.Again)
			}
			if have := currentFloor(t, writer, 0); !have.Equal(at) {
				t.Errorf("the floor is %+v", have)
			}
		})
	}
}

// TestATombstoneThatExpiresBeforeTheRepairIsNotPutBack takes it away between the step
// that found its entry wrong and the one that puts right.
func TestATombstoneThatExpiresBeforeTheRepairIsNotPutBack(t *testing.T) {
	s := startServer(t)
	ctx := t.Context()
	r := s.open(t, store.Options{Tombstones: keepTombstones})
	apply(t, r, compliance.Floor{}, floor(1, "a"), report(t, 1, device, `{"@removed":{}}`))
	if err := s.raw.ZAdd(ctx, "cs:{00}:|tombs", z(float64(began.UnixMilli()), "policy:"+device.Device)).Err(); err != nil {
		t.Fatal(err)
	}
	expired := floor(1, "b")
	expired.Stored = expired.Stored.Add(2 * keepTombstones)
	if _, err := r.Verify(ctx, store.VerifyOptions{
		Touched: (&journal{}).touched, Repair: true,
		Before: func(ctx context.Context, b compliance.Bucket) (compliance.Floor, error) {
			apply(t, r, floor(1, "a"), expired)
			return before(ctx, b)
		},
	}); err != nil {
		t.Fatal(err)
	}
	have := s.dump(t)
	delete(have, "cs:{00}:|seal")
	if diff := godiff.Diff(map[string]any{"cs:{00}:|floor": store.FormatFloor(expired)}, have); diff != "" {
		t.Errorf("(-want +redis):\n%s", diff)
	}
}

func TestMoreDifferencesThanOneStepReadsAreFoundAndMended(t *testing.T) {
	const entries = 12_000
	s := startServer(t)
	ctx := t.Context()
	r := s.open(t, store.Options{})
	apply(t, r, compliance.Floor{}, floor(1, "a"), report(t, 1, device, `{"status":"error"}`))
	intact := s.withoutFloors(t)
	pipe := s.raw.Pipeline()
	for n := range entries {
		pipe.ZAdd(ctx, "cs:{00}:|attention", z(0, packed(compliance.Key{Policy: fmt.Sprint("p", n), Device: device.Device})))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		t.Fatal(err)
	}
	for _, repair := range []bool{false, true} {
		found, result := verify(t, r, &journal{}, repair)
		if len(found) != entries || repair && result.Mended != entries {
			t.Errorf("repair %t: %d found, %d mended", repair, len(found), result.Mended)
		}
	}
	if diff := godiff.Diff(intact, s.withoutFloors(t)); diff != "" {
		t.Errorf("(-intact +mended):\n%s", diff)
	}
}

func TestAKeyOutOfPlaceIsNamedAndLeftAlone(t *testing.T) {
	s := startServer(t)
	ctx := t.Context()
	r := s.open(t, store.Options{Tombstones: keepTombstones})
	apply(t, r, compliance.Floor{}, floor(1, "a"), report(t, 1, device, `{"status":"error"}`))
	if err := errors.Join(r.EnsureLayout(ctx), r.SelfTest(ctx), s.raw.Set(ctx, "cs:{00}:|selftest:other", "x", time.Minute).Err()); err != nil {
		t.Fatal(err)
	}
	intact := s.dump(t)
	hash := s.raw.HGetAll(ctx, "cs:{00}:policy:"+device.Device).Val()
	err := errors.Join(
		s.raw.HSet(ctx, "cs:{01}:policy:"+device.Device, hash).Err(),
		s.raw.HSet(ctx, "cs:{ff}:policy:"+device.Device, hash).Err(),
		s.raw.HSet(ctx, "cs:{04}:|counts", "policy|error", 1).Err(),
		s.raw.Set(ctx, "cs:{00}:|other", "x", 0).Err(),
		s.raw.Set(ctx, "cs:other", "x", 0).Err(),
		s.raw.Set(ctx, "cs:{zz}:policy:device", "x", 0).Err(),
	)
	if err != nil {
		t.Fatal(err)
	}
	harmed := s.dump(t)
	misplaced := func(b compliance.Bucket, tag string) store.Difference {
		return store.Difference{
			Bucket: b, Kind: store.KindMisplaced, Policy: "policy", Device: device.Device,
			Name: "cs:{" + tag + "}:policy:" + device.Device, Want: "in bucket 00", Have: "in bucket " + tag,
		}
	}
	unknown := func(b compliance.Bucket, name string) store.Difference {
		return store.Difference{Bucket: b, Kind: store.KindUnknown, Name: name, Want: "none", Have: "a key"}
	}
	want := []store.Difference{
		misplaced(1, "01"), misplaced(255, "ff"),
		unknown(0, "cs:other"), unknown(0, "cs:{00}:|other"), unknown(4, "cs:{04}:|counts"), unknown(0, "cs:{zz}:policy:device"),
	}
	j := &journal{keys: map[uint64]compliance.Key{}}
	for _, repair := range []bool{false, true} {
		found, result := verify(t, r, j, repair)
		if diff := godiff.Diff(want, found); diff != "" || result.Mended != 0 || result.Records != 1 {
			t.Errorf("repair %t: %+v (-want +found):\n%s", repair, result, diff)
		}
		if diff := godiff.Diff(harmed, s.dump(t)); diff != "" {
			t.Errorf("repair %t (-before +after):\n%s", repair, diff)
		}
	}

	// Whoever counted the one in another bucket is set right.
	if _, err := r.Apply(ctx, compliance.Transaction{Bucket: 1, To: floor(1, "a")}); err != nil {
		t.Fatal(err)
	}
	if err := s.raw.Copy(ctx, "cs:{00}:|rollup", "cs:{01}:|rollup", 0, false).Err(); err != nil {
		t.Fatal(err)
	}
	found, result := verify(t, r, j, true)
	counted := store.Difference{
		Bucket: 1, Kind: store.KindRollup, Policy: "policy", Device: device.Device, Want: "none", Have: "error",
	}
	if !slices.Contains(found, counted) || result.Mended != 1 || result.Again != nil {
		t.Errorf("%+v: %v", result, found)
	}
	tx := compliance.Transaction{Bucket: 1, From: currentFloor(t, r, 1), To: floor(1, "b"), Recount: true}
	if _, err := r.Apply(ctx, tx); err != nil {
		t.Fatal(err)
	}
	have := s.dump(t)
	for _, d := range want {
		delete(have, d.Name)
	}
	delete(have, "cs:{01}:|floor")
	delete(have, "cs:{01}:|seal")
	if diff := godiff.Diff(intact, have); diff != "" {
		t.Errorf("after the repair and a recount (-intact +mended):\n%s", diff)
	}
}

func TestVerifyReadsEveryServerOfACluster(t *testing.T) {
	c := startCluster(t)
	whole := storetest.Layout()
	r, err := store.New(whole, store.Options{URLs: c.urls})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	reports := map[compliance.Bucket][]*compliance.Report{}
	for n := range 300 {
		key := compliance.Key{Policy: "policy", Device: fmt.Sprint("d", n)}
		b := whole.BucketOf(key.Device)
		reports[b] = append(reports[b], report(t, uint64(n+1), key, `{"status":"error"}`))
	}
	at := floor(300, "a")
	at.Layout = whole
	for b, of := range reports {
		if _, err := r.Apply(t.Context(), compliance.Transaction{Bucket: b, To: at, Reports: of}); err != nil {
			t.Fatal(err)
		}
	}
	j := &journal{keys: map[uint64]compliance.Key{}}
	if found, result := verify(t, r, j, false); found != nil || result.Records != 300 {
		t.Fatalf("%+v: %v", result, found)
	}
	tag := func(n int) string { return fmt.Sprintf("cs:{%02x}:", int(whole.BucketOf(fmt.Sprint("d", n)))) }
	raw := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{c.nodes[0].Options().Addr}})
	defer raw.Close()
	for n := range 3 {
		// Nothing names these records any more.
		if err := raw.HDel(t.Context(), tag(n)+"|rollup", fmt.Sprint("d", n)).Err(); err != nil {
			t.Fatal(err)
		}
	}
	found, _ := verify(t, r, j, true)
	var devices []string
	for _, d := range found {
		if d.Kind == store.KindRollup && d.Have == "none" {
			devices = append(devices, d.Device)
		}
	}
	if diff := godiff.Diff([]string{"d0", "d1", "d2"}, devices); diff != "" || len(found) != 3 {
		t.Errorf("%v: %s", found, diff)
	}
	if found, _ := verify(t, r, j, false); found != nil {
		t.Errorf("after the repair: %v", found)
	}
}
