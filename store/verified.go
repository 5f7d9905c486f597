package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// The fields of cs:|meta that hold the result of the last check.
const (
	metaDrift    = "drift"
	metaVerified = "verified"
)

// NoteVerified keeps the result of a check: the number of differences that are left.
// The error is [ErrNoLayout] where Redis holds no state any more.
func (r *Redis) NoteVerified(ctx context.Context, drift int, at time.Time) error {
	master, err := r.master(ctx, metaKey)
	if err != nil {
		return err
	}
	err = master.Watch(ctx, func(tx *redis.Tx) error {
		// Beside no layout it would pass for a layout of its own.
		if there, err := tx.HExists(ctx, metaKey, "layout").Result(); err != nil || !there {
			return errors.Join(err, ErrNoLayout)
		}
		_, err := tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
			pipe.HSet(ctx, metaKey, metaDrift, drift, metaVerified, at.UTC().Format(time.RFC3339))
			return nil
		})
		return err
	}, metaKey)
	if err != nil {
		return fmt.Errorf("keep the result of the check: %w", err)
	}
	return nil
}

// LastVerify returns how many differences the last check left, and when it was; the
// zero time where there was none.
func (r *Redis) LastVerify(ctx context.Context) (drift int, at time.Time, err error) {
	fields, err := r.client.HMGet(ctx, metaKey, metaDrift, metaVerified).Result()
	if err != nil {
		return 0, time.Time{}, fmt.Errorf("read the last check: %w", err)
	}
	text, _ := fields[0].(string)
	when, _ := fields[1].(string)
	if text == "" && when == "" {
		return 0, time.Time{}, nil
	}
	drift, errDrift := strconv.Atoi(text)
	at, errAt := time.Parse(time.RFC3339, when)
	if err := errors.Join(errDrift, errAt); err != nil {
		return 0, time.Time{}, fmt.Errorf("read the last check: %w", err)
	}
	return drift, at, nil
}
