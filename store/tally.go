package store

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// tally is one hash of numbers, as a transaction reads and moves it.
type tally struct {
	key, what string
	field     func(counter) string
	moved     []movedNumber
	// ofPolicy has, for each policy of the transaction, the places of its numbers.
	ofPolicy [][]int32
	reply    *redis.SliceCmd
}

// movedNumber is a number, by how much it moves, and what it was and is to be.
type movedNumber struct {
	counter

	field    string
	by, then int64
}

func (t *tally) reset() {
	for i := range t.ofPolicy {
		t.ofPolicy[i] = t.ofPolicy[i][:0]
	}
	clear(t.moved)
	t.moved, t.reply = t.moved[:0], nil
}

// move moves a number of the policy with this place in the transaction.
func (t *tally) move(place int32, c counter, by int64) {
	for int(place) >= len(t.ofPolicy) {
		t.ofPolicy = append(t.ofPolicy, nil)
	}
	for _, n := range t.ofPolicy[place] {
		if t.moved[n].of == c.of {
			t.moved[n].by += by
			return
		}
	}
	t.ofPolicy[place] = append(t.ofPolicy[place], int32(len(t.moved)))
	t.moved = append(t.moved, movedNumber{counter: c, by: by})
}

// ask puts the command that reads the numbers into a pipeline.
func (t *tally) ask(ctx context.Context, pipe redis.Pipeliner, c *command) {
	if len(t.moved) == 0 {
		return
	}
	start := c.begin("hmget", &t.key)
	for i := range t.moved {
		n := &t.moved[i]
		n.field = t.field(n.counter)
		c.args = append(c.args, &n.field)
	}
	t.reply = redis.NewSliceCmd(ctx, c.from(start)...)
	_ = pipe.Process(ctx, t.reply) // Its error is its own.
}

// errNumber says that a field of a hash of numbers is no number above 0, or would
// fall below it: it was wrong before.
var errNumber = errors.New("not a number above 0")

// load takes what was read. The error is errNumber where that cannot be right.
func (t *tally) load() error {
	if t.reply == nil {
		return nil
	}
	values, err := t.reply.Result()
	if err != nil {
		return err
	}
	for i, value := range values {
		if text, there := value.(string); there {
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil || n < 1 {
				return errNumber
			}
			t.moved[i].then = n
		}
	}
	return nil
}

// settle finds out what the numbers are to be.
func (t *tally) settle() error {
	for i := range t.moved {
		n := &t.moved[i]
		if n.then += n.by; n.then < 0 {
			return errNumber
		}
	}
	return nil
}

// write puts the numbers that moved into the transaction, as absolute values and none
// at 0.
func (t *tally) write(ctx context.Context, pipe redis.Pipeliner, c *command) {
	start := c.begin("hset", &t.key)
	for i := range t.moved {
		if n := &t.moved[i]; n.by != 0 && n.then > 0 {
			c.args = append(c.args, &n.field, &n.then)
		}
	}
	c.send(ctx, pipe, start)
	start = c.begin("hdel", &t.key)
	for i := range t.moved {
		if n := &t.moved[i]; n.by != 0 && n.then == 0 {
			c.args = append(c.args, &n.field)
		}
	}
	c.send(ctx, pipe, start)
}

// sorted is one sorted set, as a transaction changes it.
type sorted struct {
	key, what string
	add, gone []scoredMember
	probe     *redis.IntCmd
}

type scoredMember struct {
	score  int64
	member string
}

func byScore(a, b scoredMember) int { return cmp.Compare(a.score, b.score) }

func (s *sorted) reset() {
	clear(s.add)
	clear(s.gone)
	s.add, s.gone, s.probe = s.add[:0], s.gone[:0], nil
}

func (s *sorted) set(score int64, member string) { s.add = append(s.add, scoredMember{score, member}) }

// remove takes a member away that has this score.
func (s *sorted) remove(score int64, member string) {
	s.gone = append(s.gone, scoredMember{score, member})
}

// ask reads the size of a key that is to be written and that nothing reads, so that
// one of another type is found before the EXEC: Redis does not undo what stands beside
// a command that failed in it.
func (s *sorted) ask(ctx context.Context, pipe redis.Pipeliner) {
	if len(s.add)+len(s.gone) > 0 {
		s.probe = pipe.ZCard(ctx, s.key)
	}
}

func (s *sorted) load() error {
	if s.probe == nil {
		return nil
	}
	return s.probe.Err()
}

// write puts the changes into the transaction, in the order in which the set has them:
// Redis then goes the same ways again and again, which are in the processor's cache.
func (s *sorted) write(ctx context.Context, pipe redis.Pipeliner, c *command) {
	slices.SortFunc(s.gone, byScore)
	slices.SortFunc(s.add, byScore)
	start := c.begin("zrem", &s.key)
	for i := range s.gone {
		c.args = append(c.args, &s.gone[i].member)
	}
	c.send(ctx, pipe, start)
	start = c.begin("zadd", &s.key)
	for i := range s.add {
		c.args = append(c.args, &s.add[i].score, &s.add[i].member)
	}
	c.send(ctx, pipe, start)
}
