package store

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/complianced/complianced/compliance"
)

// view is what a check has read of a bucket: what follows from its records, and what
// is there in its place.
type view struct {
	bucket  compliance.Bucket
	layout  compliance.Layout
	keys    bucketKeys
	records map[compliance.Key]known
	// unreadable are the records that are none.
	unreadable map[compliance.Key]bool
	want       *derived
	live       [numParts]map[string]string
	// broken are the keys of another type.
	broken [numParts]bool
}

func newView(b compliance.Bucket, layout compliance.Layout) *view {
	v := &view{
		bucket: b, layout: layout, keys: keysOf(b), records: map[compliance.Key]known{}, unreadable: map[compliance.Key]bool{}, want: newDerived(),
	}
	for p := range v.live {
		v.live[p] = map[string]string{}
	}
	return v
}

// owns says that a record belongs to the bucket.
func (v *view) owns(key compliance.Key) bool { return owns(v.layout, v.bucket, key) }

// gone says that there is nothing in the place of a record of the bucket.
func (v *view) gone(key compliance.Key) bool {
	_, there := v.records[key]
	return !there && !v.unreadable[key] && v.owns(key)
}

// readAll reads every entry and every record that one of them names, and the strays.
// It takes its time: whatever moves meanwhile is read again.
func (v *view) readAll(ctx context.Context, c redis.Cmdable, strays []compliance.Key) error {
	for p := range part(numParts) {
		if err := v.scan(ctx, c, p); err != nil {
			return err
		}
	}
	named := map[compliance.Key]struct{}{}
	for _, key := range strays {
		named[key] = struct{}{}
	}
	for device, text := range v.live[partRollup] {
		policies, _ := parseRollup(text)
		for _, s := range policies {
			named[compliance.Key{Policy: s.policy, Device: device}] = struct{}{}
		}
	}
	for _, p := range []part{partTombstones, partGrace, partAttention} {
		for name := range v.live[p] {
			if key, ok := keyOfEntry(entryID{p, name}); ok {
				named[key] = struct{}{}
			}
		}
	}
	keys := make([]compliance.Key, 0, len(named))
	for key := range named {
		keys = append(keys, key)
	}
	return v.readRecords(ctx, c, keys)
}

// keyOfEntry returns the record that an entry names.
func keyOfEntry(e entryID) (compliance.Key, bool) {
	switch e.part {
	case partGrace, partAttention:
		return unpackKey(e.name)
	case partTombstones, partRecords:
		return parseMember(e.name)
	case partCounts, partWorst, partDays, partGraceDays, partRollup, partGaps, partDevices:
	}
	return compliance.Key{}, false
}

