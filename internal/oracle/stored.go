package oracle

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zeebo/xxh3"
)

// layoutVersion is the version of the keys and fields that this package knows.
const layoutVersion = "3"

// keys returns every key that Redis must have. What the rules leave open it takes
// from what Redis has, as long as that is well formed.
func (s *State) keys(have Snapshot) Snapshot {
	want := Snapshot{"cs:|meta": hash(map[string]string{
		"layout": layoutVersion, "partitions": strconv.Itoa(s.Config.partitions()), "buckets": strconv.Itoa(s.Config.buckets()),
	})}
	for key, record := range s.Records {
		s.recordKeys(want, have, key, record)
	}
	s.devicesDerived(want)
	for bucket := range s.Config.buckets() {
		s.floorKey(want, have, bucket)
		s.sealKey(want, have, bucket)
		s.gapsKey(want, have, bucket)
	}
	return want
}

func hash(fields map[string]string) Entry { return Entry{Type: "hash", Fields: fields} }

func bucketTag(bucket int) string { return fmt.Sprintf("cs:{%02x}:", bucket) }

// recordKeys adds the hash of a record and what follows from it, or the hash of a
// tombstone and its place in the index.
func (s *State) recordKeys(want, have Snapshot, key Key, record Record) {
	tag := bucketTag(share(key.Device, s.Config.buckets()))
	name := tag + key.Policy + ":" + key.Device
	if !record.Tombstone() {
		want[name] = hash(record.fields())
		want.recordDerived(tag, key, record)
		return
	}
	millis := record.StoreMillis[0]
	if n, ok := tombstoneMillis(have[name].Fields); ok && slices.Contains(record.StoreMillis, n) {
		millis = n
	}
	want[name] = hash(record.tombstoneFields(millis))
	want.score(tag+"|tombs", key.Policy+":"+key.Device, millis)
}

// field adds a field to a hash.
func (s Snapshot) field(key, field, value string) {
	if _, there := s[key]; !there {
		s[key] = hash(map[string]string{})
	}
	s[key].Fields[field] = value
}

// count adds one to a field of a hash.
func (s Snapshot) count(key, field string) {
	n, _ := strconv.Atoi(s[key].Fields[field]) // Absent is 0.
	s.field(key, field, strconv.Itoa(n+1))
}

// score adds a member to a sorted set.
func (s Snapshot) score(key, member string, score int64) {
	if _, there := s[key]; !there {
		s[key] = Entry{Type: "zset", Scores: map[string]float64{}}
	}
	s[key].Scores[member] = float64(score)
}

// gapsKey adds the gaps of a bucket. When a gap was seen is left open.
func (s *State) gapsKey(want, have Snapshot, bucket int) {
	name := bucketTag(bucket) + "|gaps"
	for _, gap := range s.Config.Gaps {
		if gap.Stream != s.streamOfBucket(bucket) || !gap.concerns(bucket) {
			continue
		}
		field, seen := fmt.Sprintf("%d-%d", gap.First, gap.Last), "(a time)"
		if text := have[name].Fields[field]; isTime(text) {
			seen = text
		}
		want.field(name, field, seen)
	}
}

func isTime(text string) bool {
	_, err := time.Parse(time.RFC3339Nano, text)
	return err == nil
}

func (s *State) streamOfBucket(bucket int) string {
	return streamOf(bucket%s.Config.partitions(), s.Config)
}

// floorKey adds the floor of a bucket: the end of its stream. The write id is
// left open. Before the first message of a stream there need not be a floor, or
// it may still have the mark of a repair.
func (s *State) floorKey(want, have Snapshot, bucket int) {
	name := bucketTag(bucket) + "|floor"
	line, there := have[name]
	end, known := s.Ends[s.streamOfBucket(bucket)]
	switch {
	case !known && there:
		want[name] = line
		return
	case !there && end.Sequence == 0:
		return
	}
	words := strings.Split(line.Text, " ")
	write := "(a write id)"
	if len(words) >= 7 && words[6] != "" {
		write = words[6]
	}
	stored := int64(0)
	if end.Sequence > 0 {
		stored = end.Stored.UnixNano()
	}
	text := fmt.Sprintf("%s %d %d %d %d %d %s", end.Stream, end.Created.UnixNano(), end.Sequence, stored,
		s.Config.partitions(), s.Config.buckets(), write)
	if end.Sequence == 0 && line.Text == text+" repair" {
		text = line.Text
	}
	want[name] = Entry{Type: "string", Text: text}
}

// sealKey adds the seal of a bucket: the first 52 bits of the xxh3 of the write id of
// the floor that is there. Without one it is left open.
func (s *State) sealKey(want, have Snapshot, bucket int) {
	name := bucketTag(bucket) + "|seal"
	words := strings.Split(have[bucketTag(bucket)+"|floor"].Text, " ")
	if len(words) >= 7 && words[6] != "" {
		want[name] = Entry{Type: "string", Text: strconv.FormatUint(xxh3.HashString(words[6])>>12, 10)}
	} else if line, there := have[name]; there {
		want[name] = line
	}
}
