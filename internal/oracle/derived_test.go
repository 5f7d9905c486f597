package oracle_test

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/zeebo/xxh3"

	"github.com/complianced/complianced/internal/oracle"
)

// derivedNames are the keys that follow from the records of a bucket.
var derivedNames = []string{
	"|counts", "|worst", "|days", "|gracedays", "|grace", "|attention", "|devices", "|rollup", "|tombs",
}

// largest returns the key of a name that has most fields or members, and one of them.
func largest(t *testing.T, s oracle.Snapshot, name string) (key, entry string) {
	t.Helper()
	most := 0
	for _, k := range slices.Sorted(maps.Keys(s)) {
		if n := len(s[k].Fields) + len(s[k].Scores); strings.HasSuffix(k, ":"+name) && n > most {
			key, most = k, n
			entry = slices.Min(append(slices.Collect(maps.Keys(s[k].Fields)), slices.Collect(maps.Keys(s[k].Scores))...))
		}
	}
	if most < 2 {
		t.Fatalf("no key of the name %s has two entries", name)
	}
	return key, entry
}

// derivedFaults are the ways in which each key that follows from the records can be
// wrong.
func derivedFaults(t *testing.T, right oracle.Snapshot) []fault {
	t.Helper()
	var faults []fault
	for _, name := range derivedNames {
		key, entry := largest(t, right, name)
		add := func(what string, wrong func(p redis.Pipeliner), want string) {
			faults = append(faults, fault{name + ": " + what, wrong, key + want})
		}
		add("missing", func(p redis.Pipeliner) { p.Del(t.Context(), key) }, " is missing")
		add("of another type", func(p redis.Pipeliner) { p.Del(t.Context(), key); p.RPush(t.Context(), key, "x") }, " is a list, want a "+right[key].Type)
		add("with an expiry", func(p redis.Pipeliner) { p.Expire(t.Context(), key, time.Hour) }, " expires: true")
		add("of a bucket that there is not", func(p redis.Pipeliner) { p.Copy(t.Context(), key, "cs:{ff}:"+name, 0, false) }, "")
		faults[len(faults)-1].want = "cs:{ff}:" + name + " is too many: a " + right[key].Type
		if right[key].Type == "hash" {
			add("a field that is another", func(p redis.Pipeliner) { p.HSet(t.Context(), key, entry, right[key].Fields[entry]+"0") }, ` field `+strconv.Quote(entry)+` is "`)
			add("a field that is missing", func(p redis.Pipeliner) { p.HDel(t.Context(), key, entry) }, ` field `+strconv.Quote(entry)+` is missing`)
			add("a field that is too many", func(p redis.Pipeliner) { p.HSet(t.Context(), key, "other", "0") }, ` field "other" is too many`)
			continue
		}
		add("a member with another score", func(p redis.Pipeliner) { p.ZIncrBy(t.Context(), key, 1, entry) }, ` score of `+strconv.Quote(entry)+` is `)
		add("a member that is missing", func(p redis.Pipeliner) { p.ZRem(t.Context(), key, entry) }, ` score of `+strconv.Quote(entry)+` is missing`)
		add("a member that is too many", func(p redis.Pipeliner) { p.ZAdd(t.Context(), key, redis.Z{Member: "other"}) }, ` score of "other" is too many`)
	}
	return faults
}

// rollupFaults are other stored forms of the same roll-up.
func rollupFaults(t *testing.T, right oracle.Snapshot) []fault {
	t.Helper()
	// The device has a record under each of three policies, of which two are UUIDs.
	const device = "device3"
	key := ""
	for k := range right {
		if _, there := right[k].Fields[device]; there && strings.HasSuffix(k, "|rollup") {
			key = k
		}
	}
	text := right[key].Fields[device]
	uuid := "\xb4" + strings.Repeat("\x00", 16)
	if !strings.HasPrefix(text, uuid) {
		t.Fatalf("the roll-up is %q", text)
	}
	with := func(other string) func(redis.Pipeliner) {
		return func(p redis.Pipeliner) { p.HSet(t.Context(), key, device, other) }
	}
	want := key + ` field "` + device + `" is "`
	return []fault{
		{"a roll-up with another status", with("\xb5" + text[1:]), want},
		{"a roll-up without a policy", with(text[len(uuid):]), want},
		{"a roll-up in another order", with(text[len(uuid):] + uuid), want},
		{"a roll-up with a UUID in full", with("4\x24" + uuids[0] + text[len(uuid):]), want},
	}
}

// head is that of a record with a grace period.
type head string

// graceEnd is where the end of the grace period ends.
const graceEnd = len("g") + 6

// with returns the head with another end.
func (h head) with() string {
	return string(h[:graceEnd-1]) + string([]byte{h[graceEnd-1] ^ 1}) + string(h[graceEnd:])
}

// without returns the head as of a record that has none.
func (h head) without() string { return "4" + string(h[graceEnd:]) }

// graceRecord returns a record with a grace period.
func graceRecord(t *testing.T, s oracle.Snapshot) (key string, of head) {
	t.Helper()
	for _, key := range slices.Sorted(maps.Keys(s)) {
		if v := s[key].Fields["v"]; len(v) > graceEnd && v[0] == 'g' {
			return key, head(v)
		}
	}
	t.Fatal("no record has a grace period")
	return "", ""
}

