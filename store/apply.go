package store

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/complianced/complianced/compliance"
)

// maxExpired is how many tombstones one transaction takes away.
const maxExpired = 1000

// Apply is the transaction of a bucket, the only way in which a bucket is
// written. Three round trips, a fourth where a report ties with its record:
//
//	WATCH  floor
//	read   floor, of each record what the law needs, counts of its policies, expired tombstones
//	EXEC   records and counts that changed, tombs, gaps, floor
//
// Keys read: cs:{hh}:|floor, |counts, |tombs, the records of the reports, and the
// expired tombstones. Keys written: the same and cs:{hh}:|gaps; the floor always.
//
// Outcomes:
//   - nil: the transaction happened, once. The effects are those of the reports, in
//     their order; there are none where an earlier call of Apply had made it happen.
//   - [*compliance.FloorError]: nothing happened; the floor is neither From nor To.
//   - [*compliance.CorruptError]: a key has another type or content than it must
//     have. Whether the rest was written is open; read the floor.
//   - the context's error: it ended while Redis could not be reached. Whether the
//     transaction happened is open; apply the same one again, and the floor tells.
//
// All other troubles (no connection, a lost answer, loading, failover, a slot that
// moves, no memory) are waited for and tried again.
func (r *Redis) Apply(ctx context.Context, tx compliance.Transaction) ([]compliance.Effect, error) {
	a := &application{store: r, tx: tx}
	for attempt := 0; ; attempt++ {
		err := a.attempt(ctx)
		if err == nil {
			return a.effects, nil
		}
		if _, ok := errors.AsType[*compliance.FloorError](err); ok {
			return nil, err
		}
		if _, ok := errors.AsType[*compliance.CorruptError](err); ok {
			return nil, err
		}
		r.noticeMoved(ctx, err)
		if errors.Is(err, redis.TxFailedErr) && attempt == 0 {
			continue // Somebody wrote in between; the floor tells who.
		}
		if err := r.pause(ctx, attempt, err); err != nil {
			return nil, err
		}
	}
}

// application is one Apply over all its attempts.
type application struct {
	store *Redis
	tx    compliance.Transaction
	// effects are those of the last attempt that came as far as EXEC.
	effects []compliance.Effect
	entries []*entry
}

// entry is a record in a transaction.
type entry struct {
	key     compliance.Key
	name    string
	reports []int // places in tx.Reports
	full    bool  // all values are needed
	old     compliance.Record
	new     compliance.Record
	moved   compliance.PropertySet
}

func (a *application) attempt(ctx context.Context) error {
	floor := floorKey(a.tx.Bucket)
	master, err := a.store.master(ctx, floor)
	if err != nil {
		return err
	}
	return master.Watch(ctx, func(tx *redis.Tx) error {
		counts, happened, err := a.prepare(ctx, tx)
		if err != nil || happened {
			return a.confirm(ctx, tx, err)
		}
		return a.write(ctx, tx, counts)
	}, floor)
}

// prepare reads, merges and counts.
func (a *application) prepare(ctx context.Context, tx *redis.Tx) (counts, bool, error) {
	counts, happened, err := a.read(ctx, tx)
	if err != nil || happened {
		return counts, happened, err
	}
	a.merge()
	if a.tx.Recount {
		if counts, err = a.recount(ctx, tx); err != nil {
			return counts, false, err
		}
	}
	return counts, false, a.count(counts)
}

// confirm tells a corrupt key from one that another writer changed between two of
// our reads, which are no snapshot: that writer has moved the floor.
func (a *application) confirm(ctx context.Context, tx *redis.Tx, err error) error {
	if _, ok := errors.AsType[*compliance.CorruptError](err); !ok {
		return err
	}
	have, floorErr := readFloor(tx.Get(ctx, floorKey(a.tx.Bucket)))
	switch {
	case floorErr != nil:
		return floorErr
	case !have.Equal(a.tx.From):
		return redis.TxFailedErr
	}
	return err
}

