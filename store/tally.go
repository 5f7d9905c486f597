package store

import (
	"context"
	"errors"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/complianced/complianced/compliance"
)

// tally is one hash of numbers, as a transaction reads and moves it.
type tally struct {
	key, what string
	field     func(counter) string
	moved     map[counter]int64
	// asked are those whose numbers are read.
	asked []counter
	reply *redis.SliceCmd
	there map[counter]int64
}

func newTally(key, what string, field func(counter) string) tally {
	return tally{key: key, what: what, field: field, moved: map[counter]int64{}, there: map[counter]int64{}}
}

func (t *tally) move(c counter, n int64) {
	if t.moved[c] += n; t.moved[c] == 0 {
		delete(t.moved, c)
	}
}

// ask puts the command that reads some numbers into a pipeline.
func (t *tally) ask(ctx context.Context, pipe redis.Pipeliner, counters []counter) {
	if len(counters) == 0 {
		return
	}
	t.asked = counters
	fields := make([]string, len(counters))
	for i, c := range counters {
		fields[i] = t.field(c)
	}
	t.reply = pipe.HMGet(ctx, t.key, fields...)
}

// movedCounters are those that move.
func (t *tally) movedCounters() []counter {
	counters := make([]counter, 0, len(t.moved))
	for c := range t.moved {
		counters = append(counters, c)
	}
	return counters
}

// errNumber says that a field of a hash of numbers is no number above 0.
var errNumber = errors.New("not a number above 0")

