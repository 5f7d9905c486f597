package store_test

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	diff "github.com/google/go-cmp/cmp"
	"github.com/zeebo/xxh3"
	"pgregory.net/rapid"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/store"
)

// fleet is a store into which reports are put, bucket by bucket.
type fleet struct {
	*server
	store  *store.Redis
	random *rand.Rand
	n      uint64
	floors map[compliance.Bucket]compliance.Floor
}

func newFleet(t *testing.T, seed uint64) *fleet {
	t.Helper()
	s := startServer(t)
	return &fleet{
		server: s, store: s.open(t, store.Options{}), random: rand.New(rand.NewPCG(seed, 1)),
		floors: map[compliance.Bucket]compliance.Floor{},
	}
}

// put merges reports, each made so many hours after the beginning.
func (f *fleet) put(t *testing.T, reports ...listed) {
	t.Helper()
	byBucket := map[compliance.Bucket][]*compliance.Report{}
	for _, r := range reports {
		f.n++
		b := layout.BucketOf(r.key.Device)
		made := began.Add(time.Duration(r.hours)*time.Hour + time.Duration(f.n)*100)
		byBucket[b] = append(byBucket[b], report(t, f.n, r.key, r.body, "ce-time", made.Format(time.RFC3339Nano), "ce-id", fmt.Sprint(f.n)))
	}
	for b, some := range byBucket {
		to := floor(f.n, fmt.Sprint(b, "-", f.n))
		_, err := f.store.Apply(t.Context(), compliance.Transaction{Bucket: b, From: f.floors[b], To: to, Reports: some})
		if err != nil {
			t.Fatal(err)
		}
		f.floors[b] = to
	}
}

// listed is a report of a device.
type listed struct {
	key   compliance.Key
	body  string
	hours int
}

// draw draws a report for a record. Most are of a device that is well.
func (f *fleet) draw(key compliance.Key) listed {
	hours := -f.random.IntN(24 * 60)
	if f.random.IntN(10) == 0 {
		return listed{key, `{"@removed":{}}`, 0}
	}
	status := statusNames[f.random.IntN(8)]
	if f.random.IntN(2) == 0 {
		status = "compliant"
	}
	if f.random.IntN(4) == 0 {
		status = "nonCompliant"
	}
	grace := began.Add(time.Duration(f.random.IntN(96)-48) * time.Hour).Format(time.RFC3339)
	return listed{key, fmt.Sprintf(`{"status":%q,"complianceGracePeriodExpirationDateTime":%q}`, status, grace), hours}
}

