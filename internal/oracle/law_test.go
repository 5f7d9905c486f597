package oracle_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/internal/oracle"
	"github.com/complianced/complianced/store"
)

var began = time.Unix(1_800_000_000, 123_456_789).UTC()

// members are what a body is made of: few enough values that reports tie.
var members = [][]string{
	{"", `"deviceDisplayName":null`, `"deviceDisplayName":""`, `"deviceDisplayName":"a"`},
	{"", `"userName":"b"`, `"userName":"\u00e9"`},
	{"", `"platform":0`, `"platform":-0`, `"platform":9`, `"platform":10`},
	{"", "", `"lastReportedDateTime":"2027-01-01T00:00:00.123456789Z"`, `"lastReportedDateTime":"0001-05-05T00:00:00Z"`},
	{"", "", "", "", `"@removed":{}`},
	{"", "", "", "", "", "", "", "", `"status":null`, `"x":1`},
}

// eventTimes are on several days, and around those that grace periods end at.
var eventTimes = []string{
	"", "", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00.0000001Z", "2026-01-01T23:59:59.9999999Z", "2026-01-02T00:10:00.0009999Z",
	"2026-01-02T00:10:00.001Z", "1970-01-01T00:05:00Z", "0001-01-01T00:00:00Z",
}

// graceEnds are ends of grace periods: past, some of them yet in time for an event,
// to come, and those that mean none.
var graceEnds = []string{
	"2026-01-01T00:00Z", "2026-01-02T00:00:00Z", "2026-01-02T00:00:00.0000001Z", "2026-01-02T14:00:00.001999999+14:00",
	"2027-01-15T08:30:00Z", "2027-01-15T23:59:59.9999Z", "2040-02-29T12:00:00-12:00", "9998-12-31T23:59:59.999Z", "9998-12-31T23:59:59.9991Z",
	"9999-12-31T23:59:59.9999999Z", "9999-01-01T00:00:00+01:00", "0001-01-01T00:00:00Z", "0002-01-01T00:00:00Z",
	"1970-01-01T00:00:00Z", "1970-01-01T00:00:00.0000001Z",
}

// policies are some names and some UUIDs, in upper case too.
var policies = []string{
	"p0", "p1", strings.Repeat("p", 128), "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "6ba7b810-9dad-11d1-80b4-00c04fd430c9",
	"6BA7B810-9dad-11d1-80b4-00c04fd430c8", "6ba7b810-9dad-11d1-80b4-00c04fd430cg",
}

// devices are some of which two are in one bucket.
var devices = []string{"d0", "d1", "d4"}

// drawBody draws a report's body. One in two has a status, and most of these are
// nonCompliant.
func drawBody(t *rapid.T, ends []string) string {
	var body []string
	for _, choices := range members {
		if member := rapid.SampledFrom(choices).Draw(t, "member"); member != "" {
			body = append(body, member)
		}
	}
	if n := rapid.IntRange(0, 31).Draw(t, "status"); n < 16 {
		status := compliance.StatusNonCompliant
		if n < compliance.NumStatuses {
			status = compliance.Status(n)
		}
		body = append(body, fmt.Sprintf(`"status":%q`, status))
	}
	if rapid.Bool().Draw(t, "grace") {
		end := rapid.SampledFrom(ends).Draw(t, "end")
		body = append(body, fmt.Sprintf(`"complianceGracePeriodExpirationDateTime":%q`, end))
	}
	return "{" + strings.Join(body, ",") + "}"
}

// drawHistory draws a history of one stream over some days. Devices, event times and
// event ids are few, so that reports tie in all ways.
func drawHistory(t *rapid.T) oracle.History {
	var h oracle.History
	stored := began
	some := rapid.Permutation(policies).Draw(t, "policies")[:3]
	times := rapid.Permutation(eventTimes).Draw(t, "times")[:3]
	ends := rapid.Permutation(graceEnds).Draw(t, "ends")[:4]
	for sequence := range rapid.IntRange(1, 60).Draw(t, "messages") {
		minutes := rapid.SampledFrom([]int{0, 1, 11, 40, 600}).Draw(t, "minutes")
		stored = stored.Add(time.Duration(minutes) * time.Minute).Add(1)
		header := map[string][]string{}
		if at := rapid.SampledFrom(times).Draw(t, "time"); at != "" {
			header["ce-time"] = []string{at}
		}
		if id := rapid.SampledFrom([]string{"", "one", "two"}).Draw(t, "id"); id != "" {
			header["ce-id"] = []string{id}
		}
		h.Messages = append(h.Messages, oracle.Message{
			Stream: "COMPLIANCE_STATUS", Created: began, Sequence: uint64(sequence + 1), Stored: stored,
			Subject: "compliance.status." + rapid.SampledFrom(some).Draw(t, "policy") + "." + rapid.SampledFrom(devices).Draw(t, "device"),
			Header:  header, Body: []byte(drawBody(t, ends)),
		})
	}
	return h
}

