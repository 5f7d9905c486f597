package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/complianced/complianced/compliance"
)

// strays are the keys that no bucket names.
type strays struct {
	mu sync.Mutex // guards what follows
	// records are by bucket the records that no roll-up and no index of tombstones names.
	records map[compliance.Bucket][]compliance.Key
	// displaced are the keys that belong to no bucket, by name: SCAN may name a key twice.
	displaced map[string]Difference
}

// strays looks at every key of every server once.
func (r *Redis) strays(ctx context.Context) (*strays, error) {
	s := &strays{records: map[compliance.Bucket][]compliance.Key{}, displaced: map[string]Difference{}}
	look := func(ctx context.Context, c *redis.Client) error {
		for cursor := uint64(0); ; {
			names, next, err := c.Scan(ctx, cursor, keyPrefix+"*", scanCount).Result()
			if err != nil {
				return err
			}
			records, displaced := sortKeys(r.layout, names)
			found, err := straysAmong(ctx, c, records)
			if err != nil {
				return err
			}
			s.add(found, displaced)
			if cursor = next; cursor == 0 {
				return nil
			}
		}
	}
	return s, r.eachServer(ctx, look)
}

func (s *strays) add(records map[compliance.Bucket][]compliance.Key, displaced []Difference) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for b, keys := range records {
		s.records[b] = append(s.records[b], keys...)
	}
	for _, d := range displaced {
		s.displaced[d.Name] = d
	}
}

// stored is a record's place.
type stored struct {
	bucket compliance.Bucket
	key    compliance.Key
}

// placeOf returns the place of a record; false for every other key, and for a record
// under the tag of another bucket than its own.
func placeOf(layout compliance.Layout, name string) (stored, bool) {
	b, tagged := bucketOfKey(name)
	key, isRecord := parseRecordKey(name)
	return stored{b, key}, tagged && isRecord && owns(layout, b, key)
}

// sortKeys tells the records that are in their place from the keys that are in none.
func sortKeys(layout compliance.Layout, names []string) (records []stored, displaced []Difference) {
	for _, name := range names {
		if at, ok := placeOf(layout, name); ok {
			records = append(records, at)
		} else if d, ok := displacedKey(layout, name); ok {
			displaced = append(displaced, d)
		}
	}
	return records, displaced
}

// displacedKey says what is wrong with a key that is no record in its place; false
// where nothing is.
func displacedKey(layout compliance.Layout, name string) (Difference, bool) {
	b, tagged := bucketOfKey(name)
	if name == metaKey || tagged && int(b) < layout.Buckets && isOfBucket(b, name) {
		return Difference{}, false
	}
	d := Difference{Bucket: b, Kind: KindUnknown, Name: name, Want: sayNone, Have: "a key"}
	if key, isRecord := parseRecordKey(name); tagged && isRecord {
		d.Kind, d.Policy, d.Device = KindMisplaced, key.Policy, key.Device
		d.Want, d.Have = fmt.Sprintf("in bucket %02x", int(layout.BucketOf(key.Device))), fmt.Sprintf("in bucket %02x", int(b))
	}
	return d, true
}

func isOfBucket(b compliance.Bucket, name string) bool {
	keys := keysOf(b)
	return keys.has(name)
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

// straysAmong looks for each record whether its bucket names it.
func straysAmong(ctx context.Context, c *redis.Client, records []stored) (map[compliance.Bucket][]compliance.Key, error) {
	type question struct {
		stored

		rollup *redis.StringCmd
		tomb   *redis.FloatCmd
	}
	var questions []question
	keys := map[compliance.Bucket]bucketKeys{}
	pipe := c.Pipeline()
	for _, at := range records {
		k, known := keys[at.bucket]
		if !known {
			k = keysOf(at.bucket)
			keys[at.bucket] = k
		}
		questions = append(questions, question{
			at, pipe.HGet(ctx, k.rollup, at.key.Device), pipe.ZScore(ctx, k.tombstones, member(at.key)),
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
