package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/store"
	"github.com/complianced/complianced/store/storetest"
)

// TestCorruptKeysAreToldOnceAndMended harms one key after the other; the worker's
// way back is a recount on top of whatever floor there is.
func TestCorruptKeysAreToldOnceAndMended(t *testing.T) {
	s := startServer(t)
	ctx := t.Context()
	record, sibling := "cs:{00}:policy:"+device.Device, compliance.Key{Policy: "other", Device: device.Device}
	uniform := head("4", v0, nil, "")
	replace := func(key string) func() error {
		return func() error { return errors.Join(s.raw.Del(ctx, key).Err(), s.raw.RPush(ctx, key, "x").Err()) }
	}
	for _, c := range []struct {
		name string
		harm func() error
		// foreign says that the floor is the one that is not there; quiet, that
		// nothing in the way of a transaction reads the key.
		foreign, quiet bool
	}{
		{name: "a record of another type", harm: replace(record)},
		{name: "a version that is none", harm: func() error { return s.raw.HSet(ctx, record, "v", "x").Err() }},
		{name: "a head that ends too early", harm: func() error { return s.raw.HSet(ctx, record, "v", uniform[:20]).Err() }},
		{name: "a status that is none", harm: func() error { return s.raw.HSet(ctx, record, "v", "8"+uniform[1:]).Err() }},
		{name: "other versions that are none", harm: func() error { return s.raw.HSet(ctx, record, "v", uniform+"9.......").Err() }},
		{name: "too few other versions", harm: func() error { return s.raw.HSet(ctx, record, "v", head("4", v0, nil, "12......", v1)).Err() }},
		{name: "other versions that are nowhere", harm: func() error { return s.raw.HSet(ctx, record, "v", head("4", v0, nil, "1234567.")).Err() }},
		{name: "a store time that is none", harm: func() error { return s.raw.HSet(ctx, record, "v", tombstone(v0, 1)+"x").Err() }},
		{name: "a record without its head", harm: func() error {
			return errors.Join(s.raw.HSet(ctx, record, "n", "x").Err(), s.raw.HDel(ctx, record, "v").Err())
		}},
		{name: "counts of another type", harm: replace("cs:{00}:|counts")},
		{name: "a count that is no number", harm: func() error { return s.raw.HSet(ctx, "cs:{00}:|counts", "policy|nonCompliant", "1.5").Err() }},
		{name: "a count below one", harm: func() error { return s.raw.HSet(ctx, "cs:{00}:|counts", "policy|nonCompliant", "0").Err() }},
		{name: "counts of devices of another type", harm: replace("cs:{00}:|worst")},
		{name: "a count of devices below one", harm: func() error { return s.raw.HSet(ctx, "cs:{00}:|worst", "nonCompliant", "0").Err() }},
		{name: "a count of devices that is gone", harm: func() error { return s.raw.Del(ctx, "cs:{00}:|worst").Err() }},
		{name: "counts by day of another type", harm: replace("cs:{00}:|days")},
		{name: "a count of a day that is no number", harm: func() error { return s.raw.HSet(ctx, "cs:{00}:|days", "policy|2027-01-15", "x").Err() }},
		{name: "roll-ups of another type", harm: replace("cs:{00}:|rollup")},
		{name: "a roll-up that is none", harm: func() error { return s.raw.HSet(ctx, "cs:{00}:|rollup", device.Device, "9\x01p").Err() }},
		{name: "an index of devices of another type", harm: replace("cs:{00}:|devices")},
		{name: "an index of what needs attention of another type", harm: replace("cs:{00}:|attention")},
		{name: "an index of grace periods of another type", harm: replace("cs:{00}:|grace")},
		{name: "counts of grace periods of another type", harm: replace("cs:{00}:|gracedays")},
		{name: "an end of a grace period that is not that of the value", harm: func() error {
			return s.raw.HSet(ctx, record, "v", "g\x00\x00\x00\x00\x00\x00"+uniform[1:]).Err()
		}},
		{name: "an index of tombstones of another type", harm: replace("cs:{00}:|tombs")},
		{name: "an index of tombstones that names none", harm: func() error {
			return s.raw.ZAdd(ctx, "cs:{00}:|tombs", z(0, "no record")).Err()
		}},
		{name: "gaps of another type", harm: replace("cs:{00}:|gaps")},
		{name: "a gap that is none", quiet: true, harm: func() error { return s.raw.HSet(ctx, "cs:{00}:|gaps", "9-1", "x").Err() }},
		{name: "a floor of another type", foreign: true, harm: replace("cs:{00}:|floor")},
		{name: "a floor that is none", foreign: true, harm: func() error { return s.raw.Set(ctx, "cs:{00}:|floor", "x", 0).Err() }},
		{name: "a floor with a negative sequence", foreign: true, harm: func() error {
			return s.raw.Set(ctx, "cs:{00}:|floor", "COMPLIANCE_STATUS 1800000000000000000 -1 0 1 4 a", 0).Err()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := s.raw.FlushAll(ctx).Err(); err != nil {
				t.Fatal(err)
			}
			r := s.open(t, store.Options{Tombstones: keepTombstones})
			reports := []*compliance.Report{
				report(t, 1, device, `{"status":"nonCompliant","complianceGracePeriodExpirationDateTime":"2027-01-16T00:00Z"}`),
				report(t, 2, sibling, `{"@removed":{}}`), report(t, 3, device, `{"@removed":{}}`),
			}
			gap := []compliance.Gap{{First: 1, Last: 1, Seen: began}}
			if _, err := r.Apply(ctx, compliance.Transaction{To: floor(2, "a"), Reports: reports[:2], Gaps: gap}); err != nil {
				t.Fatal(err)
			}
			if err := c.harm(); err != nil {
				t.Fatal(err)
			}
			_, err := r.Apply(ctx, compliance.Transaction{
				From: floor(2, "a"), To: floor(3, "b"), Reports: reports[2:],
				Gaps: []compliance.Gap{{First: 3, Last: 3, Seen: began}},
			})
			corrupt, isCorrupt := errors.AsType[*compliance.CorruptError](err)
			foreign, isForeign := errors.AsType[*compliance.FloorError](err)
			switch {
			case c.quiet && err != nil:
				t.Fatal(err)
			case isForeign != c.foreign || isCorrupt == c.foreign && !c.quiet:
				t.Fatalf("Apply: %v", err)
			case isForeign && (foreign.Have.Absent() || foreign.Have.SameStream(floor(2, "a"))):
				t.Fatalf("the floor reads as %+v", foreign.Have)
			case isCorrupt && (corrupt.Bucket != 0 || corrupt.What == ""):
				t.Fatalf("Apply: %+v", corrupt)
			}
			mend(t, s, r, reports)
		})
	}
}