// all reads every record by its key, in the order of keys.
func (f *fleet) all(t *testing.T) []store.Item {
	t.Helper()
	var all []store.Item
	scan := f.raw.Scan(t.Context(), 0, "cs:{*}:*", 1000).Iterator()
	for scan.Next(t.Context()) {
		policy, device, ok := strings.Cut(scan.Val()[len("cs:{00}:"):], ":")
		if !ok || strings.HasPrefix(policy, "|") {
			continue
		}
		key := compliance.Key{Policy: policy, Device: device}
		record, err := f.store.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if record.Exists() {
			all = append(all, store.Item{Key: key, Record: record, Facts: record.Facts()})
		}
	}
	if err := scan.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// severity has the statuses from best to worst, as the documents have it.
var severity = []string{"notAssigned", "unknown", "notApplicable", "compliant", "remediated", "nonCompliant", "conflict", "error"}

// filter is what a list must be, from all records.
func filter(all []store.Item, q store.Query, now time.Time) []string {
	worst := map[string]int{}
	rank := func(i store.Item) int { return slices.Index(severity, i.Record.Status().String()) }
	for _, i := range all {
		worst[i.Key.Device] = max(worst[i.Key.Device], rank(i))
	}
	once := map[string]string{} // Of each device the first policy with its worst status.
	for _, i := range all {
		if first, ok := once[i.Key.Device]; rank(i) == worst[i.Key.Device] && (!ok || i.Key.Policy < first) {
			once[i.Key.Device] = i.Key.Policy
		}
	}
	var left []store.Item
	for _, i := range all {
		newest := i.Record.Newest().Time.Time()
		ends, err := time.Parse(time.RFC3339Nano, i.Record.Values[compliance.GracePeriodExpiration].Text)
		inGrace := err == nil && i.Record.Status() == compliance.StatusNonCompliant && ends.After(now)
		day := func(at time.Time) int { return int(at.Unix() / 86400) }
		switch {
		case q.Policy != "" && i.Key.Policy != q.Policy, q.Device != "" && i.Key.Device != q.Device,
			len(q.Statuses) > 0 && !slices.Contains(q.Statuses, i.Record.Status()),
			q.Worst != nil && worst[i.Key.Device] != slices.Index(severity, q.Worst.String()),
			q.Devices && once[i.Key.Device] != i.Key.Policy,
			q.InGrace && !inGrace,
			q.Stale && day(newest) >= day(now)-q.Validity,
			!q.Since.IsZero() && newest.Before(q.Since),
			!q.Until.IsZero() && newest.After(q.Until):
		default:
			left = append(left, i)
		}
	}
	byStatus := q.Policy != "" && q.Device == "" && q.Worst == nil && (q.InGrace || len(q.Statuses) > 0)
	for _, s := range q.Statuses {
		byStatus = byStatus && (q.InGrace || slices.Contains([]string{"unknown", "nonCompliant", "conflict", "error"}, s.String()))
	}
	slices.SortFunc(left, func(a, b store.Item) int {
		byBucket := cmp.Compare(layout.BucketOf(a.Key.Device), layout.BucketOf(b.Key.Device))
		byDevice := cmp.Or(cmp.Compare(a.Key.Device, b.Key.Device), cmp.Compare(a.Key.Policy, b.Key.Policy))
		if byStatus {
			byHash := cmp.Compare(xxh3.HashString(a.Key.Device)>>39, xxh3.HashString(b.Key.Device)>>39)
			byMember := cmp.Compare(packed(a.Key), packed(b.Key))
			return cmp.Or(byBucket, cmp.Compare(a.Record.Status(), b.Record.Status()), byHash, byMember)
		}
		return cmp.Or(byBucket, byDevice)
	})
	return names(left)
}

func names(items []store.Item) []string {
	list := make([]string, 0, len(items))
	for _, i := range items {
		list = append(list, fmt.Sprint(i.Key, i.Record, i.Facts))
	}
	return list
}

// pages reads a list to its end.
func (f *fleet) pages(t *testing.T, q store.Query, limit int, now time.Time, between func(page store.Page)) []store.Item {
	t.Helper()
	var items []store.Item
	cursor := ""
	for range 10_000 {
		page, err := f.store.List(t.Context(), q, cursor, limit, now)
		if err != nil {
			t.Fatal(err)
		}
		if limit > 0 && len(page.Items) > limit {
			t.Fatalf("a page of %d has %d records", limit, len(page.Items))
		}
		items = append(items, page.Items...)
		if page.Next == "" {
			return items
		}
		if cursor == page.Next {
			t.Fatal("a page ends where it began")
		}
		if cursor = page.Next; between != nil {
			between(page)
		}
	}
	t.Fatal("the list has no end")
	return nil
}

// queries are queries of every kind.
func queries(random *rand.Rand, device string) []store.Query {
	status := func() compliance.Status { return compliance.Statuses()[random.IntN(8)] }
	sets := [][]compliance.Status{
		nil,
		{compliance.StatusNonCompliant},
		{compliance.StatusError, compliance.StatusUnknown, compliance.StatusNonCompliant, compliance.StatusConflict},
		{compliance.StatusCompliant},
		{status(), status()},
		{compliance.StatusError, compliance.StatusCompliant},
	}
	worst := status()
	failed := compliance.StatusError
	var all []store.Query
	for _, policy := range []string{"", "p0", "p", "p1"} {
		for _, statuses := range sets {
			for _, q := range []store.Query{
				{},
				{InGrace: true},
				{Stale: true, Validity: 30},
				{Since: began.Add(-20 * 24 * time.Hour)},
				{Until: began.Add(-20 * 24 * time.Hour)},
				{Since: began.Add(-24 * 24 * time.Hour), Until: began.Add(-10 * 24 * time.Hour)},
				{Worst: &worst},
				{Worst: &failed},
				{Device: device},
				{InGrace: true, Stale: true, Validity: 1 + random.IntN(60), Since: began.Add(-50 * 24 * time.Hour)},
			} {
				q.Policy, q.Statuses = policy, statuses
				all = append(all, q)
			}
			for _, q := range []store.Query{{}, {Worst: &worst}, {Worst: &failed}, {Stale: true, Validity: 30}, {InGrace: true}} {
				q.Devices, q.Statuses = true, statuses
				all = append(all, q)
			}
		}
	}
	return all
}

func TestAllPagesTogetherAreAScanOfTheRecords(t *testing.T) {
	for seed := range uint64(3) {
		f := newFleet(t, seed)
		for range 12 {
			var reports []listed
			for range 40 {
				reports = append(reports, f.draw(compliance.Key{Policy: fmt.Sprint("p", f.random.IntN(3)), Device: fmt.Sprint("d", f.random.IntN(60))}))
			}
			f.put(t, reports...)
		}
		all := f.all(t)
		if len(all) < 80 {
			t.Fatalf("only %d records", len(all))
		}
		some := 0
		for i, q := range queries(f.random, all[0].Key.Device) {
			want := filter(all, q, began)
			some += len(want)
			for _, limit := range []int{0, 1 + i%9, 60} {
				if d := diff.Diff(want, names(f.pages(t, q, limit, began, nil))); d != "" {
					t.Fatalf("seed %d, %+v in pages of %d (-scan +list):\n%s", seed, q, limit, d)
				}
			}
		}
		if some < 500 {
			t.Errorf("all lists together have only %d records", some)
		}
	}
}

func TestTheListsOfAllBucketsAreThatOfAllRecords(t *testing.T) {
	f := newFleet(t, 5)
	var reports []listed
	for i := range 300 {
		reports = append(reports, f.draw(compliance.Key{Policy: fmt.Sprint("p", i%3), Device: fmt.Sprint("d", i%120)}))
	}
	f.put(t, reports...)
	var have []string
	var keys []compliance.Key
	for b := range layout.Buckets {
		bucket := compliance.Bucket(b)
		of := f.pages(t, store.Query{Bucket: &bucket}, 7, began, nil)
		have = append(have, names(of)...)
		for _, item := range of {
			if layout.BucketOf(item.Key.Device) != bucket {
				t.Errorf("%v is listed in bucket %d", item.Key, b)
			}
			keys = append(keys, item.Key)
			if n := len(keys); n > 1 && layout.BucketOf(keys[n-2].Device) == bucket &&
				cmp.Or(cmp.Compare(keys[n-2].Device, item.Key.Device), cmp.Compare(keys[n-2].Policy, item.Key.Policy)) >= 0 {
				t.Errorf("%v comes after %v", item.Key, keys[n-2])
			}
		}
	}
	if d := diff.Diff(names(f.pages(t, store.Query{}, 0, began, nil)), have); d != "" || len(have) < 100 {
		t.Errorf("-list +lists of buckets: %s", d)
	}
	keys = append(keys, compliance.Key{Policy: "none", Device: "none"})
	records, err := f.store.Records(t.Context(), keys)
	if err != nil {
		t.Fatal(err)
	}
	for i, key := range keys {
		one, err := f.store.Get(t.Context(), key)
		if d := diff.Diff(one, records[i]); err != nil || d != "" {
			t.Errorf("%v: %v: %s", key, err, d)
		}
	}
}

// crowd puts records of one policy, and few of others among them.
func (f *fleet) crowd(t *testing.T, n int, status string) {
	t.Helper()
	var reports []listed
	for i := range n {
		reports = append(reports, listed{compliance.Key{Policy: "p0", Device: fmt.Sprint("d", i)}, `{"status":"` + status + `"}`, 0})
		if i%1500 == 0 {
			reports = append(reports, f.draw(compliance.Key{Policy: "p1", Device: fmt.Sprint("d", i)}))
		}
		if len(reports) >= 4000 {
			f.put(t, reports...)
			reports = nil
		}
	}
	f.put(t, reports...)
}

func TestALongListIsWhole(t *testing.T) {
	for _, status := range []string{"compliant", "error"} {
		f := newFleet(t, 7)
		f.crowd(t, 9000, status)
		all := f.all(t)
		for _, q := range []store.Query{
			{},
			{Policy: "p0"},
			{Policy: "p1"},
			{Policy: "p0", Statuses: []compliance.Status{compliance.StatusError}},
			{Policy: "p0", Statuses: []compliance.Status{compliance.StatusError, compliance.StatusUnknown}, Stale: true, Validity: 5},
		} {
			for _, limit := range []int{0, 300, 999} {
				if d := diff.Diff(filter(all, q, began), names(f.pages(t, q, limit, began, nil))); d != "" {
					t.Errorf("%+v of %s in pages of %d: %d bytes of differences", q, status, limit, len(d))
				}
			}
		}
	}
}

// TestAPageDoesABoundedAmountOfWork counts what the server was asked for.
func TestAPageDoesABoundedAmountOfWork(t *testing.T) {
	f := newFleet(t, 7)
	f.crowd(t, 9000, "error")
	for name, q := range map[string]store.Query{
		"a policy that nobody has": {Policy: "p7"},
		"nothing is stale":         {Stale: true, Validity: 30, Policy: "p0"},
		"no error is stale":        {Stale: true, Validity: 30, Policy: "p0", Statuses: []compliance.Status{compliance.StatusError}},
	} {
		empty := 0
		n := len(f.pages(t, q, 10, began, func(page store.Page) {
			if len(page.Items) == 0 {
				empty++
			}
		}))
		if empty == 0 || n != 0 {
			t.Errorf("%s: %d pages before the end, %d records", name, empty, n)
		}
	}
}

func TestARecordThatStaysIsListedOnceWhateverComesAndGoes(t *testing.T) {
	for name, q := range map[string]store.Query{
		"by device": {Policy: "p0"},
		"by status": {Policy: "p0", Statuses: []compliance.Status{compliance.StatusError, compliance.StatusNonCompliant}},
		"all":       {},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, 11)
			key := func(n int) compliance.Key { return compliance.Key{Policy: "p0", Device: fmt.Sprintf("d%03d", n)} }
			var reports []listed
			for n := range 300 {
				reports = append(reports, listed{key(n), `{"status":"` + []string{"error", "nonCompliant"}[n%2] + `"}`, 0})
			}
			f.put(t, reports...)
			items := f.pages(t, q, 7, began, func(store.Page) {
				var changes []listed
				for range 10 {
					n := f.random.IntN(150)*2 + f.random.IntN(2)
					if n%3 == 0 {
						continue // These stay.
					}
					f.n++
					body := []string{`{"@removed":{}}`, `{"status":"error"}`, `{"status":"compliant"}`}[f.random.IntN(3)]
					changes = append(changes, listed{key(n), body, 0}, listed{compliance.Key{Policy: "p1", Device: key(n).Device}, body, 0})
				}
				f.put(t, changes...)
			})
			times := map[compliance.Key]int{}
			for _, i := range items {
				times[i.Key]++
			}
			for n := 0; n < 300; n += 3 {
				if times[key(n)] != 1 {
					t.Errorf("record %d is listed %d times", n, times[key(n)])
				}
			}
		})
	}
}

