package oracle

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"
)

// Snapshot is all that Redis holds, by key.
type Snapshot map[string]Entry

// Entry is what lies under one key.
type Entry struct {
	// Type is that of Redis.
	Type string
	// Text is the value of a string, Fields those of a hash, Scores those of a
	// sorted set. Other types have neither.
	Text   string
	Fields map[string]string
	Scores map[string]float64
	// Expires says that the key has a time to live.
	Expires bool
}

// scanCount is how many keys are read in one round trip.
const scanCount = 1000

// ReadRedis reads every key of a server, or of all masters of a cluster. It does
// so with SCAN, while nobody writes.
func ReadRedis(ctx context.Context, client redis.UniversalClient) (Snapshot, error) {
	all := Snapshot{}
	cluster, ok := client.(*redis.ClusterClient)
	if !ok {
		return all, readNode(ctx, client, all)
	}
	var mu sync.Mutex // The masters are read at once.
	err := cluster.ForEachMaster(ctx, func(ctx context.Context, master *redis.Client) error {
		own := Snapshot{}
		if err := readNode(ctx, master, own); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		maps.Copy(all, own)
		return nil
	})
	return all, err
}

func readNode(ctx context.Context, node redis.Cmdable, into Snapshot) error {
	for cursor := uint64(0); ; {
		keys, next, err := node.Scan(ctx, cursor, "*", scanCount).Result()
		if err != nil {
			return fmt.Errorf("scan: %w", err)
		}
		if err := readKeys(ctx, node, keys, into); err != nil {
			return err
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// readKeys reads keys in two round trips: what they are, and what they hold.
func readKeys(ctx context.Context, node redis.Cmdable, keys []string, into Snapshot) error {
	types := make([]*redis.StatusCmd, len(keys))
	lives := make([]*redis.DurationCmd, len(keys))
	_, err := node.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, key := range keys {
			types[i], lives[i] = pipe.Type(ctx, key), pipe.PTTL(ctx, key)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read types: %w", err)
	}
	values := make([]redis.Cmder, len(keys))
	_, err = node.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, key := range keys {
			values[i] = readValue(ctx, pipe, key, types[i].Val())
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return fmt.Errorf("read values: %w", err)
	}
	for i, key := range keys {
		switch err := values[i].Err(); {
		case errors.Is(err, redis.Nil): // It expired between the two round trips.
			continue
		case err != nil:
			return fmt.Errorf("read values: %w", err)
		}
		into[key] = entry(types[i].Val(), values[i], lives[i].Val() >= 0)
	}
	return nil
}

func readValue(ctx context.Context, pipe redis.Pipeliner, key, kind string) redis.Cmder {
	switch kind {
	case "hash":
		return pipe.HGetAll(ctx, key)
	case "string":
		return pipe.Get(ctx, key)
	case "zset":
		return pipe.ZRangeWithScores(ctx, key, 0, -1)
	}
	return pipe.Exists(ctx, key)
}

func entry(kind string, value redis.Cmder, expires bool) Entry {
	e := Entry{Type: kind, Expires: expires}
	switch value := value.(type) {
	case *redis.MapStringStringCmd:
		e.Fields = value.Val()
	case *redis.StringCmd:
		e.Text = value.Val()
	case *redis.ZSliceCmd:
		e.Scores = map[string]float64{}
		for _, z := range value.Val() {
			e.Scores[fmt.Sprint(z.Member)] = z.Score
		}
	}
	return e
}

// Gaps returns the gaps that the buckets have, for Config.Gaps.
func (s Snapshot) Gaps(c Config) []Gap {
	var gaps []Gap
	for bucket := range c.buckets() {
		for _, field := range slices.Sorted(maps.Keys(s[bucketTag(bucket)+"|gaps"].Fields)) {
			gap := Gap{Stream: streamOf(bucket%c.partitions(), c), Buckets: []int{bucket}}
			if n, err := fmt.Sscanf(field, "%d-%d", &gap.First, &gap.Last); n == 2 && err == nil {
				gaps = append(gaps, gap)
			}
		}
	}
	return gaps
}