// read fetches the floor and all that the law and the counts need. It reports
// true where an earlier attempt's EXEC, whose answer was lost, has happened.
func (a *application) read(ctx context.Context, tx *redis.Tx) (counts, bool, error) {
	a.group()
	b := a.tx.Bucket
	pipe := tx.Pipeline()
	floor := pipe.Get(ctx, floorKey(b))
	records := make([]*redis.SliceCmd, len(a.entries))
	for i, e := range a.entries {
		records[i] = pipe.HMGet(ctx, e.name, e.fields()...)
	}
	table := a.countFields()
	var countsCmd *redis.SliceCmd
	if len(table.fields) > 0 {
		countsCmd = pipe.HMGet(ctx, countsKey(b), table.fields...)
	}
	var expired *redis.StringSliceCmd
	if keep := a.store.options.Tombstones; keep > 0 && !a.tx.To.Stored.IsZero() && !a.tx.Recount {
		until := strconv.FormatInt(a.tx.To.Stored.Add(-keep).UnixMilli(), 10)
		expired = pipe.ZRangeByScore(ctx, tombsKey(b), &redis.ZRangeBy{Min: "-inf", Max: until, Count: maxExpired})
	}
	_, _ = pipe.Exec(ctx) // Every command's own error is looked at.

	have, err := readFloor(floor)
	if err != nil {
		return table, false, err
	}
	switch {
	case have.Equal(a.tx.To):
		return table, true, nil
	case !have.Equal(a.tx.From):
		return table, false, &compliance.FloorError{Bucket: b, Want: a.tx.From, Have: have}
	}
	for i, e := range a.entries {
		if err := a.load(e, records[i]); err != nil {
			return table, false, err
		}
	}
	if countsCmd != nil {
		if err := a.loadCounts(&table, countsCmd); err != nil {
			return table, false, err
		}
	}
	if expired != nil {
		if err := a.loadExpired(expired); err != nil {
			return table, false, err
		}
	}
	return table, false, a.readValues(ctx, tx)
}

// group collects the reports by record, in the order of their first report.
func (a *application) group() {
	a.entries = a.entries[:0]
	byKey := make(map[compliance.Key]*entry, len(a.tx.Reports))
	for i, report := range a.tx.Reports {
		e := byKey[report.Key]
		if e == nil {
			e = &entry{key: report.Key, name: recordKey(a.tx.Bucket, report.Key)}
			byKey[report.Key] = e
			a.entries = append(a.entries, e)
		}
		e.reports = append(e.reports, i)
		e.full = e.full || report.Reply != ""
	}
}

func (e *entry) fields() []string {
	if e.full {
		return fullFields
	}
	return lightFields
}

func (a *application) load(e *entry, reply *redis.SliceCmd) error {
	fields, err := reply.Result()
	if err != nil {
		err = a.judge(err, "a record")
	} else if e.old, err = decode(fields); err != nil {
		err = &compliance.CorruptError{Bucket: a.tx.Bucket, What: "a record"}
	}
	if _, corrupt := errors.AsType[*compliance.CorruptError](err); corrupt && a.tx.Recount {
		e.old, err = compliance.Record{}, nil // The recount deletes it.
	}
	if err != nil {
		return err
	}
	if e.old.Exists() {
		e.old.Values[compliance.ID] = compliance.TextValue(e.key.Device)
	}
	return nil
}

// judge tells an error that means a corrupt key from one that passes.
func (a *application) judge(err error, what string) error {
	if isWrongType(err) {
		return &compliance.CorruptError{Bucket: a.tx.Bucket, What: what}
	}
	return err
}

// isWrongType says that a key has another type than the command is for.
func isWrongType(err error) bool {
	return err != nil && strings.HasPrefix(err.Error(), "WRONGTYPE")
}

// loadExpired adds the expired tombstones as entries without reports.
func (a *application) loadExpired(reply *redis.StringSliceCmd) error {
	members, err := reply.Result()
	if err != nil {
		return a.judge(err, "the index of tombstones")
	}
	known := make(map[compliance.Key]bool, len(a.entries))
	for _, e := range a.entries {
		known[e.key] = true
	}
	for _, member := range members {
		key, ok := parseTombMember(member)
		if !ok {
			return &compliance.CorruptError{Bucket: a.tx.Bucket, What: "the index of tombstones"}
		}
		if !known[key] {
			a.entries = append(a.entries, &entry{key: key, name: recordKey(a.tx.Bucket, key), full: true})
		}
	}
	return nil
}

// readValues reads in a further round trip the records whose values decide, and
// the expired tombstones.
func (a *application) readValues(ctx context.Context, tx *redis.Tx) error {
	pipe := tx.Pipeline()
	var again []*entry
	var replies []*redis.SliceCmd
	for _, e := range a.entries {
		if e.full && len(e.reports) > 0 {
			continue
		}
		if len(e.reports) > 0 && !a.ties(e) {
			continue
		}
		e.full = true
		again = append(again, e)
		replies = append(replies, pipe.HMGet(ctx, e.name, fullFields...))
	}
	if len(again) == 0 {
		return nil
	}
	_, _ = pipe.Exec(ctx)
	for i, e := range again {
		if err := a.load(e, replies[i]); err != nil {
			return err
		}
	}
	return nil
}

