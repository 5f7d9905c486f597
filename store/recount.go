package store

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/complianced/complianced/compliance"
)

// scanCount is how many keys one SCAN looks at.
const scanCount = 1000

// recounted is what a recount found, to be put right in the transaction itself:
// whoever breaks off before the EXEC has changed nothing.
type recounted struct {
	// unreadable are the keys of records that are none.
	unreadable []string
	tombstones []redis.Z
	// noGaps says that the gaps have another type; wrongGaps are fields that are
	// no gap.
	noGaps    bool
	wrongGaps []string
}

// recount reads every record of the bucket and returns the counts that follow. It
// stands inside the watched part of a transaction, so that nobody else has written
// when its counts are.
func (a *application) recount(ctx context.Context, tx *redis.Tx) (counts, error) {
	c := counts{values: map[string]int64{}, changed: map[string]bool{}, anew: true}
	a.found = recounted{}
	if err := a.recountGaps(ctx, tx); err != nil {
		return c, fmt.Errorf("recount: %w", err)
	}
	seen := map[string]bool{} // SCAN may name a key twice.
	for cursor := uint64(0); ; {
		keys, next, err := tx.Scan(ctx, cursor, a.keys.tag+"*", scanCount).Result()
		if err != nil {
			return c, fmt.Errorf("recount: %w", err)
		}
		if err := a.recountKeys(ctx, tx, keys, seen, c); err != nil {
			return c, fmt.Errorf("recount: %w", err)
		}
		if cursor = next; cursor == 0 {
			return c, nil
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

func (a *application) recountKeys(ctx context.Context, tx *redis.Tx, keys []string, seen map[string]bool, c counts) error {
	pipe := tx.Pipeline()
	type read struct {
		key   compliance.Key
		name  string
		reply *redis.SliceCmd
	}
	var reads []read
	for _, name := range keys {
		if key, ok := parseRecordKey(name); ok && !seen[name] {
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
		switch {
		case err != nil || record.Empty():
			a.found.unreadable = append(a.found.unreadable, r.name)
		case record.Tombstone():
			a.found.tombstones = append(a.found.tombstones, redis.Z{Score: float64(record.StoredMillis), Member: tombMember(r.key)})
		case record.Exists():
			c.add(countField(r.key.Policy, record.Status()), 1)
		}
	}
	return nil
}

// writeRecounted puts right what the recount found. It stands before all else in
// the transaction.
func (a *application) writeRecounted(ctx context.Context, pipe redis.Pipeliner) {
	if len(a.found.unreadable) > 0 {
		pipe.Del(ctx, a.found.unreadable...)
	}
	pipe.Del(ctx, a.keys.tombs)
	if len(a.found.tombstones) > 0 {
		pipe.ZAdd(ctx, a.keys.tombs, a.found.tombstones...)
	}
	if a.found.noGaps {
		pipe.Del(ctx, a.keys.gaps)
	}
	if len(a.found.wrongGaps) > 0 {
		pipe.HDel(ctx, a.keys.gaps, a.found.wrongGaps...)
	}
}