func TestAnIndexIsNotBelieved(t *testing.T) {
	f := newFleet(t, 1)
	device := devicesOfBucket0()[0]
	gone, other := compliance.Key{Policy: "p0", Device: device}, compliance.Key{Policy: "p1", Device: device}
	wrong, never := compliance.Key{Policy: "p2", Device: device}, compliance.Key{Policy: "p0", Device: "never"}
	for _, key := range []compliance.Key{gone, other, wrong} {
		f.put(t, listed{key, `{"status":"error"}`, 0})
	}
	f.raw.Del(t.Context(), "cs:{00}:p0:"+device)
	f.raw.ZAdd(t.Context(), "cs:{00}:|attention", z(attention(wrong, 0), packed(wrong)), z(attention(never, 5), packed(never)))
	f.raw.ZAdd(t.Context(), "cs:{00}:|devices", zMember("never"))
	for name, test := range map[string]struct {
		query store.Query
		want  int
	}{
		"all":        {store.Query{}, 2},
		"by status":  {store.Query{Policy: "p1", Statuses: []compliance.Status{compliance.StatusError, compliance.StatusUnknown}}, 1},
		"of a wrong": {store.Query{Policy: "p2", Statuses: []compliance.Status{compliance.StatusUnknown}}, 0},
		"gone":       {store.Query{Policy: "p0", Statuses: []compliance.Status{compliance.StatusError}}, 0},
		"of device":  {store.Query{Device: device}, 2},
	} {
		if items := f.pages(t, test.query, 10, began, nil); len(items) != test.want {
			t.Errorf("%s: %v", name, items)
		}
	}
}

