package oracle_test

import (
	"fmt"
	"maps"
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
	{"", `"complianceGracePeriodExpirationDateTime":"2026-01-01T00:00Z"`},
	{"", "", `"status":"error"`, `"status":"compliant"`, `"status":"unknown"`},
	{"", "", `"lastReportedDateTime":"2027-01-01T00:00:00.123456789Z"`, `"lastReportedDateTime":"0001-05-05T00:00:00Z"`},
	{"", "", "", "", `"@removed":{}`},
	{"", "", "", "", "", "", "", "", `"status":null`, `"x":1`},
}

// drawHistory draws a history of one stream. Devices, event times and event ids
// are few, so that reports tie in all ways.
func drawHistory(t *rapid.T) oracle.History {
	var h oracle.History
	stored := began
	for sequence := range rapid.IntRange(1, 60).Draw(t, "messages") {
		stored = stored.Add(time.Duration(rapid.IntRange(0, 40).Draw(t, "minutes")) * time.Minute).Add(1)
		var body []string
		for _, choices := range members {
			if member := rapid.SampledFrom(choices).Draw(t, "member"); member != "" {
				body = append(body, member)
			}
		}
		header := map[string][]string{}
		if at := rapid.SampledFrom([]string{"", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00.0000001Z"}).Draw(t, "time"); at != "" {
			header["ce-time"] = []string{at}
		}
		if id := rapid.SampledFrom([]string{"", "one", "two"}).Draw(t, "id"); id != "" {
			header["ce-id"] = []string{id}
		}
		h.Messages = append(h.Messages, oracle.Message{
			Stream: "COMPLIANCE_STATUS", Created: began, Sequence: uint64(sequence + 1), Stored: stored,
			Subject: fmt.Sprintf("compliance.status.p%d.d%d", rapid.IntRange(0, 1).Draw(t, "policy"), rapid.IntRange(0, 2).Draw(t, "device")),
			Header:  header, Body: []byte("{" + strings.Join(body, ",") + "}"),
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

func TestInSequenceTombstonesExpireAsInTheStore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := drawHistory(t)
		keep := rapid.SampledFrom([]time.Duration{0, time.Hour, 3 * time.Hour}).Draw(t, "keep")
		memory := store.NewMemory(keep)
		floors := make([]compliance.Floor, single.Buckets)
		batch := make([][]*compliance.Report, single.Buckets)
		for i, m := range h.Messages {
			if report, ok := accepted(m); ok {
				bucket := single.BucketOf(report.Key.Device)
				batch[bucket] = append(batch[bucket], report)
			}
			if i < len(h.Messages)-1 && !rapid.Bool().Draw(t, "cut") {
				continue
			}
			to := compliance.Floor{Stream: m.Stream, Created: m.Created, Sequence: m.Sequence, Stored: m.Stored, Layout: single, Write: strconv.Itoa(i)}
			for bucket := range batch {
				_, err := memory.Apply(t.Context(), compliance.Transaction{
					Bucket: compliance.Bucket(bucket), From: floors[bucket], To: to, Reports: batch[bucket],
				})
				if err != nil {
					t.Fatal(err)
				}
				floors[bucket], batch[bucket] = to, nil
			}
		}
		state := oracle.Fold(h, oracle.Config{Buckets: single.Buckets, InSequence: true, Tombstones: keep})
		if found := oracle.Compare(state, asRedis(memory.Dump(), floors)); len(found) > 0 {
			t.Error(strings.Join(found, "\n"))
		}
	})
}

// asRedis makes of a dump of the records what Redis would hold.
func asRedis(dump map[string]map[string]string, floors []compliance.Floor) oracle.Snapshot {
	all := oracle.Snapshot{"cs:|meta": {Type: "hash", Fields: map[string]string{"layout": "1", "partitions": "1", "buckets": "4"}}}
	for bucket, f := range floors {
		all[fmt.Sprintf("cs:{%02x}:|floor", bucket)] = oracle.Entry{Type: "string", Text: fmt.Sprintf("%s %d %d %d 1 4 %s",
			f.Stream, f.Created.UnixNano(), f.Sequence, f.Stored.UnixNano(), f.Write)}
	}
	for name, hash := range dump {
		if len(hash) == 0 {
			continue
		}
		all[name] = oracle.Entry{Type: "hash", Fields: maps.Clone(hash)}
		tag, ids := name[:len("cs:{00}:")], name[len("cs:{00}:"):]
		if _, millis, is := strings.Cut(hash["v"], "t"); is {
			score, _ := strconv.ParseFloat(millis, 64)
			if all[tag+"|tombs"].Scores == nil {
				all[tag+"|tombs"] = oracle.Entry{Type: "zset", Scores: map[string]float64{}}
			}
			all[tag+"|tombs"].Scores[ids] = score
			continue
		}
		if all[tag+"|counts"].Fields == nil {
			all[tag+"|counts"] = oracle.Entry{Type: "hash", Fields: map[string]string{}}
		}
		status, _ := strconv.Atoi(hash["v"][32:33]) // A point is no number, and 0 is unknown.
		policy, _, _ := strings.Cut(ids, ":")
		field := policy + "|" + compliance.Status(status).String()
		n, _ := strconv.Atoi(all[tag+"|counts"].Fields[field])
		all[tag+"|counts"].Fields[field] = strconv.Itoa(n + 1)
	}
	return all
}
