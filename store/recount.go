package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/complianced/complianced/compliance"
)

// scanCount is how many keys one SCAN looks at.
const scanCount = 1000

// recounted is what a recount found, to be put right in the transaction itself:
// whoever breaks off before the EXEC has changed nothing.
type recounted struct {
	*derived

	// unreadable are the keys of records that are none.
	unreadable []string
	// rewritings make torn records whole.
	rewritings []rewriting
	// noGaps says that the gaps have another type; wrongGaps are fields that are
	// no gap.
	noGaps    bool
	wrongGaps []string
}

// recount reads every record of the bucket and derives all that follows from them. It
// stands inside the watched part of a transaction, so that nobody else has written
// when what it found is. With 10,000 records in the bucket the transaction took 0.14 to
// 0.36 s on two shared cores.
func (a *application) recount(ctx context.Context, tx *redis.Tx) error {
	a.found = &recounted{derived: newDerived()}
	if err := a.recountGaps(ctx, tx); err != nil {
		return fmt.Errorf("recount: %w", err)
	}
	seen := map[string]bool{} // SCAN may name a key twice.
	for i := range a.entries {
		e := &a.entries[i]
		a.found.add(e.key, &e.new)
	}
	for cursor := uint64(0); ; {
		keys, next, err := tx.Scan(ctx, cursor, a.keys.tag+"*", scanCount).Result()
		if err != nil {
			return fmt.Errorf("recount: %w", err)
		}
		if err := a.recountKeys(ctx, tx, keys, seen); err != nil {
			return fmt.Errorf("recount: %w", err)
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// recountGaps finds what is no gap.
func (a *application) recountGaps(ctx context.Context, tx *redis.Tx) error {
	fields, err := tx.HGetAll(ctx, a.keys.gaps).Result()
	if isWrongType(err) {
		a.found.noGaps = true
		return nil
	}
	for field, seen := range fields {
		if _, ok := parseGap(field, seen); !ok {
			a.found.wrongGaps = append(a.found.wrongGaps, field)
		}
	}
	return err
}

func (a *application) recountKeys(ctx context.Context, tx *redis.Tx, keys []string, seen map[string]bool) error {
	pipe := tx.Pipeline()
	type read struct {
		key   compliance.Key
		name  string
		reply *redis.SliceCmd
	}
	var reads []read
	for _, name := range keys {
		if key, ok := parseRecordKey(name); ok && !seen[name] && owns(a.store.layout, a.tx.Bucket, key) {
			seen[name] = true
			reads = append(reads, read{key: key, name: name, reply: pipe.HMGet(ctx, name, fullFields...)})
		}
	}
	_, _ = pipe.Exec(ctx)
	for _, r := range reads {
		fields, err := r.reply.Result()
		if err != nil && !isWrongType(err) {
			return err
		}
		var record compliance.Record
		if err == nil {
			record, err = decode(fields)
		}
		_, written := a.byKey[r.key]
		switch {
		case err != nil && a.have.Torn && !a.tx.To.Repair:
			return &compliance.CorruptError{Bucket: a.tx.Bucket, What: "a record"} // It is to be merged again.
		case err != nil || record.Empty():
			a.found.unreadable = append(a.found.unreadable, r.name)
		case !written:
			a.found.add(r.key, &record)
			if w, differs := rewrite(r.name, fields, &record); differs {
				a.found.rewritings = append(a.found.rewritings, w)
			}
		}
	}
	return nil
}

// perCommand is how many members or fields one command of a recount writes.
const perCommand = 1000

// write puts right what the recount found. It stands before all else in the
// transaction.
func (r *recounted) write(ctx context.Context, pipe redis.Pipeliner, k *bucketKeys) {
	for names := range slices.Chunk(r.unreadable, perCommand) {
		pipe.Del(ctx, names...)
	}
	for i := range r.rewritings {
		r.rewritings[i].write(ctx, pipe)
	}
	pipe.Del(ctx, k.counts, k.worst, k.days, k.graceDays, k.grace, k.attention, k.devices, k.rollup, k.tombstones)
	if r.noGaps {
		pipe.Del(ctx, k.gaps)
	}
	if len(r.wrongGaps) > 0 {
		pipe.HDel(ctx, k.gaps, r.wrongGaps...)
	}
	r.writeHash(ctx, pipe, k.counts, numbers(r.counts, statusCounterField))
	r.writeHash(ctx, pipe, k.worst, numbers(r.worst, worstField))
	r.writeHash(ctx, pipe, k.days, numbers(r.days, dayCounterField))
	r.writeHash(ctx, pipe, k.graceDays, numbers(r.graceDays, dayCounterField))
	var rollups []any
	var devices []redis.Z
	for device, policies := range r.rollups {
		rollups = append(rollups, device, policies.encode())
		devices = append(devices, redis.Z{Member: device})
	}
	r.writeHash(ctx, pipe, k.rollup, rollups)
	r.writeSorted(ctx, pipe, k.devices, devices)
	r.writeSorted(ctx, pipe, k.attention, scores(r.attention))
	r.writeSorted(ctx, pipe, k.grace, scores(r.grace))
	r.writeSorted(ctx, pipe, k.tombstones, scores(r.tombstones))
}

func numbers(of map[counter]int64, field func(counter) string) []any {
	var pairs []any
	for c, n := range of {
		pairs = append(pairs, field(c), n)
	}
	return pairs
}

func scores(of map[string]int64) []redis.Z {
	var members []redis.Z
	for name, score := range of {
		members = append(members, redis.Z{Score: float64(score), Member: name})
	}
	return members
}

func (r *recounted) writeHash(ctx context.Context, pipe redis.Pipeliner, key string, pairs []any) {
	for some := range slices.Chunk(pairs, 2*perCommand) {
		pipe.HSet(ctx, key, some...)
	}
}

func (r *recounted) writeSorted(ctx context.Context, pipe redis.Pipeliner, key string, members []redis.Z) {
	for some := range slices.Chunk(members, perCommand) {
		pipe.ZAdd(ctx, key, some...)
	}
}