func TestWhatIsCorruptIsNamedByAList(t *testing.T) {
	f := newFleet(t, 1)
	device := devicesOfBucket0()[0]
	key := compliance.Key{Policy: "p0", Device: device}
	f.put(t, listed{key, `{"status":"error"}`, 0})
	all, byStatus := store.Query{}, store.Query{Policy: "p0", Statuses: []compliance.Status{compliance.StatusError}}
	for _, test := range []struct {
		name, what string
		corrupt    func()
		queries    []store.Query
	}{
		{
			"another score", "the index of what needs attention",
			func() { f.raw.ZAdd(t.Context(), "cs:{00}:|attention", z(attention(key, 5)+1, packed(key))) },
			[]store.Query{byStatus},
		},
		{
			"a foreign member", "the index of what needs attention",
			func() {
				f.raw.ZAdd(t.Context(), "cs:{00}:|attention", z(attention(key, 5), packed(key)), z(attention(key, 5), "p0:"+device))
			},
			[]store.Query{byStatus},
		},
		{
			"another type", "the index of what needs attention",
			func() {
				f.raw.Del(t.Context(), "cs:{00}:|attention")
				f.raw.Set(t.Context(), "cs:{00}:|attention", "x", 0)
			},
			[]store.Query{byStatus},
		},
		{
			"a roll-up", "the roll-up of a device",
			func() { f.raw.HSet(t.Context(), "cs:{00}:|rollup", device, "x") },
			[]store.Query{all, {Device: device}},
		},
		{
			"roll-ups", "the roll-up of a device",
			func() { f.raw.Set(t.Context(), "cs:{00}:|rollup", "x", 0) },
			[]store.Query{all, {Device: device}},
		},
		{"devices", "the index of devices", func() { f.raw.Set(t.Context(), "cs:{00}:|devices", "x", 0) }, []store.Query{all}},
	} {
		test.corrupt()
		for _, q := range test.queries {
			_, err := f.store.List(t.Context(), q, "", 10, began)
			if corrupt, ok := errors.AsType[*compliance.CorruptError](err); !ok || corrupt.What != test.what || corrupt.Bucket != 0 {
				t.Errorf("%s: %+v: %v", test.name, q, err)
			}
		}
	}
}

