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

// maxExpired is how many tombstones one transaction takes away.
const maxExpired = 1000

// Apply is the transaction of a bucket, the only way in which a bucket is
// written. Three to five round trips:
//
//	WATCH  floor
//	read   floor, seal, of each record its head, expired tombstones
//	read   where heads are not enough, the whole records: a report ties with one, its
//	       grace period decides, it changes some values and leaves others, it is new, a
//	       tombstone expires
//	read   what follows from the records that changed, where it changes with them
//	EXEC   seal, records that changed, what follows from them, gaps, floor
//
// Keys read: cs:{hh}:|floor, |seal, |tombs, the records of the reports, the expired
// tombstones, and of what follows (see derived) those that change. Keys written: the
// same and cs:{hh}:|gaps; floor and seal always.
//
// Outcomes:
//   - nil: the transaction happened, once. The effects are those of the reports, in
//     their order; there are none where an earlier call of Apply had made it happen.
//   - [*compliance.FloorError]: nothing happened; the floor is neither From nor To, or it is torn
//     and From is not.
//   - [*compliance.CorruptError]: a key has another type or content than it must
//     have. Nothing happened, unless the key became so while the transaction ran:
//     then what stands beside it is written; read the floor.
//   - the context's error: it ended while Redis could not be reached. Whether the
//     transaction happened is open; apply the same one again, and the floor tells.
//
// All other troubles (no connection, a lost answer, loading, failover, a slot that
// moves, no memory) are waited for and tried again.
func (r *Redis) Apply(ctx context.Context, tx compliance.Transaction) ([]compliance.Effect, error) {
	a := r.borrow(tx)
	defer r.giveBack(a)
	for attempt := 0; ; attempt++ {
		err := a.attempt(ctx)
		a.whole = a.whole || err != nil && !errors.Is(err, redis.TxFailedErr)
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
	// command holds the arguments of the commands of one attempt. Later transactions use
	// its memory again.
	command

	store *Redis
	tx    compliance.Transaction
	keys  bucketKeys
	// effects are those of the last attempt that came as far as EXEC.
	effects []compliance.Effect

	// What follows is used again by later transactions.

	// whole is that of the transaction, and set where the server may have lost one.
	whole bool
	// have is the floor as it was read.
	have    sealed
	entries []entry
	byKey   map[compliance.Key]int32
	// chain has, for each report, the next one of the same record.
	chain []int32
	// changes are what becomes of all that follows from the records.
	changes *changes
	// found is what a recount found, which takes the place of the changes.
	found *recounted
}

// borrow returns an application with the memory of an earlier one.
func (r *Redis) borrow(tx compliance.Transaction) *application {
	a, ok := r.idle.Get().(*application)
	if !ok {
		a = &application{store: r, byKey: map[compliance.Key]int32{}, changes: newChanges()}
	}
	a.tx, a.keys, a.whole = tx, keysOf(tx.Bucket), tx.Whole
	return a
}

// maxIdleEntries bounds the memory that is kept for later transactions.
const maxIdleEntries = 1024

func (r *Redis) giveBack(a *application) {
	if cap(a.entries) > maxIdleEntries {
		return
	}
	clear(a.entries)
	clear(a.byKey)
	clear(a.args[:cap(a.args)])
	a.tx, a.effects, a.found = compliance.Transaction{}, nil, nil
	r.idle.Put(a)
}

func (a *application) attempt(ctx context.Context) error {
	master, err := a.store.master(ctx, a.keys.floor)
	if err != nil {
		return err
	}
	return master.Watch(ctx, func(tx *redis.Tx) error {
		a.whole = a.store.reconnected(a.tx.Bucket) || a.whole
		happened, err := a.prepare(ctx, tx)
		if err != nil || happened {
			return a.confirm(ctx, tx, err)
		}
		return a.write(ctx, tx)
	}, a.keys.floor)
}

// prepare reads, merges and finds out what follows.
func (a *application) prepare(ctx context.Context, tx *redis.Tx) (happened bool, err error) {
	if happened, err = a.read(ctx, tx); err != nil || happened {
		return happened, err
	}
	a.merge()
	if a.tx.Recount {
		return false, a.recount(ctx, tx)
	}
	a.changes.of(&a.keys)
	for i := range a.entries {
		e := &a.entries[i]
		a.changes.move(e.key, e.old.Facts(), e.new.Facts(), &a.texts)
	}
	corrupt, err := a.changes.read(ctx, tx, &a.command)
	if corrupt != "" {
		err = &compliance.CorruptError{Bucket: a.tx.Bucket, What: corrupt}
	}
	return false, err
}

// confirm tells a corrupt key from one that another writer changed between two of
// our reads, which are no snapshot: that writer has moved the floor.
func (a *application) confirm(ctx context.Context, tx *redis.Tx, err error) error {
	if _, ok := errors.AsType[*compliance.CorruptError](err); !ok {
		return err
	}
	have, floorErr := askFloor(ctx, tx, a.tx.Bucket).read()
	switch {
	case floorErr != nil:
		return floorErr
	case !have.Equal(a.tx.From):
		return redis.TxFailedErr
	}
	return err
}

// read fetches the floor and all that the law needs. It reports true where an earlier
// attempt's EXEC, whose answer was lost, has happened.
func (a *application) read(ctx context.Context, tx *redis.Tx) (happened bool, err error) {
	a.group()
	pipe := tx.Pipeline()
	floor := askFloor(ctx, pipe, a.tx.Bucket)
	a.args = a.args[:0]
	for i := range a.entries {
		a.ask(ctx, pipe, &a.entries[i])
	}
	var expired *redis.StringSliceCmd
	if keep := a.store.options.Tombstones; keep > 0 && !a.tx.To.Stored.IsZero() && !a.tx.Recount {
		until := strconv.FormatInt(a.tx.To.Stored.Add(-keep).UnixMilli(), 10)
		expired = pipe.ZRangeByScore(ctx, a.keys.tombstones, &redis.ZRangeBy{Min: "-inf", Max: until, Count: maxExpired})
	}
	probes := a.probe(ctx, pipe)
	_, _ = pipe.Exec(ctx) // Every command's own error is looked at.

	if a.have, err = floor.read(); err != nil {
		return false, err
	}
	have := a.have.Floor
	switch {
	case have.Equal(a.tx.To):
		return true, nil
	case !have.Equal(a.tx.From):
		return false, &compliance.FloorError{Bucket: a.tx.Bucket, Want: a.tx.From, Have: have}
	}
	for i := range a.entries {
		e := &a.entries[i]
		if err := a.load(e); err != nil {
			return false, err
		}
		e.needsValues = a.needsValues(e) // Here, where the record is still in the processor's cache.
	}
	if expired != nil {
		if err := a.loadExpired(expired); err != nil {
			return false, err
		}
	}
	for what, probe := range probes {
		if err := a.judge(probe.Err(), what); err != nil {
			return false, err
		}
	}
	return false, a.readFully(ctx, tx)
}

// probe reads the sizes of keys that the transaction may write and has no other
// need to read, so that one of another type is found before the EXEC: Redis does
// not undo what stands beside a command that failed in it.
func (a *application) probe(ctx context.Context, pipe redis.Pipeliner) map[string]*redis.IntCmd {
	probes := map[string]*redis.IntCmd{}
	if a.tx.Recount {
		return probes
	}
	if a.store.options.Tombstones == 0 {
		probes["the index of tombstones"] = pipe.ZCard(ctx, a.keys.tombstones)
	}
	if len(a.tx.Gaps) > 0 && !a.tx.Accept {
		probes["the gaps"] = pipe.HLen(ctx, a.keys.gaps)
	}
	return probes
}

// group collects the reports by record, in the order of their first report.
func (a *application) group() {
	n := len(a.tx.Reports)
	a.entries = slices.Grow(a.entries[:0], n)
	a.chain = slices.Grow(a.chain[:0], n)[:n]
	clear(a.byKey)
	for i, report := range a.tx.Reports {
		a.chain[i] = none
		at, known := a.byKey[report.Key]
		if !known {
			at = int32(len(a.entries))
			a.byKey[report.Key] = at
			a.add(report.Key).first = int32(i)
		} else {
			a.chain[a.entries[at].last] = int32(i)
		}
		a.entries[at].last = int32(i)
		a.entries[at].full = a.entries[at].full || a.whole || report.Reply != ""
	}
}

// add appends the entry of a record without reports.
func (a *application) add(key compliance.Key) *entry {
	a.entries = append(a.entries, entry{})
	e := &a.entries[len(a.entries)-1]
	e.key, e.name, e.first, e.last = key, a.keys.record(key, &a.texts), none, none
	return e
}

// ask puts the command that reads a record into a pipeline.
func (a *application) ask(ctx context.Context, pipe redis.Pipeliner, e *entry) {
	if e.full {
		e.fields = pipe.HMGet(ctx, e.name, fullFields...)
		return
	}
	start := a.begin("hget", &e.name)
	a.args = append(a.args, fieldHead)
	e.head = redis.NewStringCmd(ctx, a.from(start)...)
	_ = pipe.Process(ctx, e.head) // Its error is its own.
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

// load takes over what was read of a record.
func (a *application) load(e *entry) error {
	err := a.judge(e.read(), "a record")
	if errors.Is(err, errRecord) {
		err = &compliance.CorruptError{Bucket: a.tx.Bucket, What: "a record"}
	}
	if _, corrupt := errors.AsType[*compliance.CorruptError](err); corrupt && a.tx.Recount {
		e.old, err = compliance.Record{}, nil // The recount deletes it.
	}
	if e.old.Exists() {
		e.old.Values[compliance.ID] = compliance.TextValue(e.key.Device)
	}
	return err
}

// loadExpired adds the expired tombstones as entries without reports.
func (a *application) loadExpired(reply *redis.StringSliceCmd) error {
	members, err := reply.Result()
	if err != nil {
		return a.judge(err, "the index of tombstones")
	}
	for _, member := range members {
		key, ok := parseMember(member)
		if !ok {
			return &compliance.CorruptError{Bucket: a.tx.Bucket, What: "the index of tombstones"}
		}
		if _, known := a.byKey[key]; !known {
			a.add(key)
		}
	}
	return nil
}

// readFully reads in a further round trip the records whose values decide, the expired
// tombstones, and those without a head: where there are other fields, the key is corrupt.
func (a *application) readFully(ctx context.Context, tx *redis.Tx) error {
	pipe := tx.Pipeline()
	var again []*entry
	for i := range a.entries {
		e := &a.entries[i]
		if e.first != none && (e.full || e.oldHead != "" && !e.needsValues) {
			continue
		}
		e.full = true
		a.ask(ctx, pipe, e)
		again = append(again, e)
	}
	if len(again) == 0 {
		return nil
	}
	_, _ = pipe.Exec(ctx)
	for _, e := range again {
		if err := a.load(e); err != nil {
			return err
		}
	}
	return nil
}

func (a *application) needsValues(e *entry) bool {
	for i := e.first; i != none; i = a.chain[i] {
		if report := a.tx.Reports[i]; e.old.NeedsValues(report) || needsDescription(&e.old, report) {
			return true
		}
	}
	return false
}

// merge applies the law to every report, in their order.
func (a *application) merge() {
	a.effects = make([]compliance.Effect, len(a.tx.Reports))
	for n := range a.entries {
		e := &a.entries[n]
		e.new, e.moved = e.old, 0
		for i := e.first; i != none; i = a.chain[i] {
			effect, moved := mergeOne(&e.new, a.tx.Reports[i], a.store.options.Tombstones)
			a.effects[i] = effect
			e.moved |= moved
		}
		if e.new.Expired(a.tx.To.Stored, a.store.options.Tombstones) {
			e.new = compliance.Record{}
		}
	}
}