// load takes what was read. The error is errNumber where that is none.
func (t *tally) load() error {
	if t.reply == nil {
		return nil
	}
	values, err := t.reply.Result()
	if err != nil {
		return err
	}
	for i, value := range values {
		text, there := value.(string)
		if !there {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 1 {
			return errNumber
		}
		t.there[t.asked[i]] = n
	}
	return nil
}

// right reports whether no number falls below 0: one that does was wrong before.
func (t *tally) right() bool {
	for c, n := range t.moved {
		if t.there[c]+n < 0 {
			return false
		}
	}
	return true
}

// write puts the numbers that moved into the transaction, as absolute values and none
// at 0.
func (t *tally) write(ctx context.Context, pipe redis.Pipeliner) {
	var set []any
	var gone []string
	for c, moved := range t.moved {
		if n := t.there[c] + moved; n > 0 {
			set = append(set, t.field(c), n)
		} else {
			gone = append(gone, t.field(c))
		}
	}
	if len(set) > 0 {
		pipe.HSet(ctx, t.key, set...)
	}
	if len(gone) > 0 {
		pipe.HDel(ctx, t.key, gone...)
	}
}

// sorted is one sorted set, as a transaction changes it.
type sorted struct {
	key, what string
	add       []redis.Z
	gone      []any
	probe     *redis.IntCmd
}

func (s *sorted) set(score int64, member string) {
	s.add = append(s.add, redis.Z{Score: float64(score), Member: member})
}

func (s *sorted) remove(member string) { s.gone = append(s.gone, member) }

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

func (s *sorted) write(ctx context.Context, pipe redis.Pipeliner) {
	if len(s.gone) > 0 {
		pipe.ZRem(ctx, s.key, s.gone...)
	}
	if len(s.add) > 0 {
		pipe.ZAdd(ctx, s.key, s.add...)
	}
}

// changes are what a transaction changes of all that follows from its records.
type changes struct {
	tallies[tally]

	grace, attention, devices sorted
	rollupKey                 string
	// moved are the devices of which a record came, went or has another status.
	moved []*movedDevice
	byID  map[string]*movedDevice
}

// movedDevice is a device in a transaction.
type movedDevice struct {
	id      string
	records []movedRecord
	// old is its roll-up as stored, new what is to be stored.
	old, new string
}

type movedRecord struct {
	policy string
	after  compliance.Standing
}

func newChanges(k *bucketKeys) *changes {
	return &changes{
		tallies: tallies[tally]{
			counts:    newTally(k.counts, "the counts", statusCounterField),
			worst:     newTally(k.worst, "the counts of devices", worstField),
			days:      newTally(k.days, "the counts by day", dayCounterField),
			graceDays: newTally(k.graceDays, "the counts of grace periods", dayCounterField),
		},
		grace:     sorted{key: k.grace, what: "the index of grace periods"},
		attention: sorted{key: k.attention, what: whatAttention},
		devices:   sorted{key: k.devices, what: "the index of devices"},
		rollupKey: k.rollup,
		byID:      map[string]*movedDevice{},
	}
}

// move notes that a record was one thing and is to be another.
func (c *changes) move(key compliance.Key, before, after compliance.Facts) {
	if before == after {
		return
	}
	if before.Exists {
		c.days.move(counter{key.Policy, int32(before.Day)}, -1)
	}
	if after.Exists {
		c.days.move(counter{key.Policy, int32(after.Day)}, 1)
	}
	if before.GraceEnds != after.GraceEnds {
		c.moveGrace(key, before.GraceEnds, after.GraceEnds)
	}
	if before.Standing == after.Standing {
		return
	}
	if before.Exists {
		c.counts.move(counter{key.Policy, int32(before.Status)}, -1)
		if before.Status.NeedsAttention() {
			c.attention.remove(attentionMember(key, before.Status))
		}
	}
	if after.Exists {
		c.counts.move(counter{key.Policy, int32(after.Status)}, 1)
		if after.Status.NeedsAttention() {
			c.attention.set(0, attentionMember(key, after.Status))
		}
	}
	d := c.byID[key.Device]
	if d == nil {
		d = &movedDevice{id: key.Device}
		c.byID[key.Device] = d
		c.moved = append(c.moved, d)
	}
	d.records = append(d.records, movedRecord{key.Policy, after.Standing})
}

func (c *changes) moveGrace(key compliance.Key, before, after int64) {
	if before != 0 {
		c.graceDays.move(counter{key.Policy, int32(compliance.DayOfMillis(before))}, -1)
	}
	if after == 0 {
		c.grace.remove(member(key))
		return
	}
	c.graceDays.move(counter{key.Policy, int32(compliance.DayOfMillis(after))}, 1)
	c.grace.set(after, member(key))
}

// read fetches in one round trip what is to be changed, and finds out what it is to
// be. Corrupt is what is wrong, if anything is.
func (c *changes) read(ctx context.Context, tx *redis.Tx) (corrupt string, err error) {
	pipe := tx.Pipeline()
	for _, t := range []*tally{&c.counts, &c.days, &c.graceDays} {
		t.ask(ctx, pipe, t.movedCounters())
	}
	var rollups *redis.SliceCmd
	if len(c.moved) > 0 {
		ids := make([]string, len(c.moved))
		for i, d := range c.moved {
			ids[i] = d.id
		}
		rollups = pipe.HMGet(ctx, c.rollupKey, ids...)
		c.worst.ask(ctx, pipe, everyStatus())
		c.devices.probe = pipe.ZCard(ctx, c.devices.key)
	}
	c.grace.ask(ctx, pipe)
	c.attention.ask(ctx, pipe)
	if pipe.Len() == 0 {
		return "", nil
	}
	_, _ = pipe.Exec(ctx) // Every command's own error is looked at.
	return c.load(rollups)
}

func everyStatus() []counter {
	counters := make([]counter, 0, compliance.NumStatuses)
	for _, s := range compliance.Statuses() {
		counters = append(counters, counter{of: int32(s)})
	}
	return counters
}

func (c *changes) load(rollups *redis.SliceCmd) (corrupt string, err error) {
	for _, s := range []*sorted{&c.grace, &c.attention, &c.devices} {
		if err := s.load(); err != nil {
			return wrongType(s.what, err)
		}
	}
	if rollups != nil {
		replies, err := rollups.Result()
		if err != nil {
			return wrongType(whatRollup, err)
		}
		for i, d := range c.moved {
			d.old, _ = replies[i].(string)
			if !c.rollUp(d) {
				return whatRollup, nil
			}
		}
	}
	for _, t := range []*tally{&c.counts, &c.days, &c.graceDays, &c.worst} {
		err := t.load()
		switch {
		case errors.Is(err, errNumber):
			return t.what, nil
		case err != nil:
			return wrongType(t.what, err)
		case !t.right():
			return t.what, nil
		}
	}
	return "", nil
}

const (
	whatRollup    = "the roll-up of a device"
	whatAttention = "the index of what needs attention"
)

// wrongType tells a corrupt key from a trouble that passes.
func wrongType(what string, err error) (string, error) {
	if isWrongType(err) {
		return what, nil
	}
	return "", err
}

// rollUp finds out what becomes of a device. It is false where its stored form is none.
func (c *changes) rollUp(d *movedDevice) bool {
	old, err := parseRollup(d.old)
	if err != nil {
		return false
	}
	before, was := old.worst()
	rolled := slices.Clone(old)
	for _, r := range d.records {
		rolled = rolled.set(r.policy, r.after)
	}
	after, is := rolled.worst()
	d.new = rolled.encode()
	if was {
		c.worst.move(counter{of: int32(before)}, -1)
	}
	if is {
		c.worst.move(counter{of: int32(after)}, 1)
	}
	switch {
	case is && !was:
		c.devices.set(0, d.id)
	case was && !is:
		c.devices.remove(d.id)
	}
	return true
}

// write puts all changes into the transaction.
func (c *changes) write(ctx context.Context, pipe redis.Pipeliner) {
	for _, t := range []*tally{&c.counts, &c.worst, &c.days, &c.graceDays} {
		t.write(ctx, pipe)
	}
	for _, s := range []*sorted{&c.grace, &c.attention, &c.devices} {
		s.write(ctx, pipe)
	}
	var set []any
	var gone []string
	for _, d := range c.moved {
		switch d.new {
		case d.old:
		case "":
			gone = append(gone, d.id)
		default:
			set = append(set, d.id, d.new)
		}
	}
	if len(set) > 0 {
		pipe.HSet(ctx, c.rollupKey, set...)
	}
	if len(gone) > 0 {
		pipe.HDel(ctx, c.rollupKey, gone...)
	}
}
