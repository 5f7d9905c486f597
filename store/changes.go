package store

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"

	"github.com/complianced/complianced/compliance"
)

// changes are what a transaction changes of all that follows from its records.
type changes struct {
	tallies[tally]

	grace, attention, devices sorted
	rollupKey                 string

	// policies are those of the records that changed; byPolicy has their places.
	policies []movedPolicy
	byPolicy map[string]int32
	// moved are the devices of which a record came, went or has another status;
	// byDevice has their places. standings are those of these records.
	moved     []movedDevice
	byDevice  map[string]int32
	standings []movedStanding
}

// movedPolicy is a policy in a transaction.
type movedPolicy struct {
	packed packedID
	// entries are those of a roll-up that were needed, by status.
	entries [compliance.NumStatuses]string
}

func (p *movedPolicy) entry(s compliance.Standing) string {
	if !s.Exists {
		return ""
	}
	entry := &p.entries[s.Status]
	if *entry == "" {
		*entry = p.packed.entry(s.Status)
	}
	return *entry
}

// movedDevice is a device in a transaction. The first of its standings is at first;
// old is its roll-up as stored, new what is to be stored.
type movedDevice struct {
	id       string
	first    int32
	old, new packedRollup
}

// movedStanding is what becomes of a record. The next one of the same device is at next.
type movedStanding struct {
	policy int32
	after  compliance.Standing
	next   int32
}

func newChanges() *changes {
	return &changes{byPolicy: map[string]int32{}, byDevice: map[string]int32{}}
}

// of makes ready for the transaction of a bucket.
func (c *changes) of(k *bucketKeys) {
	c.rollupKey = k.rollup
	for _, t := range []struct {
		tally     *tally
		key, what string
		field     func(counter) string
	}{
		{&c.counts, k.counts, "the counts", statusCounterField},
		{&c.worst, k.worst, "the counts of devices", worstField},
		{&c.days, k.days, "the counts by day", dayCounterField},
		{&c.graceDays, k.graceDays, "the counts of grace periods", dayCounterField},
	} {
		t.tally.reset()
		t.tally.key, t.tally.what, t.tally.field = t.key, t.what, t.field
	}
	for _, s := range []struct {
		sorted    *sorted
		key, what string
	}{
		{&c.grace, k.grace, "the index of grace periods"},
		{&c.attention, k.attention, whatAttention},
		{&c.devices, k.devices, "the index of devices"},
	} {
		s.sorted.reset()
		s.sorted.key, s.sorted.what = s.key, s.what
	}
	clear(c.byPolicy)
	clear(c.byDevice)
	clear(c.policies)
	clear(c.moved)
	c.policies, c.moved, c.standings = c.policies[:0], c.moved[:0], c.standings[:0]
}

// policy returns the place of a policy.
func (c *changes) policy(name string) int32 {
	place, known := c.byPolicy[name]
	if !known {
		place = int32(len(c.policies))
		c.policies = append(c.policies, movedPolicy{packed: packID(name)})
		c.byPolicy[name] = place
	}
	return place
}

// member is packKey of a policy and a device in the memory of a transaction.
func (c *changes) member(policy int32, device string, memory *texts) string {
	var buffer [maxPackedKey]byte
	return memory.text(appendID(c.policies[policy].packed.appendTo(buffer[:0]), device))
}

// move notes that a record was one thing and is to be another.
func (c *changes) move(key compliance.Key, before, after compliance.Facts, memory *texts) {
	if before == after {
		return
	}
	policy := c.policy(key.Policy)
	if before.Exists {
		c.days.move(policy, counter{key.Policy, int32(before.Day)}, -1)
	}
	if after.Exists {
		c.days.move(policy, counter{key.Policy, int32(after.Day)}, 1)
	}
	needed := before.Exists && before.Status.NeedsAttention()
	needs := after.Exists && after.Status.NeedsAttention()
	graceMoves := before.GraceEnds != after.GraceEnds
	var member string // Of the many that need none, none is made.
	if graceMoves || before.Standing != after.Standing && (needed || needs) {
		member = c.member(policy, key.Device, memory)
	}
	if graceMoves {
		c.moveGrace(key.Policy, policy, member, before.GraceEnds, after.GraceEnds)
	}
	if before.Standing == after.Standing {
		return
	}
	if before.Exists {
		c.counts.move(policy, counter{key.Policy, int32(before.Status)}, -1)
	}
	if after.Exists {
		c.counts.move(policy, counter{key.Policy, int32(after.Status)}, 1)
	}
	switch {
	case needs:
		c.attention.set(attentionScore(key, after.Status), member)
	case needed:
		c.attention.remove(attentionScore(key, before.Status), member)
	}
	c.moveDevice(key.Device, policy, after.Standing)
}

func (c *changes) moveGrace(name string, policy int32, member string, before, after int64) {
	if before != 0 {
		c.graceDays.move(policy, counter{name, int32(compliance.DayOfMillis(before))}, -1)
	}
	if after == 0 {
		c.grace.remove(before, member)
		return
	}
	c.graceDays.move(policy, counter{name, int32(compliance.DayOfMillis(after))}, 1)
	c.grace.set(after, member)
}

