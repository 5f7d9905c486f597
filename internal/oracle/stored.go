package oracle

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// layoutVersion is the version of the keys and fields that this package knows.
const layoutVersion = "1"

// keys returns every key that Redis must have. What the rules leave open it takes
// from what Redis has, as long as that is well formed.
func (s *State) keys(have Snapshot) Snapshot {
	want := Snapshot{"cs:|meta": hash(map[string]string{
		"layout": layoutVersion, "partitions": strconv.Itoa(s.Config.partitions()), "buckets": strconv.Itoa(s.Config.buckets()),
	})}
	for key, record := range s.Records {
		s.recordKeys(want, have, key, record)
	}
	for bucket := range s.Config.buckets() {
		s.floorKey(want, have, bucket)
		s.gapsKey(want, have, bucket)
	}
	return want
}

func hash(fields map[string]string) Entry { return Entry{Type: "hash", Fields: fields} }

func bucketTag(bucket int) string { return fmt.Sprintf("cs:{%02x}:", bucket) }

// recordKeys adds the hash of a record and counts it, or the hash of a tombstone
// and its place in the index.
func (s *State) recordKeys(want, have Snapshot, key Key, record Record) {
	tag := bucketTag(share(key.Device, s.Config.buckets()))
	name := tag + key.Policy + ":" + key.Device
	if !record.Tombstone() {
		want[name] = hash(record.fields())
		want.count(tag+"|counts", key.Policy+"|"+record.status())
		return
	}
	millis := record.StoreMillis[0]
	if n, ok := tombstoneMillis(have[name].Fields); ok && slices.Contains(record.StoreMillis, n) {
		millis = n
	}
	want[name] = hash(record.tombstoneFields(millis))
	if _, there := want[tag+"|tombs"]; !there {
		want[tag+"|tombs"] = Entry{Type: "zset", Scores: map[string]float64{}}
	}
	want[tag+"|tombs"].Scores[key.Policy+":"+key.Device] = float64(millis)
}

// count adds one to a field of a hash.
func (s Snapshot) count(key, field string) {
	if _, there := s[key]; !there {
		s[key] = hash(map[string]string{})
	}
	n, _ := strconv.Atoi(s[key].Fields[field]) // Absent is 0.
	s[key].Fields[field] = strconv.Itoa(n + 1)
}

// gapsKey adds the gaps of a bucket. When a gap was seen is left open.
func (s *State) gapsKey(want, have Snapshot, bucket int) {
	name := bucketTag(bucket) + "|gaps"
	for _, gap := range s.Config.Gaps {
		if gap.Stream != s.streamOfBucket(bucket) || !gap.concerns(bucket) {
			continue
		}
		if _, there := want[name]; !there {
			want[name] = hash(map[string]string{})
		}
		field := fmt.Sprintf("%d-%d", gap.First, gap.Last)
		want[name].Fields[field] = "(a time)"
		if seen := have[name].Fields[field]; isTime(seen) {
			want[name].Fields[field] = seen
		}
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
