package store_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/store"
)

// documented is the device of the documented example; in a layout of four
// buckets it lies in bucket 1.
const documented = "a72b2760-2760-a72b-6027-2ba760272ba7"

// packedDocumented is the device in the indexes.
const packedDocumented = "\x00\xa7\x2b\x27\x60\x27\x60\xa7\x2b\x60\x27\x2b\xa7\x60\x27\x2b\xa7"

func documentedBody(tb testing.TB) string {
	tb.Helper()
	body, err := os.ReadFile("../compliance/testdata/documented.json")
	if err != nil {
		tb.Fatal(err)
	}
	return string(bytes.TrimSpace(body))
}

// Versions of the golden hashes: 2026-03-04T05:06:07.1234567Z and the seconds
// after it in ticks since year 1, and the xxh3 of the event ids id0 to id8.
const (
	v0 = "08de79abbe3d2007ba677c0872c02c96"
	v1 = "08de79abbed5b687fc280bc9f9d40416"
	v2 = "08de79abbf6e4d078317e9bcacb91b5b"
	v3 = "08de79abc006e38758f6bcb17d82caae"
	v4 = "08de79abc09f7a0796f48d83ffeefe7d"
	v5 = "08de79abc13810877d640076bdba97e2"
	v6 = "08de79abc1d0a7074f2d044c2fb94f42"
	v7 = "08de79abc2693d87dbb7bdbc0165d31c"
	v8 = "08de79abc301d40781b651b13b7853dd"
)

// golden merges reports of one policy each, the n-th report of a policy with the
// n-th version.
type golden struct {
	tb       testing.TB
	sequence uint64
	reports  []*compliance.Report
}

func (g *golden) add(policy string, bodies ...string) {
	g.tb.Helper()
	for n, body := range bodies {
		g.sequence++
		g.reports = append(g.reports, report(g.tb, g.sequence, compliance.Key{Policy: policy, Device: documented}, body,
			"ce-id", fmt.Sprint("id", n), "ce-time", fmt.Sprintf("2026-03-04T05:06:%02d.12345678Z", 7+n)))
	}
}