func (c *changes) moveDevice(id string, policy int32, after compliance.Standing) {
	here := int32(len(c.standings))
	next := int32(none)
	if place, known := c.byDevice[id]; known {
		next, c.moved[place].first = c.moved[place].first, here
	} else {
		c.byDevice[id] = int32(len(c.moved))
		c.moved = append(c.moved, movedDevice{id: id, first: here})
	}
	c.standings = append(c.standings, movedStanding{policy: policy, after: after, next: next})
}

// read fetches in one round trip what is to be changed, and finds out what it is to
// be. Corrupt is what is wrong, if anything is.
func (c *changes) read(ctx context.Context, tx *redis.Tx, memory *command) (corrupt string, err error) {
	pipe := tx.Pipeline()
	for _, t := range []*tally{&c.counts, &c.days, &c.graceDays} {
		t.ask(ctx, pipe, memory)
	}
	var rollups *redis.SliceCmd
	if len(c.moved) > 0 {
		start := memory.begin("hmget", &c.rollupKey)
		for i := range c.moved {
			memory.args = append(memory.args, &c.moved[i].id)
		}
		rollups = redis.NewSliceCmd(ctx, memory.from(start)...)
		_ = pipe.Process(ctx, rollups) // Its error is its own.
		for _, s := range compliance.Statuses() {
			c.worst.move(0, counter{of: int32(s)}, 0) // Which of them move, the roll-ups tell.
		}
		c.worst.ask(ctx, pipe, memory)
		c.devices.probe = pipe.ZCard(ctx, c.devices.key)
	}
	c.grace.ask(ctx, pipe)
	c.attention.ask(ctx, pipe)
	if pipe.Len() == 0 {
		return "", nil
	}
	_, _ = pipe.Exec(ctx) // Every command's own error is looked at.
	return c.load(rollups, &memory.texts)
}

func (c *changes) load(rollups *redis.SliceCmd, memory *texts) (corrupt string, err error) {
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
		for i := range c.moved {
			old, _ := replies[i].(string)
			if !c.rollUp(&c.moved[i], packedRollup(old), memory) {
				return whatRollup, nil
			}
		}
	}
	for _, t := range []*tally{&c.counts, &c.days, &c.graceDays, &c.worst} {
		err := t.load()
		if err == nil {
			err = t.settle()
		}
		switch {
		case errors.Is(err, errNumber):
			return t.what, nil
		case err != nil:
			return wrongType(t.what, err)
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
func (c *changes) rollUp(d *movedDevice, old packedRollup, memory *texts) bool {
	if !old.valid() {
		return false
	}
	d.old = old
	d.new = c.restand(d, memory)
	before, was := d.old.worst()
	after, is := d.new.worst()
	if was {
		c.worst.move(0, counter{of: int32(before)}, -1)
	}
	if is {
		c.worst.move(0, counter{of: int32(after)}, 1)
	}
	switch {
	case is && !was:
		c.devices.set(0, d.id)
	case was && !is:
		c.devices.remove(0, d.id)
	}
	return true
}

// fewStandings is up to how many a roll-up is changed in its stored form, which is then
// copied for each. A device may have thousands of policies, and all in one transaction.
const fewStandings = 8

// restand returns the roll-up of a device with all its standings.
func (c *changes) restand(d *movedDevice, memory *texts) packedRollup {
	r, n := d.old, 0
	for i := d.first; i != none; i = c.standings[i].next {
		if n++; n > fewStandings {
			return c.restandMany(d)
		}
		policy := &c.policies[c.standings[i].policy]
		r = r.set(policy.packed, policy.entry(c.standings[i].after), memory)
	}
	return r
}

// restandMany is restand for many standings. The old roll-up is valid.
func (c *changes) restandMany(d *movedDevice) packedRollup {
	r, _ := parseRollup(string(d.old))
	for i := d.first; i != none; i = c.standings[i].next {
		r = r.set(c.policies[c.standings[i].policy].packed.text(), c.standings[i].after)
	}
	return packedRollup(r.encode())
}

// write puts all changes into the transaction.
func (c *changes) write(ctx context.Context, pipe redis.Pipeliner, memory *command) {
	for _, t := range []*tally{&c.counts, &c.worst, &c.days, &c.graceDays} {
		t.write(ctx, pipe, memory)
	}
	for _, s := range []*sorted{&c.grace, &c.attention, &c.devices} {
		s.write(ctx, pipe, memory)
	}
	start := memory.begin("hset", &c.rollupKey)
	for i := range c.moved {
		if d := &c.moved[i]; d.new != d.old && d.new != "" {
			memory.args = append(memory.args, &d.id, (*string)(&d.new))
		}
	}
	memory.send(ctx, pipe, start)
	start = memory.begin("hdel", &c.rollupKey)
	for i := range c.moved {
		if d := &c.moved[i]; d.new != d.old && d.new == "" {
			memory.args = append(memory.args, &d.id)
		}
	}
	memory.send(ctx, pipe, start)
}
