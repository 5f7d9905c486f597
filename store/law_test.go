package store_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/zeebo/xxh3"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/store"
)

// message is a report of a random history, before anything was made of it.
type message struct {
	key  compliance.Key
	body map[string]any
	id   string
	at   int64 // 100 ns after the beginning
}

// short are the fields of the hash, in the order in which the versions name them.
var short = []struct{ name, field string }{
	{"deviceDisplayName", "n"},
	{"userName", "u"},
	{"deviceModel", "m"},
	{"platform", "p"},
	{"complianceGracePeriodExpirationDateTime", "g"},
	{"status", ""},
	{"lastReportedDateTime", "r"},
	{"userPrincipalName", "e"},
}

var statusNames = []string{"unknown", "notApplicable", "compliant", "remediated", "nonCompliant", "error", "conflict", "notAssigned"}

// oneDay is a day in ticks.
const oneDay = 864_000_000_000

// graceTexts are ends of grace periods, and graceMillis what of them counts: neither
// what ended ten minutes before any event, nor the years 1 and 9999.
var (
	graceTexts  = []string{"2026-01-01T00:00Z", "2027-01-16T00:00Z", "2027-01-17T12:00:00.0000001+12:00", "9999-12-31T23:59:59.9999999Z", "0001-01-01T00:00:00Z"}
	graceMillis = []int64{0, 1800057600000, 1800144000001, 0, 0}
	graceDays   = []string{"", "2027-01-16", "2027-01-17", "", ""}
)

// fromBestToWorst are the numbers of the statuses.
const fromBestToWorst = "70123465"

// policies are a name and a UUID, which are rolled up in two ways.
var policies = []string{"p0", "0a1b2c3d-4e5f-6789-abcd-ef0123456789"}

// rolledUp is what a roll-up has of a policy whose status has a number.
func rolledUp(policy string, number int) string {
	if policy == policies[1] {
		return string([]byte{'0' + byte(number) + 128}) + "\x0a\x1b\x2c\x3d\x4e\x5f\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89"
	}
	return fmt.Sprintf("%d%c%s", number, len(policy), policy)
}

// packed is the member of a record in the indexes of grace periods and of what needs
// attention.
func packed(key compliance.Key) string {
	member := ""
	for _, id := range []string{key.Policy, key.Device} {
		if u, err := uuid.Parse(id); err == nil && u.String() == id {
			member += "\x00" + string(u[:])
		} else {
			member += string([]byte{byte(len(id))}) + id
		}
	}
	return member
}

// history draws reports of few records, with few times and ids, so that versions
// collide.
func history(random *rand.Rand) []message {
	var all []message
	devices := append(devicesOfBucket0()[:2:2], uuidOfBucket0)
	for range 5 + random.IntN(40) {
		m := message{
			key: compliance.Key{Policy: policies[random.IntN(len(policies))], Device: devices[random.IntN(3)]},
			id:  fmt.Sprint("id", random.IntN(4)), at: int64(random.IntN(3)) - oneDay*int64(random.IntN(2)), body: map[string]any{},
		}
		texts := []any{"", "a", "b", "ü\x00\n", nil}
		for _, p := range short {
			if random.IntN(3) == 0 {
				continue
			}
			switch p.name {
			case "platform":
				m.body[p.name] = random.IntN(3) - 1
			case "status":
				m.body[p.name] = statusNames[random.IntN(8)]
			case "complianceGracePeriodExpirationDateTime":
				m.body[p.name] = graceTexts[random.IntN(len(graceTexts))]
			case "lastReportedDateTime":
				m.body[p.name] = fmt.Sprintf("2026-01-0%dT00:00Z", 1+random.IntN(3))
			default:
				m.body[p.name] = texts[random.IntN(len(texts))]
			}
		}
		switch random.IntN(8) {
		case 0:
			m.body["@removed"] = map[string]any{}
		case 1:
			m.body = map[string]any{}
		}
		all = append(all, m)
		if random.IntN(10) == 0 {
			all = append(all, m)
		}
	}
	return all
}

// uuidOfBucket0 is another device of bucket 0, as devices mostly are.
const uuidOfBucket0 = "00000000-0a0d-ff7f-8000-2ba76027a72b"

var devicesOfBucket0 = sync.OnceValue(func() []string {
	var devices []string
	for n := 0; len(devices) < 3; n++ {
		if d := fmt.Sprint("device", n); layout.BucketOf(d) == 0 {
			devices = append(devices, d)
		}
	}
	return devices
})

