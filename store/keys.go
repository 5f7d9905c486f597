package store

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/complianced/complianced/compliance"
)

// The keys. All keys of a bucket carry its tag, so that a transaction stays in
// one slot of a cluster. Only the keys of records have two ids after the tag;
// every other key has a | in its name, which no id has.
const (
	keyPrefix   = "cs:"
	metaKey     = keyPrefix + "|meta"
	countsName  = "|counts"
	floorName   = "|floor"
	gapsName    = "|gaps"
	tombsName   = "|tombs"
	selfTestKey = "|selftest:"
)

// tag returns what begins every key of a bucket: cs:{hh}: with the bucket in
// two lower-case hex digits.
func tag(b compliance.Bucket) string { return fmt.Sprintf("%s{%02x}:", keyPrefix, int(b)) }

func countsKey(b compliance.Bucket) string { return tag(b) + countsName }
func floorKey(b compliance.Bucket) string  { return tag(b) + floorName }
func gapsKey(b compliance.Bucket) string   { return tag(b) + gapsName }

// bucketKeys are the keys of a bucket.
type bucketKeys struct{ tag, counts, floor, gaps, tombs string }

func keysOf(b compliance.Bucket) bucketKeys {
	tag := tag(b)
	return bucketKeys{tag, tag + countsName, tag + floorName, tag + gapsName, tag + tombsName}
}

// record is recordKey in the memory of a transaction.
func (b *bucketKeys) record(k compliance.Key, memory *texts) string {
	return memory.join(b.tag, k.Policy, ":", k.Device)
}

func recordKey(b compliance.Bucket, k compliance.Key) string { return tag(b) + tombMember(k) }

// parseRecordKey is the inverse of recordKey; it is false for every other key.
func parseRecordKey(key string) (compliance.Key, bool) {
	if len(key) < len("cs:{00}:") {
		return compliance.Key{}, false
	}
	return parseTombMember(key[len("cs:{00}:"):])
}

// tombMember names a record within its bucket.
func tombMember(k compliance.Key) string { return k.Policy + ":" + k.Device }

func parseTombMember(member string) (compliance.Key, bool) {
	policy, device, _ := strings.Cut(member, ":")
	k := compliance.Key{Policy: policy, Device: device}
	return k, k.Valid()
}

// countField names the count of the records of a policy in a status.
func countField(policy string, s compliance.Status) string { return policy + "|" + s.String() }

func parseCountField(field string) (string, compliance.Status, bool) {
	policy, name, _ := strings.Cut(field, "|")
	s, ok := compliance.ParseStatus(name)
	return policy, s, ok && compliance.ValidID(policy)
}

// gapField names a gap by its first and last sequence.
func gapField(g compliance.Gap) string {
	return strconv.FormatUint(g.First, 10) + "-" + strconv.FormatUint(g.Last, 10)
}

// parseGap is the inverse of gapField, and of what is written beside it.
func parseGap(field, seen string) (compliance.Gap, bool) {
	first, last, _ := strings.Cut(field, "-")
	f, errFirst := strconv.ParseUint(first, 10, 64)
	l, errLast := strconv.ParseUint(last, 10, 64)
	at, errSeen := time.Parse(time.RFC3339Nano, seen)
	gap := compliance.Gap{First: f, Last: l, Seen: at}
	return gap, errFirst == nil && errLast == nil && errSeen == nil && f <= l
}