func TestARecordThatCannotBeReadHidesNoOther(t *testing.T) {
	for name, corrupt := range map[string]func(f *fleet, key string) error{
		"a record that is none":    func(f *fleet, key string) error { return f.raw.HSet(t.Context(), key, "v", "x").Err() },
		"a record of another type": func(f *fleet, key string) error { return f.raw.Set(t.Context(), key, "x", 0).Err() },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, 1)
			devices := devicesOfBucket0()
			for _, device := range devices {
				f.put(t, listed{compliance.Key{Policy: "p0", Device: device}, `{"status":"error"}`, 0})
			}
			if err := corrupt(f, "cs:{00}:p0:"+devices[1]); err != nil {
				t.Fatal(err)
			}
			for _, q := range []store.Query{{}, {Policy: "p0", Statuses: []compliance.Status{compliance.StatusError}}} {
				page, err := f.store.List(t.Context(), q, "", 10, began)
				if err != nil || len(page.Items) != len(devices)-1 || page.Unreadable != 1 {
					t.Errorf("%+v: %+v, %v", q, page, err)
				}
			}
		})
	}
}

func TestACursorIsOfOneOrder(t *testing.T) {
	f := newFleet(t, 1)
	var reports []listed
	for n := range 20 {
		reports = append(reports, listed{compliance.Key{Policy: "p0", Device: fmt.Sprint("d", n)}, `{"status":"error"}`, 0})
	}
	f.put(t, reports...)
	all, byStatus := store.Query{}, store.Query{Policy: "p0", Statuses: []compliance.Status{compliance.StatusError}}
	for _, queries := range [][2]store.Query{{all, byStatus}, {byStatus, all}} {
		page, err := f.store.List(t.Context(), queries[0], "", 5, began)
		if err != nil || page.Next == "" {
			t.Fatal(err)
		}
		for _, cursor := range []string{page.Next, "x", page.Next + "A"} {
			if _, err := f.store.List(t.Context(), queries[1], cursor, 5, began); !errors.Is(err, store.ErrCursor) {
				t.Errorf("%q: %v", cursor, err)
			}
		}
	}
	if page, err := f.store.List(t.Context(), store.Query{InGrace: true, Statuses: []compliance.Status{compliance.StatusError}}, "", 5, began); err != nil || len(page.Items) > 0 || page.Next != "" {
		t.Errorf("in grace and no grace: %+v, %v", page, err)
	}
	for _, q := range []store.Query{all, byStatus} {
		if page, err := f.store.List(t.Context(), q, "", 20, began); err != nil || len(page.Items) != 20 || page.Next != "" {
			t.Errorf("the last page of %+v has %d records and the cursor %q, %v", q, len(page.Items), page.Next, err)
		}
	}
	// A place of another list of the same order.
	page, err := f.store.List(t.Context(), all, "", 5, began)
	if err != nil {
		t.Fatal(err)
	}
	last := page.Items[4].Key.Device
	for device, want := range map[string]int{page.Items[3].Key.Device: 0, last: 0, page.Items[4].Key.Device + "-": 0} {
		page, err := f.store.List(t.Context(), store.Query{Device: device}, page.Next, 5, began)
		if err != nil || len(page.Items) != want {
			t.Errorf("%d records after %s, %v", len(page.Items), device, err)
		}
	}
}

func TestAPlaceReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.OneOf(rapid.Just(""), rapid.StringMatching(`[A-Za-z0-9_-]{1,128}`))
		order := rapid.SampledFrom([]string{"d", "s"}).Draw(t, "order")
		want := store.NewPlace(order, rapid.IntRange(0, 255).Draw(t, "bucket"), rapid.IntRange(0, 8).Draw(t, "status"), id.Draw(t, "device"), id.Draw(t, "policy"))
		have, err := store.ParseCursor(order, want.Cursor(), 256)
		if err != nil || have != want {
			t.Errorf("%v reads back as %v, %v", want, have, err)
		}
	})
}

func FuzzCursor(f *testing.F) {
	f.Add(store.NewPlace("d", 1, 0, "device", "policy").Cursor())
	f.Add(store.NewPlace("d", 255, 8, "", "").Cursor())
	f.Fuzz(func(t *testing.T, text string) {
		if p, err := store.ParseCursor("d", text, 256); err == nil && text != "" && p.Cursor() != text {
			t.Errorf("%q reads as %v", text, p)
		}
	})
}