// oracle sorts and folds: of every property the greatest (time, id, value). It
// writes the hash as the schema documents it.
func oracle(all []message) map[string]any {
	type value struct {
		at   int64
		id   uint64
		rank string
	}
	records := map[compliance.Key]map[string][]value{}
	stored := map[compliance.Key]int64{}
	for n, m := range all {
		record := records[m.key]
		if record == nil {
			record = map[string][]value{}
			records[m.key] = record
		}
		stored[m.key] = began.Add(time.Duration(n+1) * time.Second).UnixMilli()
		_, removed := m.body["@removed"]
		for _, p := range append(slices.Clone(short), struct{ name, field string }{"id", ""}) {
			v, set := m.body[p.name]
			var rank string
			switch {
			case removed:
				rank = "3"
			case p.name == "id":
				rank = "2" + m.key.Device
			case !set:
				continue
			case v == nil:
				rank = "1"
			case p.name == "status":
				rank = "2" + strconv.Itoa(slices.Index(statusNames, v.(string)))
			default:
				rank = "2" + fmt.Sprint(v)
			}
			record[p.name] = append(record[p.name], value{m.at, xxh3.HashString(m.id), rank})
		}
	}
	dump, tombs := map[string]any{}, map[string]float64{}
	numbers := map[string]map[string]int{"counts": {}, "worst": {}, "days": {}, "gracedays": {}}
	sets := map[string]map[string]float64{"grace": {}, "attention": {}, "devices": {}, "tombs": tombs}
	standings := map[string]map[string]int{} // By device and policy the number of the status.
	for key, record := range records {
		greatest := map[string]value{}
		for name, values := range record {
			greatest[name] = slices.MaxFunc(values, func(a, b value) int {
				if a.at != b.at {
					return int(a.at - b.at)
				}
				if a.id != b.id {
					if a.id < b.id {
						return -1
					}
					return 1
				}
				return strings.Compare(a.rank, b.rank)
			})
		}
		version := func(v value) string { return fmt.Sprintf("%016x%016x", ticks(v.at), v.id) }
		newest := version(greatest["id"])
		hash := map[string]string{}
		name := "cs:{00}:" + key.Policy + ":" + key.Device
		dump[name] = hash
		if greatest["id"].rank == "3" {
			hash["v"] = tombstone(newest, stored[key])
			tombs[key.Policy+":"+key.Device] = float64(stored[key])
			continue
		}
		status, marks := ".", ""
		var distinct []string
		for _, p := range short {
			v, set := greatest[p.name]
			switch {
			case !set || v.rank[0] == '3':
			case v.rank[0] == '1':
				hash[p.field] = "\xff"
			case p.name == "status":
				status = v.rank[1:]
			default:
				hash[p.field] = v.rank[1:]
			}
			switch {
			case !set:
				marks += "."
			case version(v) == newest:
				marks += "0"
			default:
				if !slices.Contains(distinct, version(v)) {
					distinct = append(distinct, version(v))
				}
				marks += strconv.Itoa(1 + slices.Index(distinct, version(v)))
			}
		}
		number, _ := strconv.Atoi(status) // One that was never set counts as unknown.
		if grace := slices.Index(graceTexts, hash["g"]); status == "4" && grace >= 0 && graceMillis[grace] > 0 {
			status = fmt.Sprintf("g%012x", graceMillis[grace])
			sets["grace"][packed(key)] = float64(graceMillis[grace])
			numbers["gracedays"][key.Policy+"|"+graceDays[grace]]++
		}
		if marks == "00000000" {
			marks = ""
		}
		hash["v"] = head(status, newest, hash, marks, distinct...)
		numbers["counts"][key.Policy+"|"+statusNames[number]]++
		day := "2027-01-15"
		if greatest["id"].at < -oneDay/3 { // It began at eight o'clock.
			day = "2027-01-14"
		}
		numbers["days"][key.Policy+"|"+day]++
		if slices.Contains([]int{0, 4, 5, 6}, number) {
			sets["attention"][packed(key)] = attention(key, number)
		}
		sets["devices"][key.Device] = 0
		if standings[key.Device] == nil {
			standings[key.Device] = map[string]int{}
		}
		standings[key.Device][key.Policy] = number
	}
	rollups := map[string]string{}
	for device, of := range standings {
		worst := 0
		for _, policy := range slices.Sorted(maps.Keys(of)) {
			rollups[device] += rolledUp(policy, of[policy])
			worst = max(worst, strings.IndexByte(fromBestToWorst, '0'+byte(of[policy])))
		}
		numbers["worst"][statusNames[fromBestToWorst[worst]-'0']]++
	}
	if len(rollups) > 0 {
		dump["cs:{00}:|rollup"] = rollups
	}
	for name, of := range numbers {
		hash := map[string]string{}
		for field, n := range of {
			hash[field] = strconv.Itoa(n)
		}
		if len(hash) > 0 {
			dump["cs:{00}:|"+name] = hash
		}
	}
	for name, of := range sets {
		if len(of) > 0 {
			dump["cs:{00}:|"+name] = of
		}
	}
	return dump
}