// scan reads all entries of a part, some at a time.
func (v *view) scan(ctx context.Context, c redis.Cmdable, p part) error {
	read := c.ZScan
	if p.isHash() {
		read = c.HScan
	}
	for cursor := uint64(0); ; {
		pairs, next, err := read(ctx, v.keys.part(p), cursor, "", scanCount).Result()
		if err := v.breaks(p, err); err != nil {
			return err
		}
		for pair := range slices.Chunk(pairs, 2) {
			v.note(entryID{p, pair[0]}, pair[1], true)
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// note takes what an entry holds. A score is written as Redis may write it.
func (v *view) note(e entryID, text string, there bool) {
	if !there {
		delete(v.live[e.part], e.name)
		return
	}
	if !e.part.isHash() {
		if f, err := strconv.ParseFloat(text, 64); err == nil {
			text = strconv.FormatFloat(f, 'f', -1, 64)
		}
	}
	v.live[e.part][e.name] = text
}

// readRecords reads those of some records that belong to the bucket, and moves what
// follows from them.
func (v *view) readRecords(ctx context.Context, c redis.Cmdable, named []compliance.Key) error {
	keys := slices.DeleteFunc(slices.Clone(named), func(key compliance.Key) bool { return !v.owns(key) })
	for some := range slices.Chunk(keys, perCommand) {
		pipe := c.Pipeline()
		replies := make([]*redis.SliceCmd, len(some))
		for i, key := range some {
			replies[i] = pipe.HMGet(ctx, v.keys.recordName(key), fullFields...)
		}
		_, _ = pipe.Exec(ctx) // Every command's own error is looked at.
		var empty []compliance.Key
		for i, reply := range replies {
			fields, err := reply.Result()
			if err != nil && !isWrongType(err) {
				return err
			}
			var record compliance.Record
			if err == nil {
				record, err = decode(fields)
			}
			v.set(some[i], &record, err != nil)
			if err == nil && record.Empty() {
				empty = append(empty, some[i])
			}
		}
		if err := v.readEmpty(ctx, c, empty); err != nil {
			return err
		}
	}
	return nil
}

// readEmpty tells records that are not there from hashes without a field of a record.
func (v *view) readEmpty(ctx context.Context, c redis.Cmdable, keys []compliance.Key) error {
	if len(keys) == 0 {
		return nil
	}
	pipe := c.Pipeline()
	replies := make([]*redis.IntCmd, len(keys))
	for i, key := range keys {
		replies[i] = pipe.Exists(ctx, v.keys.recordName(key))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return err
	}
	for i, key := range keys {
		if replies[i].Val() > 0 {
			v.set(key, &compliance.Record{}, true)
		}
	}
	return nil
}

func (v *view) set(key compliance.Key, r *compliance.Record, unreadable bool) {
	if delete(v.unreadable, key); unreadable {
		v.unreadable[key] = true
		r = &compliance.Record{}
	}
	after := knownOf(r)
	v.want.move(key, v.records[key], after)
	if r.Empty() {
		delete(v.records, key)
		return
	}
	v.records[key] = after
}

// wanted returns what an entry must hold.
func (v *view) wanted(e entryID) string {
	if e.part != partGaps {
		return v.want.text(e)
	}
	// Nothing but being a gap is asked of a gap.
	if _, ok := parseGap(e.name, v.live[partGaps][e.name]); ok {
		return v.live[partGaps][e.name]
	}
	return ""
}

// wrong reports whether an entry is not what it must be.
func (v *view) wrong(e entryID) bool {
	if e.part == partRecords {
		key, _ := parseMember(e.name)
		return v.unreadable[key]
	}
	if v.broken[e.part] {
		return false // The key as a whole is.
	}
	text, there := v.live[e.part][e.name]
	want := v.wanted(e)
	return text != want || there != (want != "")
}

// compare returns every entry that is not what it must be.
func (v *view) compare() []entryID {
	var list []entryID
	for p := range part(numParts) {
		if v.broken[p] {
			continue
		}
		for name := range v.live[p] {
			if e := (entryID{p, name}); v.wrong(e) {
				list = append(list, e)
			}
		}
		v.want.each(p, func(name string) {
			if _, there := v.live[p][name]; !there {
				list = append(list, entryID{p, name})
			}
		})
	}
	for key := range v.unreadable {
		list = append(list, entryID{partRecords, member(key)})
	}
	return list
}

// refresh reads records again, and every entry that can have moved with them, and the
// suspects with the records that they name.
func (v *view) refresh(ctx context.Context, c redis.Cmdable, moved []compliance.Key, suspects []entryID) error {
	keys := slices.Clone(moved)
	for _, e := range suspects {
		if key, ok := keyOfEntry(e); ok {
			keys = append(keys, key)
		}
		if e.part == partRollup {
			keys = append(keys, v.ofDevice(e.name)...)
		}
	}
	if err := v.readRecords(ctx, c, keys); err != nil {
		return err
	}
	return v.readEntries(ctx, c, v.entriesOf(keys, suspects))
}

// ofDevice returns the records that the roll-up of a device names, or must.
func (v *view) ofDevice(device string) []compliance.Key {
	have, _ := parseRollup(v.live[partRollup][device])
	var keys []compliance.Key
	for _, s := range slices.Concat(have, v.want.rollups[device]) {
		keys = append(keys, compliance.Key{Policy: s.policy, Device: device})
	}
	return keys
}

// entriesOf returns the entries that can have moved with records, and the others.
func (v *view) entriesOf(keys []compliance.Key, others []entryID) map[entryID]struct{} {
	entries := map[entryID]struct{}{}
	add := func(p part, name string) { entries[entryID{p, name}] = struct{}{} }
	for _, e := range others {
		if e.part != partRecords {
			entries[e] = struct{}{}
		}
	}
	if len(keys) == 0 {
		return entries
	}
	policies := map[string]bool{}
	for _, key := range keys {
		policies[key.Policy] = true
		add(partRollup, key.Device)
		add(partDevices, key.Device)
		add(partGrace, packKey(key))
		add(partAttention, packKey(key))
		add(partTombstones, member(key))
		for _, s := range compliance.Statuses() {
			add(partCounts, countField(key.Policy, s))
			add(partWorst, s.String())
		}
		f := v.records[key].Facts
		if f.Exists {
			add(partDays, dayField(key.Policy, f.Day))
		}
		if f.GraceEnds != 0 {
			add(partGraceDays, dayField(key.Policy, compliance.DayOfMillis(f.GraceEnds)))
		}
	}
	// A record may have passed through days that it was not seen on.
	for _, p := range []part{partDays, partGraceDays} {
		for name := range v.live[p] {
			if policy, _, _ := strings.Cut(name, "|"); policies[policy] {
				add(p, name)
			}
		}
	}
	return entries
}

// readEntries reads entries again.
func (v *view) readEntries(ctx context.Context, c redis.Cmdable, entries map[entryID]struct{}) error {
	var fields [numParts][]string
	scores := map[entryID]*redis.FloatCmd{}
	pipe := c.Pipeline()
	for e := range entries {
		if e.part.isHash() {
			fields[e.part] = append(fields[e.part], e.name)
		} else {
			scores[e] = pipe.ZScore(ctx, v.keys.part(e.part), e.name)
		}
	}
	var hashes [numParts]*redis.SliceCmd
	for p, names := range fields {
		if len(names) > 0 {
			hashes[p] = pipe.HMGet(ctx, v.keys.part(part(p)), names...)
		}
	}
	if len(entries) == 0 {
		return nil
	}
	_, _ = pipe.Exec(ctx) // Every command's own error is looked at.
	for e, reply := range scores {
		f, err := reply.Result()
		if there := err == nil; there || errors.Is(err, redis.Nil) {
			v.note(e, strconv.FormatFloat(f, 'f', -1, 64), there)
		} else if err := v.breaks(e.part, err); err != nil {
			return err
		}
	}
	for p, reply := range hashes {
		if reply == nil {
			continue
		}
		values, err := reply.Result()
		if err := v.breaks(part(p), err); err != nil {
			return err
		}
		for i, value := range values {
			text, there := value.(string)
			v.note(entryID{part(p), fields[p][i]}, text, there)
		}
	}
	return nil
}

// breaks notes a key of another type, and returns any other error.
func (v *view) breaks(p part, err error) error {
	if isWrongType(err) {
		v.broken[p] = true
		return nil
	}
	return err
}