func TestTheKeysAreTheDocumentedOnes(t *testing.T) {
	s := startServer(t)
	r := s.open(t, store.Options{Tombstones: time.Hour})
	if err := r.EnsureLayout(t.Context()); err != nil {
		t.Fatal(err)
	}
	g := golden{tb: t}
	g.add("uniform", documentedBody(t))
	g.add("partial", `{"status":"error","platform":-0}`)
	g.add("empty", `{}`)
	g.add("grace", `{"status":"nonCompliant","complianceGracePeriodExpirationDateTime":"2026-03-05T01:00:00.0001+01:00"}`)
	g.add("nulls", `{"deviceDisplayName":null,"userName":null,"deviceModel":"","userPrincipalName":null}`)
	g.add("tombstone", documentedBody(t), `{"@removed":{}}`)
	g.add("revived", documentedBody(t), `{"@removed":{}}`, `{"status":"conflict"}`)
	g.add("two", documentedBody(t), `{"status":"compliant","userName":"Zoë"}`)
	eight := []string{
		`{"deviceDisplayName":"a"}`, `{"userName":"b"}`, `{"deviceModel":"c"}`, `{"platform":-2147483648}`,
		`{"complianceGracePeriodExpirationDateTime":"2026-01-01T00:00Z"}`, `{"status":"notAssigned"}`,
		`{"lastReportedDateTime":"2026-01-01T00:00:00.123456789012+14:00"}`,
	}
	g.add("seven", append(eight[:7:7], `{"userPrincipalName":"d"}`)...)
	g.add("eight", append(eight[:7:7], `{"userPrincipalName":"d"}`, `{}`)...)
	to := floor(g.sequence, "write-1")
	_, err := r.Apply(t.Context(), compliance.Transaction{
		Bucket: 1, To: to, Reports: g.reports, Gaps: []compliance.Gap{{First: 2, Last: 9, Seen: began.Add(1)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	uniform := map[string]string{
		"v": "4\x08\xde\x79\xab\xbe\x3d\x20\x07\xba\x67\x7c\x08\x72\xc0\x2c\x96\x58\x61\xe5\x5a\x76\x8e\x75\x8f\x8b\xbe\xb5\x4a\x78\x01\xa2\x6c", "n": "Device Display Name value", "u": "User Name value", "m": "Device Model value", "p": "8",
		"g": "2017-01-01T00:02:41.4369203+03:00", "r": "2017-01-01T00:00:59.8078557+03:00", "e": "User Principal Name value",
	}
	headed := func(hash map[string]string, mark, newest, marks string, others ...string) map[string]string {
		hash = maps.Clone(hash)
		hash["v"] = head(mark, newest, hash, marks, others...)
		return hash
	}
	two := maps.Clone(uniform)
	two["u"] = "Zoë"
	all := map[string]string{
		"n": "a", "u": "b", "m": "c", "p": "-2147483648", "g": "2026-01-01T00:00Z",
		"r": "2026-01-01T00:00:00.123456789012+14:00", "e": "d",
	}
	nothing, nulls := map[string]string{}, map[string]string{"n": "\xff", "u": "\xff", "m": "", "e": "\xff"}
	const tag = "cs:{01}:"
	want := map[string]any{
		tag + "uniform:" + documented:   uniform,
		tag + "partial:" + documented:   headed(map[string]string{"p": "0"}, "5", v0, "...0.0.."),
		tag + "empty:" + documented:     headed(nothing, ".", v0, "........"),
		tag + "grace:" + documented:     headed(map[string]string{"g": "2026-03-05T01:00:00.0001+01:00"}, "g019cbb4b4c01", v0, "....00.."),
		tag + "nulls:" + documented:     headed(nulls, ".", v0, "000....0"),
		tag + "tombstone:" + documented: map[string]string{"v": tombstone(v1, 1800000007000)},
		tag + "revived:" + documented:   headed(nothing, "6", v2, "11111011", v1),
		tag + "two:" + documented:       headed(two, "2", v1, "10111011", v0),
		tag + "seven:" + documented:     headed(all, "7", v7, "12345670", v0, v1, v2, v3, v4, v5, v6),
		tag + "eight:" + documented:     headed(all, "7", v8, "12345678", v0, v1, v2, v3, v4, v5, v6, v7),
		tag + "|counts": map[string]string{
			"uniform|nonCompliant": "1", "partial|error": "1", "empty|unknown": "1", "nulls|unknown": "1",
			"revived|conflict": "1", "two|compliant": "1", "seven|notAssigned": "1", "eight|notAssigned": "1",
			"grace|nonCompliant": "1",
		},
		tag + "|worst": map[string]string{"error": "1"},
		tag + "|days": map[string]string{
			"uniform|2026-03-04": "1", "partial|2026-03-04": "1", "empty|2026-03-04": "1", "nulls|2026-03-04": "1",
			"revived|2026-03-04": "1", "two|2026-03-04": "1", "seven|2026-03-04": "1", "eight|2026-03-04": "1",
			"grace|2026-03-04": "1",
		},
		tag + "|gracedays": map[string]string{"grace|2026-03-05": "1"},
		tag + "|grace":     map[string]float64{"\x05grace" + packedDocumented: 1772668800001},
		tag + "|devices":   map[string]float64{documented: 0},
		tag + "|rollup": map[string]string{
			documented: "7\x05eight" + "0\x05empty" + "4\x05grace" + "0\x05nulls" + "5\x07partial" + "6\x07revived" + "7\x05seven" + "2\x03two" + "4\x07uniform",
		},
		tag + "|attention": map[string]float64{
			// Made by another program.
			"\x05empty" + packedDocumented: 2525119210104783, "\x05nulls" + packedDocumented: 2951178623690703, "\x05grace" + packedDocumented: 1529510760064975,
			"\x07uniform" + packedDocumented: 4446802066057167, "\x07partial" + packedDocumented: 3151993745483727, "\x07revived" + packedDocumented: 3788947361146831,
		},
		tag + "|floor": "COMPLIANCE_STATUS 1800000000000000000 29 1800000029000000000 1 4 write-1",
		tag + "|seal":  "1594285188203876",
		tag + "|gaps":  map[string]string{"2-9": "2027-01-15T08:00:00.000000001Z"},
		tag + "|tombs": map[string]float64{"tombstone:" + documented: 1800000007000},
		"cs:|meta":     map[string]string{"layout": "3", "partitions": "1", "buckets": "4"},
	}
	if diff := cmp.Diff(want, s.dump(t)); diff != "" {
		t.Errorf("keys (-want +redis):\n%s", diff)
	}
	for name := range want {
		if hash, ok := want[name].(map[string]string); ok {
			if have := s.raw.ObjectEncoding(t.Context(), name).Val(); have != "listpack" {
				t.Errorf("%s is a %s", name, have)
			}
			if v := hash["v"]; strings.HasPrefix(name, tag+"eight") && len(v) != 33+8+8*16 {
				t.Errorf("a head with eight other versions takes %d bytes", len(v))
			}
		}
	}
	for policy, n := range map[string]int{"uniform": 9, "two": 9, "revived": 9, "eight": 9} {
		record, err := r.Get(t.Context(), compliance.Key{Policy: policy, Device: documented})
		if err != nil || !record.Exists() {
			t.Errorf("%s: %v", policy, err)
		}
		for _, v := range record.Versions {
			if v != (compliance.Version{}) {
				n--
			}
		}
		if n != 0 {
			t.Errorf("%s has %d versions less than properties", policy, n)
		}
	}
	back := floor(0, "write-2")
	back.Stored, back.Repair = time.Time{}, true
	if _, err := r.Apply(t.Context(), compliance.Transaction{Bucket: 1, From: to, To: back, Accept: true, Recount: true}); err != nil {
		t.Fatal(err)
	}
	want[tag+"|seal"] = "1961019587195542"
	want[tag+"|floor"] = "COMPLIANCE_STATUS 1800000000000000000 0 0 1 4 write-2 repair"
	delete(want, tag+"|gaps")
	if diff := cmp.Diff(want, s.dump(t)); diff != "" {
		t.Errorf("keys after a repair (-want +redis):\n%s", diff)
	}
}

// What a record with two GUIDs as ids may take on Redis 7.0: a uniform one by itself,
// and with all that follows from it in a fleet with five policies a device of which
// nine in ten are compliant.
const (
	budget      = 430
	budgetInAll = 520
)

func TestRecordsKeepToTheirBudget(t *testing.T) {
	s := startServer(t)
	r := s.open(t, store.Options{})
	const devices, policies, perBatch = 6_000, 5, 200
	compliant := strings.Replace(documentedBody(t), "nonCompliant", "compliant", 1)
	key := func(i int) compliance.Key {
		return compliance.Key{
			Policy: fmt.Sprintf("a72b2760-2760-a72b-6027-%012x", i%policies), Device: fmt.Sprintf("a72b2760-2760-a72b-6027-%012x", i/policies),
		}
	}
	// Redis keeps 25 kB for each command that it was ever sent.
	floors := map[compliance.Bucket]compliance.Floor{0: floor(0, "first")}
	apply(t, r, compliance.Floor{}, floors[0])
	before := usedMemory(t, s)
	for i := 0; i < devices; i += perBatch {
		batches := map[compliance.Bucket][]*compliance.Report{}
		for j := i * policies; j < (i+perBatch)*policies; j++ {
			body := compliant
			if j%10 == 0 {
				body = documentedBody(t)
			}
			b := layout.BucketOf(key(j).Device)
			batches[b] = append(batches[b], report(t, uint64(j+1), key(j), body))
		}
		for b, reports := range batches {
			tx := compliance.Transaction{Bucket: b, From: floors[b], To: floor(uint64((i+perBatch)*policies), fmt.Sprint("w", i)), Reports: reports}
			if _, err := r.Apply(t.Context(), tx); err != nil {
				t.Fatal(err)
			}
			floors[b] = tx.To
		}
	}
	// The table of keys has 32,768 places for 30,000 keys, as in a well filled server.
	perRecord := (usedMemory(t, s) - before) / (devices * policies)
	one := s.raw.MemoryUsage(t.Context(), fmt.Sprintf("cs:{%02x}:%s:%s", int(layout.BucketOf(key(0).Device)), key(0).Policy, key(0).Device)).Val()
	t.Logf("a uniform record: MEMORY USAGE %d bytes; used_memory %d bytes a record in all", one, perRecord)
	if one > budget || perRecord > budgetInAll {
		t.Errorf("a uniform record takes %d bytes, more than %d; %d in all, more than %d", one, budget, perRecord, budgetInAll)
	}
}

func usedMemory(t *testing.T, s *server) int64 {
	t.Helper()
	// The buffer of the append-only file comes and goes.
	info := s.raw.InfoMap(t.Context(), "memory").Val()["Memory"]
	used, err := strconv.ParseInt(info["used_memory"], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	buffers, err := strconv.ParseInt(info["mem_not_counted_for_evict"], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return used - buffers
}
