package store

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// The fields of cs:|meta that hold the results of the last checks.
const (
	metaDrift        = "drift"
	metaRebuildDrift = "rebuild-drift"
	metaVerified     = "verified"
)

// Left is what a check left behind.
type Left struct {
	// Drift is how many differences [Redis.Verify] found and did not put right.
	Drift int
	// RebuildDrift is how many [Redis.Compare] found; nil where it was not asked.
	RebuildDrift *int
	// At is when the check ended; the zero time where it broke off. Such a one lowers
	// no number that is kept.
	At time.Time
}

// NoteVerified keeps what a check left. The error is [ErrNoLayout] where Redis holds no
// state any more.
func (r *Redis) NoteVerified(ctx context.Context, left Left) error {
	err := r.writeMeta(ctx, func(kept map[string]string) []any {
		var pairs []any
		note := func(field string, n int) {
			if before, _ := strconv.Atoi(kept[field]); n > before || !left.At.IsZero() {
				pairs = append(pairs, field, n)
			}
		}
		note(metaDrift, left.Drift)
		if left.RebuildDrift != nil {
			note(metaRebuildDrift, *left.RebuildDrift)
		}
		if !left.At.IsZero() {
			pairs = append(pairs, metaVerified, left.At.UTC().Format(time.RFC3339))
		}
		return pairs
	})
	if err != nil {
		return fmt.Errorf("keep the result of the check: %w", err)
	}
	return nil
}

// writeMeta adds to cs:|meta what a function makes of it. The error is [ErrNoLayout]
// where it is not there: what is written then would pass for a layout of its own.
func (r *Redis) writeMeta(ctx context.Context, pairs func(kept map[string]string) []any) error {
	master, err := r.master(ctx, metaKey)
	if err != nil {
		return err
	}
	return master.Watch(ctx, func(tx *redis.Tx) error {
		kept, err := tx.HGetAll(ctx, metaKey).Result()
		if err != nil {
			return err
		}
		if _, there := kept["layout"]; !there {
			return ErrNoLayout
		}
		write := pairs(kept)
		if len(write) == 0 {
			return nil
		}
		_, err = tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			pipe.HSet(ctx, metaKey, write...)
			return nil
		})
		return err
	}, metaKey)
}

// LastVerify returns what the last checks left, and when the last that came to its end
// did; false where none has run, or where what is kept is no result.
func (r *Redis) LastVerify(ctx context.Context) (drift int, at time.Time, known bool, err error) {
	fields, err := r.client.HMGet(ctx, metaKey, metaDrift, metaRebuildDrift, metaVerified).Result()
	if err != nil {
		return 0, time.Time{}, false, fmt.Errorf("read the last check: %w", err)
	}
	known = fields[0] != nil || fields[1] != nil
	for _, field := range fields[:2] {
		if text, there := field.(string); there {
			n, err := strconv.Atoi(text)
			drift, known = drift+n, known && err == nil && n >= 0
		}
	}
	if text, there := fields[2].(string); there {
		at, err = time.Parse(time.RFC3339, text)
		known = known && err == nil
	}
	return drift, at, known, nil
}
