package store_test

import (
	"fmt"
	"slices"
	"testing"

	diff "github.com/google/go-cmp/cmp"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/store"
)

// Policies and devices, found by trial, of which the records with one status all have
// the same score in the index of what needs attention.
var (
	collidingPolicies = []string{
		"p0", "p48418", "pal6f9", "pdqazu", "pm72no", "pzi2ox", "pzod85", "p19dcfj", "p1di4we", "p1ppfzz", "p1t2863", "p2bnqlj", "p2sdu0f",
		"p2tog33", "p2tv011", "p2xi2ou", "p3rj3m6", "p4enha8", "p4mhg2a", "p50mx0l", "p5843hn", "p5mv8xy", "p5n5tpk", "p5yj1lq", "p642sq6",
		"p68ggqj", "p6czpkw", "p6fviaf", "p77axqd", "p7jgdlq", "p7zki3d", "p8blker",
	}
	collidingDevices = []string{
		"d80h43", "d11zltq", "d2lcmn9", "d72t7pi", "d8m0z91", "daex0xk", "dbsd3il", "dbu42jb", "dj05dth", "dmujpda",
		"dmn9ifh", "doseerw", "dpzhl36", "dqmbuh4", "dr4kg3h", "dtfchue", "dxa196x", "d1058s9c", "d168zu9t", "d184n0f6",
	}
)

// colliding returns the keys of policies and devices that collide, and of some devices
// that do not.
func colliding(t *testing.T, policies []string) []compliance.Key {
	t.Helper()
	var keys []compliance.Key
	for _, policy := range policies {
		for _, device := range collidingDevices {
			key := compliance.Key{Policy: policy, Device: device}
			keys = append(keys, key)
			if attention(key, 5) != attention(keys[0], 5) || layout.BucketOf(device) != 0 {
				t.Fatalf("%v collides with nothing", key)
			}
		}
		for n := range 20 {
			keys = append(keys, compliance.Key{Policy: policy, Device: fmt.Sprint("d", n)})
		}
	}
	return keys
}

func TestARecordThatStaysIsListedOnceThoughHashesCollide(t *testing.T) {
	statuses := []compliance.Status{compliance.StatusNonCompliant, compliance.StatusError}
	bodies := []string{`{"@removed":{}}`, `{"status":"error"}`, `{"status":"nonCompliant"}`, `{"status":"conflict"}`, `{"status":"compliant"}`}
	policies := collidingPolicies[:4]
	keys := colliding(t, policies)
	const restless = 5 // One key in so many changes.
	for seed := range uint64(3) {
		f := newFleet(t, seed)
		var reports []listed
		for n, key := range keys {
			reports = append(reports, listed{key, bodies[1+n/20%2*(n%2)], 0}) // All that collide are in error.
		}
		f.put(t, reports...)
		for _, policy := range policies {
			for _, limit := range []int{1, 2, 3, 11, 30} {
				q := store.Query{Policy: policy, Statuses: statuses}
				times := map[compliance.Key]int{}
				for _, i := range f.pages(t, q, limit, began, func(store.Page) {
					var changes []listed
					for range 6 {
						key := keys[f.random.IntN(len(keys)/restless)*restless]
						changes = append(changes, listed{key, bodies[f.random.IntN(len(bodies))], 0})
					}
					f.put(t, changes...)
				}) {
					times[i.Key]++
				}
				for n, key := range keys {
					if n%restless != 0 && key.Policy == policy && times[key] != 1 {
						t.Errorf("seed %d, pages of %d: %v, which stays, is listed %d times", seed, limit, key, times[key])
					}
				}
				if d := diff.Diff(filter(f.all(t), q, began), names(f.pages(t, q, limit, began, nil))); d != "" {
					t.Errorf("seed %d, pages of %d of %s (-scan +list):\n%s", seed, limit, policy, d)
				}
			}
		}
	}
}

// TestAPageComesPastAnyNumberOfOneScore has so many entries with one score that a page
// reads as many as it may before it comes to the next one.
func TestAPageComesPastAnyNumberOfOneScore(t *testing.T) {
	f := newFleet(t, 1)
	last := slices.Max(collidingPolicies)
	var reports []listed
	for _, key := range colliding(t, collidingPolicies) {
		reports = append(reports, listed{key, `{"status":"error"}`, 0})
	}
	f.put(t, reports...)
	q := store.Query{Policy: last, Statuses: []compliance.Status{compliance.StatusError}}
	for _, limit := range []int{1, 7} {
		if d := diff.Diff(filter(f.all(t), q, began), names(f.pages(t, q, limit, began, nil))); d != "" {
			t.Errorf("pages of %d (-scan +list):\n%s", limit, d)
		}
	}
}

func TestAPageEndsAmongThoseOfAnotherPolicy(t *testing.T) {
	f := newFleet(t, 1)
	f.crowd(t, 16_000, "error") // Under p0, whose hash is that of p48418.
	own := compliance.Key{Policy: "p48418", Device: "own"}
	f.put(t, listed{own, `{"status":"error"}`, 0})
	q, empty := store.Query{Policy: own.Policy, Statuses: []compliance.Status{compliance.StatusError}}, 0
	items := f.pages(t, q, 10, began, func(page store.Page) {
		if len(page.Items) == 0 {
			empty++
		}
	})
	if len(items) != 1 || items[0].Key != own || empty == 0 {
		t.Errorf("%d records, %d pages without one", len(items), empty)
	}
}

func TestNoCursorMakesAnIndexCorrupt(t *testing.T) {
	f := newFleet(t, 1)
	statuses := []string{"unknown", "nonCompliant", "error", "conflict"}
	device := devicesOfBucket0()[0]
	var reports []listed
	for n := range 26 {
		key := compliance.Key{Policy: string(rune('a' + n)), Device: device}
		reports = append(reports, listed{key, fmt.Sprintf(`{"status":%q}`, statuses[n%4]), 0})
	}
	f.put(t, reports...)
	q := store.Query{Policy: "m", Statuses: []compliance.Status{compliance.StatusError, compliance.StatusUnknown}}
	for _, report := range reports {
		for status := range compliance.NumStatuses + 1 {
			cursor := store.NewPlace("s", 0, status, device, report.key.Policy).Cursor()
			if _, err := f.store.List(t.Context(), q, cursor, 10, began); err != nil {
				t.Errorf("a cursor of %s at status %d: %v", report.key.Policy, status, err)
			}
		}
	}
}