// accepted returns what the product makes of a message.
func accepted(m oracle.Message) (*compliance.Report, bool) {
	report, rejection := compliance.Decode(&compliance.Envelope{
		Subject: m.Subject, Header: m.Header, Body: m.Body, Sequence: m.Sequence, Stored: m.Stored,
	})
	return &report, rejection == nil
}

func TestTheFoldIsTheMergeLawInAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := drawHistory(t)
		again := rapid.SliceOfN(rapid.SampledFrom(h.Messages), 0, 20).Draw(t, "again")
		order := rapid.Permutation(append(again, h.Messages...)).Draw(t, "order")
		records := map[oracle.Key]*compliance.Record{}
		for _, m := range order {
			if report, ok := accepted(m); ok {
				key := oracle.Key(report.Key)
				if records[key] == nil {
					records[key] = &compliance.Record{}
				}
				records[key].Merge(report)
			}
		}
		h.Messages = order
		state := oracle.Fold(h, oracle.Config{Buckets: single.Buckets})
		if len(state.Records) != len(records) {
			t.Fatalf("%d records, want %d", len(state.Records), len(records))
		}
		for key, want := range records {
			have := state.Records[key]
			wantOwn(t, want, have)
		}
	})
}

func wantOwn(t *rapid.T, want *compliance.Record, have oracle.Record) {
	t.Helper()
	got := compliance.Record{Values: values(have.Values), StoredMillis: want.StoredMillis}
	for p, v := range have.Versions {
		got.Versions[p] = version(v)
	}
	if diff := cmp.Diff(*want, got); diff != "" {
		t.Errorf("record (-product +oracle):\n%s", diff)
	}
	if want.Tombstone() != have.Tombstone() || want.Tombstone() && !slices.Contains(have.StoreMillis, want.StoredMillis) {
		t.Errorf("a tombstone of %d is not among %d", want.StoredMillis, have.StoreMillis)
	}
}

// TestRedisHoldsWhatFollowsFromAnyHistory brings histories to a real server in
// transactions that are cut at random, of stores that keep tombstones for different
// times.
func TestRedisHoldsWhatFollowsFromAnyHistory(t *testing.T) {
	s := startSink(t, single)
	keeps := []time.Duration{0, time.Hour, 30 * time.Hour}
	var stores []*store.Redis
	for _, keep := range keeps {
		stores = append(stores, s.open(t, single, keep))
	}
	seen := map[string]int{} // By the name of the key the most that one had.
	rapid.Check(t, func(rt *rapid.T) {
		h := drawHistory(rt)
		i := rapid.IntRange(0, len(keeps)-1).Draw(rt, "keep")
		s.raw.FlushAll(t.Context())
		if err := stores[i].EnsureLayout(t.Context()); err != nil {
			rt.Fatal(err)
		}
		apply(rt, stores[i], h)
		have := s.snapshot(t)
		state := oracle.Fold(h, oracle.Config{Buckets: single.Buckets, InSequence: true, Tombstones: keeps[i]})
		if found := oracle.Compare(state, have); len(found) > 0 {
			rt.Error(strings.Join(found, "\n"))
		}
		for key, e := range have {
			name := key[strings.LastIndex(key, ":")+1:]
			seen[name] = max(seen[name], len(e.Fields)+len(e.Scores))
		}
	})
	for _, name := range derivedNames {
		if seen[name] < 2 {
			t.Errorf("no %s had more than %d entries: the histories show nothing", name, seen[name])
		}
	}
}

// apply brings a history to a store, in transactions of some messages each.
func apply(t *rapid.T, to *store.Redis, h oracle.History) {
	t.Helper()
	floors := make([]compliance.Floor, single.Buckets)
	batch := make([][]*compliance.Report, single.Buckets)
	for i, m := range h.Messages {
		if report, ok := accepted(m); ok {
			bucket := single.BucketOf(report.Key.Device)
			batch[bucket] = append(batch[bucket], report)
		}
		if i < len(h.Messages)-1 && rapid.IntRange(0, 4).Draw(t, "cut") > 0 {
			continue
		}
		end := compliance.Floor{Stream: m.Stream, Created: m.Created, Sequence: m.Sequence, Stored: m.Stored, Layout: single, Write: strconv.Itoa(i)}
		for bucket := range batch {
			_, err := to.Apply(t.Context(), compliance.Transaction{
				Bucket: compliance.Bucket(bucket), From: floors[bucket], To: end, Reports: batch[bucket],
			})
			if err != nil {
				t.Fatal(err)
			}
			floors[bucket], batch[bucket] = end, nil
		}
	}
}