// mend does what a worker does about a corrupt bucket, and compares with a store
// that was never harmed.
func mend(t *testing.T, s *server, r *store.Redis, reports []*compliance.Report) {
	t.Helper()
	floors, err := r.Floors(t.Context(), []compliance.Bucket{0})
	if err != nil {
		t.Fatal(err)
	}
	again := floor(0, "c")
	again.Repair = true
	if _, err := r.Apply(t.Context(), compliance.Transaction{From: floors[0], To: again, Recount: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Gaps(t.Context(), []compliance.Bucket{0}); err != nil {
		t.Error(err)
	}
	apply(t, r, again, floor(3, "d"), reports...)
	if _, err := r.Apply(t.Context(), compliance.Transaction{From: floor(3, "d"), To: floor(3, "e"), Accept: true}); err != nil {
		t.Fatal(err)
	}
	have := s.dump(t)
	if err := s.raw.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	apply(t, r, compliance.Floor{}, floor(3, "e"), reports...)
	want := s.dump(t)
	delete(have, "cs:|meta")
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("after the repair (-never harmed +mended):\n%s", diff)
	}
}

func TestARecountMakesAllThatFollowsFromTheRecordsAnew(t *testing.T) {
	s := startServer(t)
	r := s.open(t, store.Options{Tombstones: keepTombstones})
	ctx, devices := t.Context(), devicesOfBucket0()
	sibling := compliance.Key{Policy: "other", Device: device.Device}
	apply(t, r, compliance.Floor{}, floor(2, "a"), report(t, 1, device, `{"status":"error"}`), report(t, 2, sibling, `{"@removed":{}}`))
	err := errors.Join(
		s.raw.HSet(ctx, "cs:{00}:|counts", "policy|error", "7", "gone|error", "1", "garbage", "x").Err(),
		s.raw.HSet(ctx, "cs:{00}:|worst", "compliant", "1").Err(),
		s.raw.HSet(ctx, "cs:{00}:|days", "policy|2027-01-15", "9", "x", "x").Err(),
		s.raw.HSet(ctx, "cs:{00}:|gracedays", "policy|2027-01-15", "9").Err(),
		s.raw.HSet(ctx, "cs:{00}:|rollup", device.Device, "x", "gone", "y").Err(),
		s.raw.ZAdd(ctx, "cs:{00}:|tombs", z(1, "policy:"+device.Device), z(2, "policy:gone"), z(3, "garbage")).Err(),
		s.raw.ZAdd(ctx, "cs:{00}:|grace", z(1, "garbage")).Err(),
		s.raw.ZAdd(ctx, "cs:{00}:|devices", z(1, device.Device), z(0, "gone")).Err(),
		s.raw.Del(ctx, "cs:{00}:|attention").Err(),
		s.raw.Set(ctx, "cs:{00}:|attention", "x", 0).Err(),
		s.raw.HSet(ctx, "cs:{00}:policy:"+devices[1], "v", "x").Err(),
		s.raw.HSet(ctx, "cs:{00}:policy:"+devices[2], "s", "1").Err(),
		s.raw.Set(ctx, "cs:{00}:third:"+devices[1], "x", 0).Err(),
	)
	if err != nil {
		t.Fatal(err)
	}
	// One of the reports is for a record that cannot be read.
	last := report(t, 3, compliance.Key{Policy: "third", Device: devices[1]},
		`{"status":"nonCompliant","complianceGracePeriodExpirationDateTime":"2027-01-16T00:00Z"}`)
	tx := compliance.Transaction{From: floor(2, "a"), To: floor(3, "b"), Recount: true, Reports: []*compliance.Report{last}}
	if _, err := r.Apply(ctx, tx); err != nil {
		t.Fatal(err)
	}
	have := s.dump(t)
	if err := s.raw.FlushAll(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	apply(t, r, compliance.Floor{}, tx.To, report(t, 1, device, `{"status":"error"}`), report(t, 2, sibling, `{"@removed":{}}`), last)
	if diff := cmp.Diff(s.dump(t), have); diff != "" {
		t.Errorf("after the recount (-never harmed +recounted):\n%s", diff)
	}
}

func TestAReaderNamesWhatIsCorrupt(t *testing.T) {
	s := startServer(t)
	ctx := t.Context()
	r := s.open(t, store.Options{})
	apply(t, r, compliance.Floor{}, floor(1, "a"), report(t, 1, device, `{"status":"error"}`))
	get := func() error { _, err := r.Get(ctx, device); return err }
	counts := func() error { _, err := r.Counts(ctx); return err }
	totals := func() error { _, err := r.Totals(ctx, began, storetest.Validity); return err }
	gaps := func() error { _, err := r.Gaps(ctx, []compliance.Bucket{0}); return err }
	for _, test := range []struct {
		name, what string
		harm, read func() error
	}{
		{"an entry of the grace periods", "the index of grace periods", func() error {
			return s.raw.ZAdd(ctx, "cs:{00}:|grace", z(float64(began.UnixMilli()+1), "policy:"+device.Device)).Err()
		}, totals},
		{"a field of a record", "a record", func() error { return s.raw.HSet(ctx, "cs:{00}:policy:"+device.Device, "v", "x").Err() }, get},
		{"a record of another type", "a record", func() error { return s.raw.Set(ctx, "cs:{00}:policy:"+device.Device, "x", 0).Err() }, get},
		{"a count", "the counts", func() error { return s.raw.HSet(ctx, "cs:{00}:|counts", "policy", "x").Err() }, counts},
		{"counts of another type", "the counts", func() error { return s.raw.Set(ctx, "cs:{00}:|counts", "x", 0).Err() }, counts},
		{"a gap", "the gaps", func() error { return s.raw.HSet(ctx, "cs:{00}:|gaps", "9-1", "x").Err() }, gaps},
		{"gaps of another type", "the gaps", func() error { return s.raw.Set(ctx, "cs:{00}:|gaps", "x", 0).Err() }, gaps},
	} {
		if err := test.harm(); err != nil {
			t.Fatal(err)
		}
		err := test.read()
		if corrupt, ok := errors.AsType[*compliance.CorruptError](err); !ok || corrupt.Bucket != 0 || corrupt.What != test.what {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

func TestARecountThatBreaksOffHasChangedNothing(t *testing.T) {
	s := startServer(t)
	ctx := t.Context()
	r := s.open(t, store.Options{Tombstones: keepTombstones})
	sibling := compliance.Key{Policy: "other", Device: device.Device}
	apply(t, r, compliance.Floor{}, floor(2, "a"), report(t, 1, device, `{"status":"error"}`), report(t, 2, sibling, `{"@removed":{}}`))
	err := errors.Join(
		s.raw.HSet(ctx, "cs:{00}:policy:"+device.Device, "v", "x").Err(),
		s.raw.HSet(ctx, "cs:{00}:|gaps", "9-1", "x").Err(),
	)
	if err != nil {
		t.Fatal(err)
	}
	want := s.dump(t)
	killed, kill := context.WithCancel(ctx)
	m := startMiddle(t, s, func(w *way, chunk []byte) {
		if isExec(chunk) {
			kill()
			w.hangUp()
			return
		}
		w.pass(chunk)
	})
	w, err := store.New(layout, store.Options{URLs: []string{m.url()}, Tombstones: keepTombstones, Backoff: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	again := floor(0, "c")
	again.Repair = true
	if _, err = w.Apply(killed, compliance.Transaction{From: floor(2, "a"), To: again, Recount: true}); !errors.Is(err, context.Canceled) {
		t.Fatalf("Apply: %v", err)
	}
	if diff := cmp.Diff(want, s.dump(t)); diff != "" {
		t.Errorf("a recount without its EXEC (-before +after):\n%s", diff)
	}
	// The next owner finds what this one found.
	_, err = r.Apply(ctx, compliance.Transaction{From: floor(2, "a"), To: floor(3, "d"), Reports: []*compliance.Report{report(t, 3, device, `{"userName":"x"}`)}})
	if _, ok := errors.AsType[*compliance.CorruptError](err); !ok {
		t.Errorf("Apply: %v", err)
	}
}

func TestWhatCannotBeWrittenStopsTheWholeTransaction(t *testing.T) {
	gap := []compliance.Gap{{First: 2, Last: 2, Seen: began}}
	for name, c := range map[string]struct {
		key string
		tx  func(t *testing.T) compliance.Transaction
	}{
		"gaps of another type": {"cs:{00}:|gaps", func(*testing.T) compliance.Transaction {
			return compliance.Transaction{Gaps: gap}
		}},
		"an index of tombstones of another type, where they are kept for ever": {"cs:{00}:|tombs", func(t *testing.T) compliance.Transaction {
			t.Helper()
			return compliance.Transaction{Reports: []*compliance.Report{report(t, 2, device, `{"@removed":{}}`)}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := startServer(t)
			r := s.open(t, store.Options{})
			apply(t, r, compliance.Floor{}, floor(1, "a"), report(t, 1, device, `{"status":"error"}`))
			if err := s.raw.Set(t.Context(), c.key, "x", 0).Err(); err != nil {
				t.Fatal(err)
			}
			want := s.dump(t)
			tx := c.tx(t)
			tx.From, tx.To = floor(1, "a"), floor(2, "b")
			_, err := r.Apply(t.Context(), tx)
			if _, ok := errors.AsType[*compliance.CorruptError](err); !ok {
				t.Errorf("Apply: %v", err)
			}
			if diff := cmp.Diff(want, s.dump(t)); diff != "" {
				t.Errorf("after it (-before +after):\n%s", diff)
			}
		})
	}
}

func TestAnIndexEntryOfALivingRecordGoes(t *testing.T) {
	s := startServer(t)
	r := s.open(t, store.Options{Tombstones: keepTombstones})
	apply(t, r, compliance.Floor{}, floor(1, "a"), report(t, 1, device, `{"status":"error"}`))
	want := s.dump(t)
	if err := s.raw.ZAdd(t.Context(), "cs:{00}:|tombs", z(1, "policy:"+device.Device)).Err(); err != nil {
		t.Fatal(err)
	}
	apply(t, r, floor(1, "a"), floor(2, "b"))
	want["cs:{00}:|floor"], want["cs:{00}:|seal"] = store.FormatFloor(floor(2, "b")), store.Seal(floor(2, "b"))
	if diff := cmp.Diff(want, s.dump(t)); diff != "" {
		t.Errorf("(-want +redis):\n%s", diff)
	}
}

func z(score float64, member string) redis.Z { return redis.Z{Score: score, Member: member} }
