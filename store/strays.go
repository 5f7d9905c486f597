package store

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/complianced/complianced/compliance"
)

// strays returns by bucket the records that no roll-up and no index of tombstones names.
// It looks at every key of every server once.
func (r *Redis) strays(ctx context.Context) (map[compliance.Bucket][]compliance.Key, error) {
	strays := map[compliance.Bucket][]compliance.Key{}
	var mu sync.Mutex
	look := func(ctx context.Context, c *redis.Client) error {
		for cursor := uint64(0); ; {
			names, next, err := c.Scan(ctx, cursor, keyPrefix+"{*", scanCount).Result()
			if err != nil {
				return err
			}
			found, err := straysAmong(ctx, c, names)
			if err != nil {
				return err
			}
			mu.Lock()
			for b, keys := range found {
				strays[b] = append(strays[b], keys...)
			}
			mu.Unlock()
			if cursor = next; cursor == 0 {
				return nil
			}
		}
	}
	return strays, r.eachServer(ctx, look)
}

// eachServer calls for every server that holds keys, possibly at the same time.
func (r *Redis) eachServer(ctx context.Context, call func(context.Context, *redis.Client) error) error {
	switch client := r.client.(type) {
	case *redis.Client:
		return call(ctx, client)
	case *redis.ClusterClient:
		return client.ForEachMaster(ctx, call)
	}
	return ErrURL
}

// bucketOfKey returns the bucket whose tag a key has.
func bucketOfKey(name string) (compliance.Bucket, bool) {
	const digits = len(keyPrefix) + 1
	if len(name) < digits+2 {
		return 0, false
	}
	n, err := strconv.ParseUint(name[digits:digits+2], 16, 8)
	b := compliance.Bucket(n)
	return b, err == nil && strings.HasPrefix(name, tag(b))
}

// straysAmong looks for each key of a record whether its bucket names it.
func straysAmong(ctx context.Context, c *redis.Client, names []string) (map[compliance.Bucket][]compliance.Key, error) {
	type question struct {
		bucket compliance.Bucket
		key    compliance.Key
		rollup *redis.StringCmd
		tomb   *redis.FloatCmd
	}
	var questions []question
	keys := map[compliance.Bucket]bucketKeys{}
	pipe := c.Pipeline()
	for _, name := range names {
		key, ok := parseRecordKey(name)
		if !ok {
			continue
		}
		b, ok := bucketOfKey(name)
		if !ok {
			continue
		}
		k, known := keys[b]
		if !known {
			k = keysOf(b)
			keys[b] = k
		}
		questions = append(questions, question{
			b, key, pipe.HGet(ctx, k.rollup, key.Device), pipe.ZScore(ctx, k.tombstones, member(key)),
		})
	}
	if len(questions) == 0 {
		return nil, nil
	}
	_, _ = pipe.Exec(ctx) // Every command's own error is looked at.
	strays := map[compliance.Bucket][]compliance.Key{}
	for _, q := range questions {
		for _, err := range []error{q.rollup.Err(), q.tomb.Err()} {
			if err != nil && !errors.Is(err, redis.Nil) && !isWrongType(err) {
				return nil, err
			}
		}
		policies, _ := parseRollup(q.rollup.Val())
		if q.tomb.Err() != nil && !policies.has(q.key.Policy) {
			strays[q.bucket] = append(strays[q.bucket], q.key)
		}
	}
	return strays, nil
}
