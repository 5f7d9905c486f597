package oracle_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

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
		add := func(what string, make func(p redis.Pipeliner), want string) {
			faults = append(faults, fault{name + ": " + what, make, key + want})
		}
		add("missing", func(p redis.Pipeliner) { p.Del(t.Context(), key) }, " is missing")
		add("of another type", func(p redis.Pipeliner) { p.Del(t.Context(), key); p.RPush(t.Context(), key, "x") }, " is a list, want a "+right[key].Type)
		add("with an expiry", func(p redis.Pipeliner) { p.Expire(t.Context(), key, time.Hour) }, " expires: true")
		add("of a bucket that there is not", func(p redis.Pipeliner) { p.Copy(t.Context(), key, "cs:{ff}:"+name, 0, false) }, "")
		faults[len(faults)-1].want = "cs:{ff}:" + name + " is too many: a " + right[key].Type
		if right[key].Type == "hash" {
			add("a field that is another", func(p redis.Pipeliner) { p.HSet(t.Context(), key, entry, right[key].Fields[entry]+"0") }, ` field "`+entry+`" is "`)
			add("a field that is missing", func(p redis.Pipeliner) { p.HDel(t.Context(), key, entry) }, ` field "`+entry+`" is missing`)
			add("a field that is too many", func(p redis.Pipeliner) { p.HSet(t.Context(), key, "other", "0") }, ` field "other" is too many`)
			continue
		}
		add("a member with another score", func(p redis.Pipeliner) { p.ZIncrBy(t.Context(), key, 1, entry) }, ` score of "`+entry+`" is `)
		add("a member that is missing", func(p redis.Pipeliner) { p.ZRem(t.Context(), key, entry) }, ` score of "`+entry+`" is missing`)
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

// graceEnds is where the last digit of the end of the grace period is.
const graceEnds = 32 + len("g") + 11

// with returns the head with another end.
func (h head) with() string {
	digit := "0"
	if h[graceEnds] == '0' {
		digit = "1"
	}
	return string(h[:graceEnds]) + digit + string(h[graceEnds+1:])
}

// without returns the head as of a record that has none.
func (h head) without() string { return string(h[:32]) + "4" + string(h[graceEnds+1:]) }

// graceRecord returns a record with a grace period.
func graceRecord(t *testing.T, s oracle.Snapshot) (key string, of head) {
	t.Helper()
	for _, key := range slices.Sorted(maps.Keys(s)) {
		if v := s[key].Fields["v"]; len(v) > graceEnds && v[32] == 'g' {
			return key, head(v)
		}
	}
	t.Fatal("no record has a grace period")
	return "", ""
}
