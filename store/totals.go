package store

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/complianced/complianced/compliance"
)

// Totals are the numbers of the whole state at an instant.
type Totals struct {
	// Policies are those of each policy that has records.
	Policies map[string]*PolicyTotals
	// Devices are the devices by the worst status of their records, each once.
	Devices [compliance.NumStatuses]int
}

// PolicyTotals are the numbers of a policy's records.
type PolicyTotals struct {
	Statuses [compliance.NumStatuses]int
	// InGrace are those in their grace period, which are among the nonCompliant.
	InGrace int
	// Stale are those whose newest event is older than the validity.
	Stale int
	// Days are the records by the UTC day of their newest event.
	Days map[compliance.Day]int
}

func newTotals() Totals { return Totals{Policies: map[string]*PolicyTotals{}} }

func (t *Totals) policy(name string) *PolicyTotals {
	p := t.Policies[name]
	if p == nil {
		p = &PolicyTotals{Days: map[compliance.Day]int{}}
		t.Policies[name] = p
	}
	return p
}

// add adds the numbers of other buckets.
func (t *Totals) add(other Totals) {
	for status, n := range other.Devices {
		t.Devices[status] += n
	}
	for name, of := range other.Policies {
		p := t.policy(name)
		for status, n := range of.Statuses {
			p.Statuses[status] += n
		}
		p.InGrace += of.InGrace
		p.Stale += of.Stale
		for day, n := range of.Days {
			p.Days[day] += n
		}
	}
}

// readAtOnce is how many buckets are read at the same time.
const readAtOnce = 4

// Totals returns the numbers at an instant, where a record is stale when its newest
// event is more than validity UTC days old. The numbers of a bucket are those of one
// moment. It takes a command a bucket for each kind of number, whatever the number of
// policies.
func (r *Redis) Totals(ctx context.Context, now time.Time, validity int) (Totals, error) {
	parts := make([]Totals, readAtOnce)
	group, ctx := errgroup.WithContext(ctx)
	for part := range parts {
		parts[part] = newTotals()
		group.Go(func() error {
			for b := part; b < r.layout.Buckets; b += readAtOnce {
				if err := r.addBucket(ctx, compliance.Bucket(b), now, validity, &parts[part]); err != nil {
					return fmt.Errorf("read the numbers of bucket %02x: %w", b, err)
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return Totals{}, err
	}
	for _, part := range parts[1:] {
		parts[0].add(part)
	}
	return parts[0], nil
}

// addBucket adds the numbers of a bucket.
func (r *Redis) addBucket(ctx context.Context, b compliance.Bucket, now time.Time, validity int, to *Totals) error {
	k := keysOf(b)
	var counts, worst, days, graceDays *redis.MapStringStringCmd
	var today *redis.StringSliceCmd
	endOfToday := (compliance.DayOf(now) + 1).Start().UnixMilli()
	_, err := r.client.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		counts, worst = pipe.HGetAll(ctx, k.counts), pipe.HGetAll(ctx, k.worst)
		days, graceDays = pipe.HGetAll(ctx, k.days), pipe.HGetAll(ctx, k.graceDays)
		today = pipe.ZRangeByScore(ctx, k.grace, &redis.ZRangeBy{
			Min: "(" + strconv.FormatInt(now.UnixMilli(), 10), Max: "(" + strconv.FormatInt(endOfToday, 10),
		})
		return nil
	})
	if err != nil && !isWrongType(err) {
		return err
	}
	each := func(reply *redis.MapStringStringCmd, what string, take func(field string, n int) bool) error {
		fields, err := reply.Result()
		if err != nil {
			return &compliance.CorruptError{Bucket: b, What: what}
		}
		for field, text := range fields {
			n, err := strconv.Atoi(text)
			if err != nil || !take(field, n) {
				return &compliance.CorruptError{Bucket: b, What: what}
			}
		}
		return nil
	}
	if err := each(counts, "the counts", func(field string, n int) bool {
		policy, status, ok := parseCountField(field)
		if ok {
			to.policy(policy).Statuses[status] += n
		}
		return ok
	}); err != nil {
		return err
	}
	if err := each(worst, "the counts of devices", func(field string, n int) bool {
		status, ok := compliance.ParseStatus(field)
		if ok {
			to.Devices[status] += n
		}
		return ok
	}); err != nil {
		return err
	}
	firstFresh := compliance.FirstFresh(now, validity)
	if err := each(days, "the counts by day", func(field string, n int) bool {
		policy, day, ok := parseDayField(field)
		if ok {
			p := to.policy(policy)
			p.Days[day] += n
			if day < firstFresh {
				p.Stale += n
			}
		}
		return ok
	}); err != nil {
		return err
	}
	// Of the grace periods that end today, the index says which have ended.
	if err := each(graceDays, "the counts of grace periods", func(field string, n int) bool {
		policy, day, ok := parseDayField(field)
		if ok && day > compliance.DayOf(now) {
			to.policy(policy).InGrace += n
		}
		return ok
	}); err != nil {
		return err
	}
	members, err := today.Result()
	if err != nil {
		return &compliance.CorruptError{Bucket: b, What: "the index of grace periods"}
	}
	for _, m := range members {
		key, ok := parseMember(m)
		if !ok {
			return &compliance.CorruptError{Bucket: b, What: "the index of grace periods"}
		}
		to.policy(key.Policy).InGrace++
	}
	return nil
}