func (a *application) ties(e *entry) bool {
	for _, i := range e.reports {
		if e.old.Ties(a.tx.Reports[i]) {
			return true
		}
	}
	return false
}

// merge applies the law to every report, in their order.
func (a *application) merge() {
	a.effects = make([]compliance.Effect, len(a.tx.Reports))
	for _, e := range a.entries {
		e.new, e.moved = e.old, 0
		for _, i := range e.reports {
			effect, moved := mergeOne(&e.new, a.tx.Reports[i], a.store.options.Tombstones)
			a.effects[i] = effect
			e.moved |= moved
		}
		if e.new.Expired(a.tx.To.Stored, a.store.options.Tombstones) {
			e.new = compliance.Record{}
		}
	}
}

// write sends the transaction. Nothing in it can fail unless a key is corrupt.
func (a *application) write(ctx context.Context, tx *redis.Tx, table counts) error {
	b := a.tx.Bucket
	pipe := tx.TxPipeline()
	for _, e := range a.entries {
		a.writeRecord(ctx, pipe, e)
	}
	table.write(ctx, pipe, countsKey(b))
	if a.tx.Accept {
		pipe.Del(ctx, gapsKey(b))
	}
	for _, gap := range a.tx.Gaps {
		pipe.HSet(ctx, gapsKey(b), gapField(gap), compliance.FormatStored(gap.Seen))
	}
	pipe.Set(ctx, floorKey(b), formatFloor(a.tx.To), 0)
	cmds, err := pipe.Exec(ctx)
	if err == nil {
		return nil
	}
	if errors.Is(err, redis.TxFailedErr) || redis.IsExecAbortError(err) {
		return err
	}
	for _, cmd := range cmds {
		if isWrongType(cmd.Err()) {
			return &compliance.CorruptError{Bucket: b, What: "a key that the transaction wrote"}
		}
	}
	return err
}

// writeRecord leads from the old stored form to the new one.
func (a *application) writeRecord(ctx context.Context, pipe redis.Pipeliner, e *entry) {
	tombs, member := tombsKey(a.tx.Bucket), tombMember(e.key)
	switch {
	case e.old == e.new && len(e.reports) > 0:
	case e.new.Empty():
		pipe.Del(ctx, e.name)
		pipe.ZRem(ctx, tombs, member)
	case e.new.Tombstone():
		pipe.Del(ctx, e.name)
		pipe.HSet(ctx, e.name, pairs(encode(&e.new))...)
		pipe.ZAdd(ctx, tombs, redis.Z{Score: float64(e.new.StoredMillis), Member: member})
	case e.old.Exists():
		e.update(ctx, pipe)
	case len(e.reports) > 0:
		if e.old.Tombstone() {
			pipe.Del(ctx, e.name)
			pipe.ZRem(ctx, tombs, member)
		}
		pipe.HSet(ctx, e.name, pairs(encode(&e.new))...)
	default:
		pipe.ZRem(ctx, tombs, member) // The index names a record that lives.
	}
}

// update writes what moved in a record that lives.
func (e *entry) update(ctx context.Context, pipe redis.Pipeliner) {
	set := make([]any, 0, 2*len(fullFields))
	var gone []string
	oldNewest, oldOthers := encodeVersions(&e.old)
	newest, others := encodeVersions(&e.new)
	if newest != oldNewest {
		set = append(set, fieldNewest, newest)
	}
	if others != oldOthers {
		if others == "" {
			gone = append(gone, fieldVersions)
		} else {
			set = append(set, fieldVersions, others)
		}
	}
	for p := 1; p < compliance.NumProperties; p++ {
		if !e.moved.Has(compliance.Property(p)) || e.new.Values[p] == e.old.Values[p] {
			continue
		}
		if text, ok := storedValue(e.new.Values[p]); ok {
			set = append(set, valueFields[p], text)
		} else {
			gone = append(gone, valueFields[p])
		}
	}
	if len(set) > 0 {
		pipe.HSet(ctx, e.name, set...)
	}
	if len(gone) > 0 {
		pipe.HDel(ctx, e.name, gone...)
	}
}

func pairs(hash map[string]string) []any {
	list := make([]any, 0, 2*len(hash))
	for _, field := range fullFields {
		if text, ok := hash[field]; ok {
			list = append(list, field, text)
		}
	}
	return list
}
