package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/complianced/complianced/compliance"
)

// Get returns the record of a device under a policy. Where there is none, or
// only a tombstone, Exists is false.
func (r *Redis) Get(ctx context.Context, key compliance.Key) (compliance.Record, error) {
	b := r.layout.BucketOf(key.Device)
	return readRecord(r.client.HMGet(ctx, recordKey(b, key), fullFields...), b, key)
}

// Records returns the records of keys, in their order, as [Redis.Get] does each.
func (r *Redis) Records(ctx context.Context, keys []compliance.Key) ([]compliance.Record, error) {
	pipe := r.client.Pipeline()
	replies := make([]*redis.SliceCmd, len(keys))
	for i, key := range keys {
		replies[i] = pipe.HMGet(ctx, recordKey(r.layout.BucketOf(key.Device), key), fullFields...)
	}
	_, _ = pipe.Exec(ctx) // Every command's own error is looked at.
	records := make([]compliance.Record, len(keys))
	for i, key := range keys {
		var err error
		if records[i], err = readRecord(replies[i], r.layout.BucketOf(key.Device), key); err != nil {
			return nil, err
		}
	}
	return records, nil
}

func readRecord(reply *redis.SliceCmd, b compliance.Bucket, key compliance.Key) (compliance.Record, error) {
	fields, err := reply.Result()
	var record compliance.Record
	if err == nil {
		record, err = decode(fields)
	}
	if isWrongType(err) || errors.Is(err, errRecord) {
		err = &compliance.CorruptError{Bucket: b, What: "a record"}
	}
	if err != nil {
		return compliance.Record{}, fmt.Errorf("read record: %w", err)
	}
	if record.Exists() {
		record.Values[compliance.ID] = compliance.TextValue(key.Device)
	}
	return record, nil
}

// Counts returns of each policy the number of records in each status. A policy
// without records is not in it.
func (r *Redis) Counts(ctx context.Context) (map[string][compliance.NumStatuses]int, error) {
	pipe := r.client.Pipeline()
	replies := make([]*redis.MapStringStringCmd, r.layout.Buckets)
	for b := range replies {
		replies[b] = pipe.HGetAll(ctx, countsKey(compliance.Bucket(b)))
	}
	_, _ = pipe.Exec(ctx)
	totals := map[string][compliance.NumStatuses]int{}
	for b, reply := range replies {
		fields, err := reply.Result()
		if isWrongType(err) {
			err = &compliance.CorruptError{Bucket: compliance.Bucket(b), What: "the counts"}
		}
		if err != nil {
			return nil, fmt.Errorf("read counts of bucket %02x: %w", b, err)
		}
		for field, text := range fields {
			policy, status, ok := parseCountField(field)
			n, err := strconv.Atoi(text)
			if !ok || err != nil {
				return nil, &compliance.CorruptError{Bucket: compliance.Bucket(b), What: "the counts"}
			}
			of := totals[policy]
			of[status] += n
			totals[policy] = of
		}
	}
	return totals, nil
}

// Floors returns the floors of buckets, in their order. Where one is absent, the
// layout is checked and, if Redis came back empty, written again; the error is
// then [*LayoutError] where it is another one.
func (r *Redis) Floors(ctx context.Context, buckets []compliance.Bucket) ([]compliance.Floor, error) {
	floors, err := r.ReadFloors(ctx, buckets)
	if err == nil && slices.ContainsFunc(floors, compliance.Floor.Absent) {
		err = r.EnsureLayout(ctx)
	}
	return floors, err
}

// PolicyCounts returns the number of records of a policy in each status. It takes a
// command a bucket, whatever the number of policies.
func (r *Redis) PolicyCounts(ctx context.Context, policy string) (totals [compliance.NumStatuses]int, err error) {
	fields := make([]string, compliance.NumStatuses)
	for i, s := range compliance.Statuses() {
		fields[i] = countField(policy, s)
	}
	pipe := r.client.Pipeline()
	replies := make([]*redis.SliceCmd, r.layout.Buckets)
	for b := range replies {
		replies[b] = pipe.HMGet(ctx, countsKey(compliance.Bucket(b)), fields...)
	}
	_, _ = pipe.Exec(ctx) // Every command's own error is looked at.
	for b, reply := range replies {
		numbers, err := reply.Result()
		if err != nil && !isWrongType(err) {
			return totals, fmt.Errorf("read counts of bucket %02x: %w", b, err)
		}
		for i, value := range numbers {
			text, there := value.(string)
			if !there {
				continue
			}
			n, errNumber := strconv.Atoi(text)
			err = errors.Join(err, errNumber)
			totals[i] += n
		}
		if err != nil {
			return totals, &compliance.CorruptError{Bucket: compliance.Bucket(b), What: "the counts"}
		}
	}
	return totals, nil
}

// ReadFloors returns the floors of buckets, in their order, and writes nothing.
func (r *Redis) ReadFloors(ctx context.Context, buckets []compliance.Bucket) ([]compliance.Floor, error) {
	pipe := r.client.Pipeline()
	replies := make([]floorReply, len(buckets))
	for i, b := range buckets {
		replies[i] = askFloor(ctx, pipe, b)
	}
	_, _ = pipe.Exec(ctx)
	floors := make([]compliance.Floor, len(buckets))
	for i, reply := range replies {
		have, err := reply.read()
		if err != nil {
			return nil, fmt.Errorf("read floors: %w", err)
		}
		floors[i] = have.Floor
	}
	return floors, nil
}

func readFloor(reply *redis.StringCmd) (compliance.Floor, error) {
	line, err := reply.Result()
	switch {
	case errors.Is(err, redis.Nil):
		return compliance.Floor{}, nil
	case isWrongType(err):
		return compliance.UnreadableFloor(""), nil
	case err != nil:
		return compliance.Floor{}, err
	}
	return parseFloor(line), nil
}

// Gaps returns the gaps of buckets, in their order, that were noticed and not
// accepted.
func (r *Redis) Gaps(ctx context.Context, buckets []compliance.Bucket) ([][]compliance.Gap, error) {
	pipe := r.client.Pipeline()
	replies := make([]*redis.MapStringStringCmd, len(buckets))
	for i, b := range buckets {
		replies[i] = pipe.HGetAll(ctx, gapsKey(b))
	}
	_, _ = pipe.Exec(ctx)
	gaps := make([][]compliance.Gap, len(buckets))
	for i, reply := range replies {
		fields, err := reply.Result()
		if isWrongType(err) {
			err = &compliance.CorruptError{Bucket: buckets[i], What: "the gaps"}
		}
		if err != nil {
			return nil, fmt.Errorf("read gaps: %w", err)
		}
		for field, seen := range fields {
			gap, ok := parseGap(field, seen)
			if !ok {
				return nil, &compliance.CorruptError{Bucket: buckets[i], What: "the gaps"}
			}
			gaps[i] = append(gaps[i], gap)
		}
	}
	return gaps, nil
}
