package store_test

import (
	"errors"
	"strings"
	"testing"

	godiff "github.com/google/go-cmp/cmp"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/store"
)

// compare compares two states and returns what differs as kind, policy, and what was
// wanted and is there.
func compare(t *testing.T, live, rebuilt *store.Redis, j *journal, whole bool) ([]string, store.Compared) {
	t.Helper()
	var found []string
	result, err := live.Compare(t.Context(), rebuilt, store.CompareOptions{
		Touched: j.touched, Whole: func(compliance.Bucket) bool { return whole },
		Found: func(d store.Difference) {
			found = append(found, strings.Join([]string{string(d.Kind), d.Policy, d.Want, d.Have}, "; "))
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if result.Differences != len(found) {
		t.Errorf("%d differences, %d told", result.Differences, len(found))
	}
	return found, result
}

func TestCompareFindsWhatNoRecountCanFind(t *testing.T) {
	live, rebuilt := startServer(t), startServer(t)
	ctx := t.Context()
	record := "cs:{00}:policy:" + device.Device
	const uniform = "00000000000000010000000000000002"
	for _, c := range []struct {
		name string
		harm func() error
		// want is what is found where the stream is whole, and part where it is not.
		want, part []string
		passed     int
	}{
		{name: "nothing"},
		{
			"another value of a property", func() error { return live.raw.HSet(ctx, record, "p", "9").Err() },
			[]string{"record; policy"},
			[]string{"record; policy"},
			0,
		},
		{
			"a field that is none", func() error { return live.raw.HSet(ctx, record, "x", "9").Err() },
			[]string{"record; policy; x=; x=9"},
			[]string{"record; policy; x=; x=9"},
			0,
		},
		{
			"a record that is not there", func() error { return live.raw.Del(ctx, record).Err() },
			[]string{"record; policy; {"},
			[]string{"record; policy; {"},
			0,
		},
		{
			"a record of another type",
			func() error {
				return errors.Join(live.raw.Del(ctx, record).Err(), live.raw.Set(ctx, record, "x", 0).Err())
			},
			[]string{"record; policy; {"},
			[]string{"record; policy; {"},
			0,
		},
		{
			"a record that no report made", func() error {
				return live.raw.HSet(ctx, "cs:{00}:policy:"+devicesOfBucket0()[1], "v", uniform+"2").Err()
			},
			[]string{"record; policy; none; {"},
			nil, 1,
		},
		{
			"other versions", func() error { return live.raw.HSet(ctx, record, "v", uniform+"2").Err() },
			[]string{"record; policy"},
			nil, 1,
		},
		{
			"another store time of a tombstone", func() error {
				head := live.raw.HGet(ctx, "cs:{00}:gone:"+device.Device, "v").Val()
				return live.raw.HSet(ctx, "cs:{00}:gone:"+device.Device, "v", head[:len(head)-1]+"9").Err()
			}, nil, nil, 0,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := &journal{keys: map[uint64]compliance.Key{}}
			var stores []*store.Redis
			for _, s := range []*server{live, rebuilt} {
				if err := s.raw.FlushAll(ctx).Err(); err != nil {
					t.Fatal(err)
				}
				r := s.open(t, store.Options{Tombstones: keepTombstones})
				apply(t, r, compliance.Floor{}, floor(2, "a"),
					report(t, 1, device, `{"status":"compliant","platform":1}`),
					report(t, 2, compliance.Key{Policy: "gone", Device: device.Device}, `{"@removed":{}}`))
				stores = append(stores, r)
			}
			if c.harm != nil {
				if err := c.harm(); err != nil {
					t.Fatal(err)
				}
			}
			for whole, want := range map[bool][]string{true: c.want, false: c.part} {
				found, result := compare(t, stores[0], stores[1], j, whole)
				if len(found) != len(want) || len(want) > 0 && !strings.HasPrefix(found[0], want[0]) {
					t.Errorf("whole: %t: %q, want %q", whole, found, want)
				}
				if !whole && result.PassedOver != c.passed {
					t.Errorf("%d records are passed over", result.PassedOver)
				}
			}
		})
	}
}

func TestCompareFindsNothingWhileBothStatesAreBehindEachOther(t *testing.T) {
	live, rebuilt := startServer(t), startServer(t)
	a, b := live.open(t, store.Options{Tombstones: keepTombstones}), rebuilt.open(t, store.Options{Tombstones: keepTombstones})
	w := newMerger(a)
	follower := newMerger(b) // The same seed: the same reports.
	both := &journal{keys: map[uint64]compliance.Key{}}
	w.copied, follower.copied = both, both // Either may be ahead.
	w.batch(t, 2000)
	follower.batch(t, 1900)
	w.beside, follower.beside = follower, w
	stop, stopOther := w.run(t, 7), follower.run(t, 11)
	for range 20 {
		if found, result := compare(t, a, b, both, true); found != nil || result.Records == 0 {
			t.Errorf("%+v: %q", result, found)
		}
	}
	stop()
	stopOther()
	for follower.sequence < w.sequence {
		follower.batch(t, 1)
	}
	for w.sequence < follower.sequence {
		w.batch(t, 1)
	}
	if diff := godiff.Diff(live.withoutFloors(t), rebuilt.withoutFloors(t)); diff != "" {
		t.Error(diff)
	}
}
