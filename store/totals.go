package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"
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
}

func newTotals() Totals { return Totals{Policies: map[string]*PolicyTotals{}} }

func (t *Totals) policy(name string) *PolicyTotals {
	p := t.Policies[name]
	if p == nil {
		p = &PolicyTotals{}
		t.Policies[strings.Clone(name)] = p
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
	var counts, worst, days, graceDays, ending *redis.StringSliceCmd
	today := compliance.DayOf(now)
	_, err := r.client.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		counts, worst = hashOf(ctx, pipe, k.counts), hashOf(ctx, pipe, k.worst)
		days, graceDays = hashOf(ctx, pipe, k.days), hashOf(ctx, pipe, k.graceDays)
		ending = pipe.ZRangeByScore(ctx, k.grace, &redis.ZRangeBy{
			Min: "(" + strconv.FormatInt(now.UnixMilli(), 10), Max: "(" + strconv.FormatInt((today+1).Start().UnixMilli(), 10),
		})
		return nil
	})
	if err != nil && !isWrongType(err) {
		return err
	}
	firstFresh, last := compliance.FirstFresh(now, validity).String(), today.String()
	for _, part := range []struct {
		reply *redis.StringSliceCmd
		what  string
		take  func(policy, of string, n int) bool
	}{
		{counts, "the counts", func(policy, of string, n int) bool {
			status, ok := compliance.ParseStatus(of)
			to.policy(policy).Statuses[status] += n
			return ok
		}},
		{days, "the counts by day", func(policy, day string, n int) bool {
			if day < firstFresh { // Days as text are in order.
				to.policy(policy).Stale += n
			}
			return len(day) == len(last)
		}},
		// Of the grace periods that end today, the index says which have not ended.
		{graceDays, "the counts of grace periods", func(policy, day string, n int) bool {
			if day > last {
				to.policy(policy).InGrace += n
			}
			return len(day) == len(last)
		}},
	} {
		if !eachNumber(part.reply, part.take) {
			return &compliance.CorruptError{Bucket: b, What: part.what}
		}
	}
	if !to.addWorst(worst) {
		return &compliance.CorruptError{Bucket: b, What: "the counts of devices"}
	}
	if !to.addEnding(ending) {
		return &compliance.CorruptError{Bucket: b, What: "the index of grace periods"}
	}
	return nil
}

// addWorst adds the devices of a bucket.
func (t *Totals) addWorst(reply *redis.StringSliceCmd) bool {
	fields, err := reply.Result()
	for i := 0; i+1 < len(fields); i += 2 {
		status, ok := compliance.ParseStatus(fields[i])
		n, errNumber := strconv.Atoi(fields[i+1])
		if !ok || errNumber != nil {
			return false
		}
		t.Devices[status] += n
	}
	return err == nil
}

// addEnding adds the records whose grace periods end later today.
func (t *Totals) addEnding(reply *redis.StringSliceCmd) bool {
	members, err := reply.Result()
	policies := map[packedID]int{}
	for _, member := range members {
		policy, _, ok := cutKey(member)
		if !ok {
			return false
		}
		policies[policy]++
	}
	for policy, n := range policies {
		t.policy(policy.text()).InGrace += n
	}
	return err == nil
}

// Days returns of each policy the number of records by the UTC day of their newest
// event.
func (r *Redis) Days(ctx context.Context) (map[string]map[compliance.Day]int, error) {
	pipe := r.client.Pipeline()
	replies := make([]*redis.StringSliceCmd, r.layout.Buckets)
	for b := range replies {
		replies[b] = hashOf(ctx, pipe, keysOf(compliance.Bucket(b)).days)
	}
	if _, err := pipe.Exec(ctx); err != nil && !isWrongType(err) {
		return nil, fmt.Errorf("read days: %w", err)
	}
	policies := map[string]map[compliance.Day]int{}
	for b, reply := range replies {
		right := eachNumber(reply, func(policy, text string, n int) bool {
			day, err := compliance.ParseDay(text)
			if policies[policy] == nil {
				policies[policy] = map[compliance.Day]int{}
			}
			policies[policy][day] += n
			return err == nil
		})
		if !right {
			return nil, &compliance.CorruptError{Bucket: compliance.Bucket(b), What: "the counts by day"}
		}
	}
	return policies, nil
}

// hashOf reads a hash as fields and values in turn.
func hashOf(ctx context.Context, pipe redis.Pipeliner, key string) *redis.StringSliceCmd {
	cmd := redis.NewStringSliceCmd(ctx, "hgetall", key)
	_ = pipe.Process(ctx, cmd) // Its error is its own.
	return cmd
}

// eachNumber goes through the numbers of a hash whose fields are <policy>|<of>. It is
// false where the hash is not of that kind.
func eachNumber(reply *redis.StringSliceCmd, take func(policy, of string, n int) bool) bool {
	fields, err := reply.Result()
	if err != nil {
		return false
	}
	for i := 0; i+1 < len(fields); i += 2 {
		policy, of, ok := strings.Cut(fields[i], "|")
		n, err := strconv.Atoi(fields[i+1])
		if !ok || err != nil || !take(policy, of, n) {
			return false
		}
	}
	return true
}
