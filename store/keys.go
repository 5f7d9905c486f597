package store

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/complianced/complianced/compliance"
)

// The keys. All keys of a bucket carry its tag, so that a transaction stays in
// one slot of a cluster. Only the keys of records have two ids after the tag;
// every other key has a | in its name, which no id has.
const (
	keyPrefix   = "cs:"
	metaKey     = keyPrefix + "|meta"
	floorName   = "|floor"
	sealName    = "|seal"
	gapsName    = "|gaps"
	selfTestKey = "|selftest:"
)

// The names of what follows from the records of a bucket; see derived.go.
const (
	countsName    = "|counts"
	daysName      = "|days"
	graceName     = "|grace"
	graceDaysName = "|gracedays"
	devicesName   = "|devices"
	rollupName    = "|rollup"
	worstName     = "|worst"
	attentionName = "|attention"
	tombsName     = "|tombs"
)

// tag returns what begins every key of a bucket: cs:{hh}: with the bucket in
// two lower-case hex digits.
func tag(b compliance.Bucket) string { return fmt.Sprintf("%s{%02x}:", keyPrefix, int(b)) }

func countsKey(b compliance.Bucket) string { return tag(b) + countsName }
func floorKey(b compliance.Bucket) string  { return tag(b) + floorName }
func sealKey(b compliance.Bucket) string   { return tag(b) + sealName }
func gapsKey(b compliance.Bucket) string   { return tag(b) + gapsName }

// bucketKeys are the keys of a bucket.
type bucketKeys struct {
	tag, floor, seal, gaps                                                        string
	counts, days, grace, graceDays, devices, rollup, worst, attention, tombstones string
}

func keysOf(b compliance.Bucket) bucketKeys {
	tag := tag(b)
	return bucketKeys{
		tag: tag, floor: tag + floorName, seal: tag + sealName, gaps: tag + gapsName, counts: tag + countsName, days: tag + daysName,
		grace: tag + graceName, graceDays: tag + graceDaysName, devices: tag + devicesName, rollup: tag + rollupName,
		worst: tag + worstName, attention: tag + attentionName, tombstones: tag + tombsName,
	}
}

// has says that a name is that of a key which every bucket may have.
func (b *bucketKeys) has(name string) bool {
	for p := range part(numParts) {
		if b.part(p) == name {
			return true
		}
	}
	return name == b.floor || name == b.seal || strings.HasPrefix(name, b.tag+selfTestKey)
}

// record is recordKey in the memory of a transaction.
func (b *bucketKeys) record(k compliance.Key, memory *texts) string {
	return memory.join(b.tag, k.Policy, ":", k.Device)
}

func (b *bucketKeys) recordName(k compliance.Key) string { return b.tag + member(k) }

func recordKey(b compliance.Bucket, k compliance.Key) string { return tag(b) + member(k) }

// parseRecordKey is the inverse of recordKey; it is false for every other key.
func parseRecordKey(key string) (compliance.Key, bool) {
	if len(key) < len("cs:{00}:") {
		return compliance.Key{}, false
	}
	return parseMember(key[len("cs:{00}:"):])
}

// owns says that a record belongs to a bucket of a layout.
func owns(layout compliance.Layout, b compliance.Bucket, k compliance.Key) bool {
	return k.Valid() && layout.BucketOf(k.Device) == b
}

// member names a record within its bucket, where packKey does not.
func member(k compliance.Key) string { return k.Policy + ":" + k.Device }

func parseMember(member string) (compliance.Key, bool) {
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

// dayField names the number of records of a policy on a day.
func dayField(policy string, d compliance.Day) string { return policy + "|" + d.String() }

func parseDayField(field string) (string, compliance.Day, bool) {
	policy, text, _ := strings.Cut(field, "|")
	d, err := compliance.ParseDay(text)
	return policy, d, err == nil && compliance.ValidID(policy)
}

// The score of a record in the index of what needs attention is a number below 2^52,
// which a double holds exactly: the first bits of the xxh3 of its policy, the number of
// its status, and the first bits of the xxh3 of its device.
const (
	policyBits = 24
	statusBits = 3
	deviceBits = 25
)

// attentionScore returns the score of a record with a status. One ZADD moves a record
// from one status to another, and Redis compares numbers faster than texts. The records
// of a policy with a status lie beside each other, in an order that stays. Where the
// hashes of policies collide, others lie between them, which readers pass over.
func attentionScore(k compliance.Key, s compliance.Status) int64 {
	first, _ := attentionRange(k.Policy, s)
	return first | firstBits(deviceBits, k.Device)
}

// attentionRange returns the first and the last score of a policy with a status.
func attentionRange(policy string, s compliance.Status) (first, last int64) {
	first = (firstBits(policyBits, policy)<<statusBits | int64(s)) << deviceBits
	return first, first | (1<<deviceBits - 1)
}

// attentionStatus is the inverse of attentionScore; it is false for every other score.
func attentionStatus(k compliance.Key, score int64) (compliance.Status, bool) {
	s := compliance.Status(score >> deviceBits & (1<<statusBits - 1))
	return s, attentionScore(k, s) == score
}

func firstBits(n int, id string) int64 { return int64(xxh3.HashString(id) >> (64 - n)) }

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