// attention is the score of a record in the index of what needs attention.
func attention(key compliance.Key, status int) float64 {
	policy, device := xxh3.HashString(key.Policy)>>40, xxh3.HashString(key.Device)>>39
	return float64(policy*1<<28 + uint64(status)*1<<25 + device)
}

// reportsOf decodes a history as a stream has it.
func reportsOf(tb testing.TB, all []message) []*compliance.Report {
	tb.Helper()
	var reports []*compliance.Report
	for i, m := range all {
		body, err := json.Marshal(m.body)
		if err != nil {
			tb.Fatal(err)
		}
		reports = append(reports, report(tb, uint64(i+1), m.key, string(body), "ce-id", m.id,
			"ce-time", began.Add(time.Duration(m.at)*100).Format(time.RFC3339Nano)))
	}
	return reports
}

func ticks(at int64) uint64 { return uint64((began.Unix()+62135596800)*1e7 + at) }

// kinds has, of each kind of key, how many entries one had at most.
type kinds map[string]int

func (k kinds) note(dump map[string]any) {
	for key, entries := range dump {
		name := "record"
		if _, after, is := strings.Cut(key, ":|"); is {
			name = after
		}
		switch of := entries.(type) {
		case map[string]string:
			k[name] = max(k[name], len(of))
		case map[string]float64:
			k[name] = max(k[name], len(of))
		}
	}
}

// wantEvery wants that the histories had all that can follow from records.
func (k kinds) wantEvery(t *testing.T) {
	t.Helper()
	for _, name := range []string{"record", "counts", "worst", "days", "gracedays", "grace", "attention", "devices", "rollup", "tombs"} {
		if k[name] < 2 {
			t.Errorf("no %s had more than %d entries: the histories show nothing", name, k[name])
		}
	}
}

// writer merges a history from wherever it believes the bucket to be, in batches
// of its own, against another that does the same.
func writer(tb testing.TB, r *store.Redis, reports []*compliance.Report, name string, random *rand.Rand) error {
	tb.Helper()
	var have compliance.Floor
	for n := 0; have.Sequence < uint64(len(reports)); n++ {
		end := min(have.Sequence+1+uint64(random.IntN(9)), uint64(len(reports)))
		tx := compliance.Transaction{
			Bucket: 0, From: have, To: floor(end, fmt.Sprint(name, n)), Reports: reports[have.Sequence:end],
		}
		_, err := r.Apply(tb.Context(), tx)
		if foreign, ok := errors.AsType[*compliance.FloorError](err); ok {
			have = foreign.Have
			continue
		}
		if err != nil {
			return err
		}
		have = tx.To
	}
	return nil
}

func TestTheLawHoldsOnRedisWithTwoWriters(t *testing.T) {
	s := startServer(t)
	writers := []*store.Redis{s.open(t, store.Options{}), s.open(t, store.Options{})}
	n := 2000
	if testing.Short() {
		n = 300
	}
	conflicts, seen := 0, kinds{}
	for seed := range n {
		random := rand.New(rand.NewPCG(uint64(seed), 5))
		all := history(random)
		reports := reportsOf(t, all)
		if err := s.raw.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		errs := make([]error, len(writers))
		var both sync.WaitGroup
		for i, r := range writers {
			of := rand.New(rand.NewPCG(uint64(seed), uint64(i)))
			both.Go(func() { errs[i] = writer(t, r, reports, fmt.Sprint("writer", i, "-"), of) })
		}
		both.Wait()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
		dump := s.dump(t)
		line, _ := dump["cs:{00}:|floor"].(string)
		delete(dump, "cs:{00}:|floor")
		delete(dump, "cs:{00}:|seal")
		fields := strings.Split(line, " ")
		want := fmt.Sprintf("COMPLIANCE_STATUS %d %d %d 1 4", began.UnixNano(), len(all), began.Add(time.Duration(len(all))*time.Second).UnixNano())
		if have := strings.Join(fields[:len(fields)-1], " "); have != want {
			t.Fatalf("history %d: the floor is %q, not %q", seed, have, want)
		}
		if fields[len(fields)-1][:7] == "writer1" {
			conflicts++
		}
		if diff := cmp.Diff(oracle(all), dump); diff != "" {
			t.Fatalf("history %d (-oracle +redis):\n%s", seed, diff)
		}
		seen.note(dump)
	}
	seen.wantEvery(t)
	if conflicts == 0 || conflicts == n {
		t.Errorf("one writer had the last word in %d of %d histories: they did not compete", conflicts, n)
	}
	t.Logf("%d histories, the second writer had the last word in %d", n, conflicts)
}
