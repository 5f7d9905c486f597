package store_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	godiff "github.com/google/go-cmp/cmp"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/store"
)

// compare compares two states and returns what differs as kind, policy, and what was
// wanted and is there.
func compare(t *testing.T, live, rebuilt *store.Redis, j *journal, whole time.Time) ([]string, store.Compared) {
	t.Helper()
	var found []string
	result, err := live.Compare(t.Context(), rebuilt, store.CompareOptions{
		Touched: j.touched, Whole: func(compliance.Bucket) time.Time { return whole },
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
	const older, newer = "00000000000000010000000000000002", "08df72ddffffffff0000000000000002"
	set := func(key string, r *compliance.Record) error {
		return errors.Join(live.raw.Del(ctx, key).Err(), live.raw.HSet(ctx, key, store.Encode(r)).Err())
	}
	merged := func(reports ...*compliance.Report) *compliance.Record {
		var r compliance.Record
		for _, report := range reports {
			r.Merge(report)
		}
		return &r
	}
	const before = "2020-01-01T00:00:00Z"
	for _, c := range []struct {
		name string
		harm func() error
		// want is what is found where the stream is whole, and part where it is not, or
		// was made after all of these reports.
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
				return live.raw.HSet(ctx, "cs:{00}:policy:"+devicesOfBucket0()[1], "v", head("2", newer, nil, "")).Err()
			},
			[]string{"record; policy; none; {"},
			nil, 1,
		},
		{
			"newer versions", func() error {
				return live.raw.HSet(ctx, record, "v", head("2", newer, map[string]string{"p": "1"}, "")).Err()
			},
			[]string{"record; policy"},
			nil, 1,
		},
		{
			"older versions", func() error {
				return live.raw.HSet(ctx, record, "v", head("2", older, map[string]string{"p": "1"}, "")).Err()
			},
			[]string{"record; policy"},
			[]string{"record; policy"},
			0,
		},
		{
			"an older version beside a newer one", func() error {
				return set(record, merged(
					report(t, 1, device, `{"status":"compliant","platform":1}`, "ce-time", before), report(t, 9, device, `{"userName":"x"}`)))
			},
			[]string{"record; policy"},
			[]string{"record; policy"},
			0,
		},
		{
			"another value of the same version beside a newer one", func() error {
				return set(record, merged(
					report(t, 1, device, `{"status":"compliant","platform":1}`), report(t, 9, device, `{"userName":"x"}`)))
			},
			[]string{"record; policy"},
			nil, 1,
		},
		{
			"a removed record that is back", func() error {
				return set("cs:{00}:gone:"+device.Device, merged(report(t, 1, device, `{"status":"compliant"}`, "ce-time", before)))
			},
			[]string{"record; gone; a tombstone; {"},
			[]string{"record; gone; a tombstone; {"},
			0,
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
			for whole, want := range map[time.Time][]string{
				began.Add(-compliance.MaxFuture): c.want, {}: c.part, began.Add(time.Hour): c.part,
			} {
				found, result := compare(t, stores[0], stores[1], j, whole)
				if len(found) != len(want) || len(want) > 0 && !strings.HasPrefix(found[0], want[0]) {
					t.Errorf("whole since %s: %q, want %q", whole, found, want)
				}
				if len(want) == 0 && result.PassedOver != c.passed || len(want) > 0 && result.PassedOver != 0 {
					t.Errorf("whole since %s: %d records are passed over", whole, result.PassedOver)
				}
			}
		})
	}
}

func TestCompareLeavesPoliciesOut(t *testing.T) {
	live, rebuilt := startServer(t), startServer(t)
	a, b := live.open(t, store.Options{}), rebuilt.open(t, store.Options{})
	apply(t, a, compliance.Floor{}, floor(3, "a"),
		report(t, 1, device, `{"status":"error"}`),
		report(t, 2, compliance.Key{Policy: "gone", Device: device.Device}, `{"@removed":{}}`),
		report(t, 3, compliance.Key{Policy: "left", Device: device.Device}, `{"status":"error"}`))
	apply(t, b, compliance.Floor{}, floor(3, "a"), report(t, 1, device, `{"status":"error"}`))
	result, err := a.Compare(t.Context(), b, store.CompareOptions{
		Touched: (&journal{}).touched, Whole: func(compliance.Bucket) time.Time { return began },
		LeaveOut: func(policy string) bool { return policy != "policy" },
		Found:    func(d store.Difference) { t.Errorf("found %+v", d) },
	})
	if want := (store.Compared{Records: 1, LeftOut: 2}); result != want || err != nil {
		t.Errorf("%+v, %v", result, err)
	}
}

func TestCompareSaysWhichStateLags(t *testing.T) {
	keys := []compliance.Key{device, {Policy: "policy", Device: devicesOfBucket0()[1]}}
	repair := floor(2, "b")
	repair.Repair = true
	for name, c := range map[string]struct {
		live, rebuilt compliance.Floor
		apart         int
		want          error
	}{
		"the state":                        {floor(1, "a"), floor(2, "a"), 1, store.ErrLags},
		"the rebuilt one":                  {floor(2, "a"), floor(1, "a"), 1, store.ErrApart},
		"the state, which is merged again": {repair, floor(2, "a"), 2, store.ErrMergedAgain},
	} {
		t.Run(name, func(t *testing.T) {
			live, rebuilt := startServer(t), startServer(t)
			a, b := live.open(t, store.Options{}), rebuilt.open(t, store.Options{})
			reports := []*compliance.Report{report(t, 1, keys[0], `{"status":"error"}`), report(t, 2, keys[1], `{"status":"error"}`)}
			j := &journal{keys: map[uint64]compliance.Key{}}
			j.add(reports...)
			apply(t, a, compliance.Floor{}, c.live, reports[:c.live.Sequence]...)
			apply(t, b, compliance.Floor{}, c.rebuilt, reports[:c.rebuilt.Sequence]...)
			for _, key := range keys { // Either of them has to be looked at.
				if err := live.raw.HSet(t.Context(), "cs:{00}:policy:"+key.Device, "x", "9").Err(); err != nil {
					t.Fatal(err)
				}
			}
			var found []store.Difference
			result, err := a.Compare(t.Context(), b, store.CompareOptions{
				Touched: j.touched, Whole: func(compliance.Bucket) time.Time { return began.Add(-time.Hour) }, Patience: time.Millisecond,
				Found: func(d store.Difference) { found = append(found, d) },
			})
			if !errors.Is(err, c.want) || result.Apart != c.apart || len(found) != len(keys)-c.apart {
				t.Errorf("%+v, %v: %v", result, found, err)
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
		if found, result := compare(t, a, b, both, began); found != nil || result.Records == 0 {
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
