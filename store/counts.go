package store

import (
	"context"
	"maps"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/complianced/complianced/compliance"
)

// counts are the counts of a bucket that a transaction may change.
type counts struct {
	fields []string
	// values are the counts of fields: as read, then as they are to be.
	values map[string]int64
	// changed are the fields to write.
	changed map[string]bool
	// anew says that what is not in values is to go.
	anew bool
}

// countFields lists the counts of all policies that the reports concern.
func (a *application) countFields() counts {
	c := counts{values: map[string]int64{}, changed: map[string]bool{}}
	if a.tx.Recount {
		return c
	}
	policies := map[string]bool{}
	for _, e := range a.entries {
		policies[e.key.Policy] = true
	}
	for _, policy := range slices.Sorted(maps.Keys(policies)) {
		for _, status := range compliance.Statuses() {
			c.fields = append(c.fields, countField(policy, status))
		}
	}
	return c
}

func (a *application) loadCounts(c *counts, reply *redis.SliceCmd) error {
	values, err := reply.Result()
	if err != nil {
		return a.judge(err, "the counts")
	}
	for i, value := range values {
		text, ok := value.(string)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 1 {
			return &compliance.CorruptError{Bucket: a.tx.Bucket, What: "the counts"}
		}
		c.values[c.fields[i]] = n
	}
	return nil
}

// count moves the counts as the records moved. A count that would fall below
// zero was wrong before.
func (a *application) count(c counts) error {
	for _, e := range a.entries {
		before, after := e.old.Standing(), e.new.Standing()
		if before == after {
			continue
		}
		if before.Exists {
			c.add(countField(e.key.Policy, before.Status), -1)
		}
		if after.Exists {
			c.add(countField(e.key.Policy, after.Status), 1)
		}
	}
	for field := range c.changed {
		if c.values[field] < 0 {
			return &compliance.CorruptError{Bucket: a.tx.Bucket, What: "the counts"}
		}
	}
	return nil
}

func (c counts) add(field string, n int64) {
	c.values[field] += n
	c.changed[field] = true
}

// write puts the changed counts into the transaction, as absolute values and
// none at 0.
func (c counts) write(ctx context.Context, pipe redis.Pipeliner, key string) {
	if c.anew {
		pipe.Del(ctx, key)
	}
	var set []any
	var gone []string
	for _, field := range slices.Sorted(maps.Keys(c.changed)) {
		if n := c.values[field]; n > 0 {
			set = append(set, field, n)
		} else {
			gone = append(gone, field)
		}
	}
	if len(set) > 0 {
		pipe.HSet(ctx, key, set...)
	}
	if len(gone) > 0 {
		pipe.HDel(ctx, key, gone...)
	}
}
