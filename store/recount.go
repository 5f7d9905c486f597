package store

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/complianced/complianced/compliance"
)

// scanCount is how many keys one SCAN looks at.
const scanCount = 1000

// recount reads every record of the bucket and returns the counts that follow.
// It deletes at once what cannot be read, gaps included, and makes the index of
// tombstones anew. It stands inside the watched part of a transaction, so that nobody else
// has written when its counts are.
func (a *application) recount(ctx context.Context, tx *redis.Tx) (counts, error) {
	c := counts{values: map[string]int64{}, changed: map[string]bool{}, anew: true}
	if err := tx.Del(ctx, a.keys.tombs).Err(); err != nil {
		return c, fmt.Errorf("recount: %w", err)
	}
	if err := a.mendGaps(ctx, tx); err != nil {
		return c, fmt.Errorf("recount: %w", err)
	}
	seen := map[string]bool{} // SCAN may name a key twice.
	for cursor := uint64(0); ; {
		keys, next, err := tx.Scan(ctx, cursor, a.keys.tag+"*", scanCount).Result()
		if err != nil {
			return c, fmt.Errorf("recount: %w", err)
		}
		if err := a.recountKeys(ctx, tx, keys, seen, c); err != nil {
			return c, err
		}
		if cursor = next; cursor == 0 {
			return c, nil
		}
	}
}

// mendGaps deletes what is no gap.
func (a *application) mendGaps(ctx context.Context, tx *redis.Tx) error {
	key := a.keys.gaps
	fields, err := tx.HGetAll(ctx, key).Result()
	if isWrongType(err) {
		return tx.Del(ctx, key).Err()
	}
	if err != nil {
		return err
	}
	var gone []string
	for field, seen := range fields {
		if _, ok := parseGap(field, seen); !ok {
			gone = append(gone, field)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	return tx.HDel(ctx, key, gone...).Err()
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
	fix := tx.Pipeline()
	for _, r := range reads {
		fields, err := r.reply.Result()
		if err != nil && !isWrongType(err) {
			return fmt.Errorf("recount: %w", err)
		}
		var record compliance.Record
		if err == nil {
			record, err = decode(fields)
		}
		switch {
		case err != nil || record.Empty():
			fix.Del(ctx, r.name)
		case record.Tombstone():
			fix.ZAdd(ctx, a.keys.tombs, redis.Z{Score: float64(record.StoredMillis), Member: tombMember(r.key)})
		case record.Exists():
			c.add(countField(r.key.Policy, record.Status()), 1)
		}
	}
	if _, err := fix.Exec(ctx); err != nil {
		return fmt.Errorf("recount: %w", err)
	}
	return nil
}