// TestWhatFollowsFromRecordsIsAsDocumented has all stored forms in full: of a device
// with a UUID and another policy, of which one is in its grace period, of one device
// with a record that was never given a status, and of one whose record was removed.
func TestWhatFollowsFromRecordsIsAsDocumented(t *testing.T) {
	const (
		policy   = "0a1b2c3d-4e5f-6789-abcd-ef0123456789"
		uuid     = "\x00\x0a\x1b\x2c\x3d\x4e\x5f\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89"
		inGrace  = `{"status":"nonCompliant","complianceGracePeriodExpirationDateTime":"2026-01-03T14:00:00.0000001+14:00"}`
		tooLate  = `{"status":"nonCompliant","complianceGracePeriodExpirationDateTime":"2026-01-01T23:50:00Z"}`
		sentinel = `{"status":"nonCompliant","complianceGracePeriodExpirationDateTime":"9999-12-31T23:59:59.9999999Z"}`
		tag      = "cs:{00}:"
		at       = "08de4991df61c000" // 2026-01-02T00:00:00Z.
	)
	var h oracle.History
	for i, report := range []struct{ policy, device, body string }{
		{policy, "d", inGrace}, {"q", "d", `{"status":"remediated"}`}, {"q", "e", tooLate}, {"r", "e", sentinel}, {"q", "f", `{}`}, {"q", "g", `{"@removed":{}}`},
	} {
		h.Messages = append(h.Messages, oracle.Message{
			Stream: "COMPLIANCE_STATUS", Created: began, Sequence: uint64(i + 1), Stored: began,
			Subject: "compliance.status." + report.policy + "." + report.device, Body: []byte(report.body),
			Header: map[string][]string{"ce-time": {"2026-01-02T00:00:00Z"}, "ce-id": {"x"}},
		})
	}
	state := oracle.Fold(h, oracle.Config{Buckets: 1, InSequence: true})
	newest := at + fmt.Sprintf("%016x", xxh3.HashString("x"))
	// The digests and the scores were made by another program.
	head := func(mark, digest, marks string) string { return mark[:1] + unhex(t, mark[1:]+newest+digest) + marks }
	want := oracle.Snapshot{
		"cs:|meta":          hash("layout", "3", "partitions", "1", "buckets", "1"),
		tag + "|floor":      {Type: "string", Text: fmt.Sprintf("COMPLIANCE_STATUS %d 6 %d 1 1 w", began.UnixNano(), began.UnixNano())},
		tag + "|seal":       {Type: "string", Text: strconv.FormatUint(xxh3.HashString("w")>>12, 10)},
		tag + policy + ":d": hash("v", head("g019b81276001", "0e0d6118ea8e1f582a092cd28482da74", "....00.."), "g", "2026-01-03T14:00:00.0000001+14:00"),
		tag + "q:d":         hash("v", head("3", "b0f66adc83641586656866813fd9dd0b", ".....0..")),
		tag + "q:e":         hash("v", head("4", "aa80cd49b6714e34ba2df05668113241", "....00.."), "g", "2026-01-01T23:50:00Z"),
		tag + "r:e":         hash("v", head("4", "e0b774825e05cd74cc0dbac0503e36da", "....00.."), "g", "9999-12-31T23:59:59.9999999Z"),
		tag + "q:f":         hash("v", head(".", "b0f66adc83641586656866813fd9dd0b", "........")),
		tag + "q:g":         hash("v", "t"+unhex(t, newest+"000001a3185c507b")),
		tag + "|counts":     hash(policy+"|nonCompliant", "1", "q|remediated", "1", "q|nonCompliant", "1", "r|nonCompliant", "1", "q|unknown", "1"),
		tag + "|worst":      hash("nonCompliant", "2", "unknown", "1"),
		tag + "|days":       hash(policy+"|2026-01-02", "1", "q|2026-01-02", "3", "r|2026-01-02", "1"),
		tag + "|gracedays":  hash(policy+"|2026-01-03", "1"),
		tag + "|rollup":     hash("d", "\xb4\x0a\x1b\x2c\x3d\x4e\x5f\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89"+"3\x01q", "e", "4\x01q"+"4\x01r", "f", "0\x01q"),
		tag + "|grace":      {Type: "zset", Scores: map[string]float64{uuid + "\x01d": 1767398400001}},
		tag + "|attention":  {Type: "zset", Scores: map[string]float64{uuid + "\x01d": 731873576480772, "\x01q\x01e": 4261184858213980, "\x01r\x01e": 3333390854770268, "\x01q\x01f": 4261184700646059}},
		tag + "|devices":    {Type: "zset", Scores: map[string]float64{"d": 0, "e": 0, "f": 0}},
		tag + "|tombs":      {Type: "zset", Scores: map[string]float64{"q:g": 1800000000123}},
	}
	for _, what := range oracle.Compare(state, want) {
		t.Error(what)
	}
}

func unhex(t *testing.T, text string) string {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func hash(pairs ...string) oracle.Entry {
	e := oracle.Entry{Type: "hash", Fields: map[string]string{}}
	for pair := range slices.Chunk(pairs, 2) {
		e.Fields[pair[0]] = pair[1]
	}
	return e
}
