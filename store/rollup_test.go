package store_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/store"
)

// anyID draws ids, and UUIDs in lower and in other cases.
func anyID() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.StringMatching(`[A-Za-z0-9_-]{1,128}`),
		rapid.StringMatching(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`),
		rapid.StringMatching(`[0-9a-fA-F]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`),
	)
}

func TestARollupIsTheSetOfItsPoliciesWhateverTheOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.MapOf(anyID(), rapid.SampledFrom(compliance.Statuses())).Draw(t, "policies")
		texts := make([]string, 2)
		for i := range texts {
			order := slices.Collect(func(yield func(string) bool) {
				for name := range want { // In any order.
					if !yield(name) {
						return
					}
				}
			})
			if i == 1 {
				order = append(order, "gone")
			}
			texts[i] = store.EncodeRollup(order, func(name string) (compliance.Status, bool) { s, ok := want[name]; return s, ok })
		}
		if _, there := want["gone"]; !there && texts[0] != texts[1] {
			t.Fatalf("%q and %q", texts[0], texts[1])
		}
		have, err := store.ParseRollup(texts[0])
		if err != nil || fmt.Sprint(have) != fmt.Sprint(want) {
			t.Fatalf("%v: %v, not %v", err, have, want)
		}
	})
}

func TestWhatIsNoRollupIsRefused(t *testing.T) {
	uuid := "\xb4" + strings.Repeat("\x11", 16)
	for _, text := range []string{
		"2", "2\x02p", "8\x01p", "2\x01p2\x01p", "2\x01q2\x01p", "2\x00", "2\x01 ", uuid[:16], uuid + uuid, "\xb8" + uuid[1:],
		"4\x2411111111-1111-1111-1111-111111111111", // A UUID is stored as such.
	} {
		if have, err := store.ParseRollup(text); err == nil {
			t.Errorf("%q is read as %v", text, have)
		}
	}
	if have, err := store.ParseRollup(uuid); err != nil || have["11111111-1111-1111-1111-111111111111"] != compliance.StatusNonCompliant {
		t.Errorf("%v, %v", have, err)
	}
}

func FuzzRollup(f *testing.F) {
	f.Add("2\x01p")
	f.Add("\xb4" + strings.Repeat("\x11", 16))
	f.Fuzz(func(t *testing.T, text string) {
		policies, err := store.ParseRollup(text)
		if err != nil {
			return
		}
		var order []string
		for name := range policies {
			order = append(order, name)
		}
		if again := store.EncodeRollup(order, func(name string) (compliance.Status, bool) { return policies[name], true }); again != text {
			t.Fatalf("%q is written as %q", text, again)
		}
	})
}

// TestManyPoliciesOfADeviceInOneTransaction compares the roll-up with that of a store
// which took the same reports one by one.
func TestManyPoliciesOfADeviceInOneTransaction(t *testing.T) {
	s, other := startServer(t), startServer(t)
	together, single := s.open(t, store.Options{}), other.open(t, store.Options{})
	var reports []*compliance.Report
	for n := range uint64(300) {
		policy := fmt.Sprintf("policy-%d", n*7%100)
		if n%3 == 0 {
			policy = fmt.Sprintf("%08x-0000-4000-8000-000000000000", n*7%100)
		}
		body := fmt.Sprintf(`{"status":%q}`, compliance.Statuses()[n%compliance.NumStatuses])
		if n%11 == 0 {
			body = `{"@removed":{}}`
		}
		reports = append(reports, report(t, n+1, compliance.Key{Policy: policy, Device: device.Device}, body))
	}
	half := floor(150, "a")
	apply(t, together, compliance.Floor{}, half, reports[:150]...)
	apply(t, together, half, floor(300, "b"), reports[150:]...)
	at := compliance.Floor{}
	for _, one := range reports {
		to := floor(one.Sequence, fmt.Sprint("w", one.Sequence))
		apply(t, single, at, to, one)
		at = to
	}
	want, have := other.raw.HGetAll(t.Context(), "cs:{00}:|rollup").Val(), s.raw.HGetAll(t.Context(), "cs:{00}:|rollup").Val()
	if len(want) != 1 || len(want[device.Device]) < 1000 {
		t.Fatalf("the roll-up of one device is %q", want)
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("the roll-ups differ (-single +together):\n%s", diff)
	}
	wantNoDifference(t, together)
}
