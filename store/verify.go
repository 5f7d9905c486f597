package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/complianced/complianced/compliance"
)

// VerifyOptions say what a check may ask, and what it does about what it finds.
type VerifyOptions struct {
	// Touched returns the records of a bucket that reports concern which one floor of
	// it covers and an earlier one does not. Both are of the same stream. It may
	// name more, and a record more than once. Required.
	Touched func(ctx context.Context, b compliance.Bucket, from, to compliance.Floor) ([]compliance.Key, error)
	// Repair puts right what follows from the records. Defaults to false.
	Repair bool
	// Before returns the floor before the first report of a bucket's stream, marked
	// as a repair. With Repair it is required.
	Before func(ctx context.Context, b compliance.Bucket) (compliance.Floor, error)
	// Found, where not nil, hears of each difference.
	Found func(Difference)
	// Progress, where not nil, hears how many buckets are checked.
	Progress func(done int)
}

func (o *VerifyOptions) found(d Difference) {
	if o.Found != nil {
		o.Found(d)
	}
}

// Verified is the result of a check.
type Verified struct {
	// Records is how many records and tombstones were there.
	Records int
	// Differences is how many were found, and Mended how many of them a repair put
	// right. Of the others, records that are missing or unreadable wait until their
	// buckets are merged again, and keys out of place for somebody who looks at them.
	Differences int
	Mended      int
	// Again are the buckets whose floors went back, so that they are merged again.
	Again []compliance.Bucket
}

// ErrRestless says that a bucket changed too often to be checked.
var ErrRestless = errors.New("it changed in other ways than by reports each time that it was read: it is merged again, or other workers set it back; check again later")

// Limits of the check of one bucket.
const (
	// maxBegins is how often a bucket is read from the beginning.
	maxBegins = 5
	// maxSteps is how often in a row what moved is read again because somebody wrote
	// meanwhile. A step takes four round trips.
	maxSteps = 2000
	// maxSuspects is how many entries that differ are read again in a step, and
	// minSuspects how many where writers leave no time for more.
	maxSuspects = 5000
	minSuspects = 100
)

// Verify derives anew all that follows from the records, bucket by bucket, and compares
// it with what is there, while reports are merged. Whatever it tells was so at one
// moment: a bucket is read in the time that it takes; then what reports concerned
// meanwhile is read again, until nobody writes while that is done. Where a bucket does
// not come to rest, the others are checked all the same, and the error is [ErrRestless].
//
// With Repair, what follows from the records is put right in one fenced step, in which
// all that can have moved since is read once more, and the floor gets another write id
// and nothing else, so that its owner adopts it.
// Where a record is not there or is none, the floor goes back to before the first report
// of the stream, so that the bucket is merged again.
//
// Keys read: all but cs:|meta. Keys written, with Repair alone: those of the bucket but
// its gaps that are right.
func (r *Redis) Verify(ctx context.Context, options VerifyOptions) (Verified, error) {
	var result Verified
	strays, err := r.strays(ctx)
	if err != nil {
		return result, fmt.Errorf("look for records: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(strays.displaced)) {
		result.Differences++
		options.found(strays.displaced[name])
	}
	var restless error
	for b := range compliance.Bucket(r.layout.Buckets) {
		c := &check{store: r, options: options, bucket: b, strays: strays.records[b], view: newView(b, r.layout)}
		err := c.run(ctx)
		c.report(&result)
		if err != nil {
			err = fmt.Errorf("bucket %02x: %w", int(b), err)
		}
		switch {
		case errors.Is(err, ErrRestless):
			restless = cmp.Or(restless, err) // The others can be checked.
		case err != nil:
			return result, err
		}
		if options.Progress != nil {
			options.Progress(int(b) + 1)
		}
	}
	return result, restless
}

// check is that of one bucket.
type check struct {
	store   *Redis
	options VerifyOptions
	bucket  compliance.Bucket
	strays  []compliance.Key

	master *redis.Client
	view   *view
	// base is the floor up to which everything in the view is right that no later
	// report concerns.
	base compliance.Floor

	found []Difference
	again bool
}

// report adds what the check found.
func (c *check) report(to *Verified) {
	to.Records += len(c.view.records)
	to.Differences += len(c.found)
	if c.options.Repair {
		for _, d := range c.found {
			if d.Kind.Mendable() {
				to.Mended++
			}
		}
	}
	if c.again {
		to.Again = append(to.Again, c.bucket)
	}
	for _, d := range c.found {
		c.options.found(d)
	}
}

// run begins until the bucket lets itself be read.
func (c *check) run(ctx context.Context) error {
	for n := 0; ; n++ {
		err := c.begin(ctx)
		if err == nil || n == maxBegins || ctx.Err() != nil {
			return err
		}
		c.store.noticeMoved(ctx, err)
		if err := c.store.pause(ctx, n, err); err != nil {
			return err
		}
	}
}

func (c *check) begin(ctx context.Context) (err error) {
	if c.master, err = c.store.master(ctx, floorKey(c.bucket)); err != nil {
		return err
	}
	if c.base, err = readFloor(c.master.Get(ctx, floorKey(c.bucket))); err != nil {
		return err
	}
	c.view = newView(c.bucket, c.store.layout)
	if err := c.view.readAll(ctx, c.master, c.strays); err != nil {
		return err
	}
	return c.settle(ctx)
}

// settle reads again what moved, until nobody wrote while that was done. What differs
// then is read once more in such steps, with the records that it names: reports are
// not all that moves a bucket, expired tombstones are taken away too. Only what still
// differs in a step of its own is a difference, and only such is put right.
func (c *check) settle(ctx context.Context) error {
	confirmed := map[entryID]struct{}{}
	var s step
	for failed, size := 0, maxSuspects; failed < maxSteps; {
		stood, err := c.take(ctx, &s)
		if err != nil {
			return err
		}
		if !stood {
			failed, size = failed+1, max(size/2, minSuspects)
			if s.before.Absent() {
				s.suspects = s.suspects[:min(len(s.suspects), size)]
			}
			continue
		}
		failed, size = 0, min(2*size, maxSuspects)
		c.found = append(c.found, s.found...)
		c.again = c.again || s.again
		differ := c.view.compare()
		var pending []entryID
		confirmed, pending = sift(differ, confirmed, s.suspects)
		switch {
		case len(pending) > 0:
			s = step{suspects: pending[:min(len(pending), size)]}
		case !c.options.Repair:
			c.found, _ = c.describe(differ)
			return nil
		case len(differ) == 0 && !c.harmed():
			return nil
		default:
			before, err := c.options.Before(ctx, c.bucket)
			if err != nil {
				return err
			}
			s = step{suspects: ofTombstones(differ), wrong: differ, before: before}
		}
	}
	return ErrRestless
}

// ofTombstones returns the entries that may move without a report.
func ofTombstones(all []entryID) []entryID {
	return slices.DeleteFunc(slices.Clone(all), func(e entryID) bool { return e.part != partTombstones })
}

// sift tells those entries that differed before, or were read again just now, from the
// others.
func sift(differ []entryID, before map[entryID]struct{}, again []entryID) (confirmed map[entryID]struct{}, pending []entryID) {
	for _, e := range again {
		before[e] = struct{}{}
	}
	confirmed = map[entryID]struct{}{}
	for _, e := range differ {
		if _, ok := before[e]; ok {
			confirmed[e] = struct{}{}
		} else {
			pending = append(pending, e)
		}
	}
	return confirmed, pending
}

// harmed says that a whole key is wrong: it has another type, or it is the floor.
func (c *check) harmed() bool {
	return slices.Contains(c.view.broken[:], true) || c.noFloor()
}

func (c *check) noFloor() bool {
	return c.base.Unreadable() || c.base.Absent() && len(c.view.records) > 0
}

// describe says what is wrong with entries and whole keys.
func (c *check) describe(wrong []entryID) (list []Difference, lost bool) {
	if c.noFloor() {
		d := Difference{Bucket: c.bucket, Kind: KindFloor, Want: "a floor", Have: sayNone}
		if c.base.Unreadable() {
			d.Have = sayUnreadable
		}
		list, lost = append(list, d), true
	}
	for p, broken := range c.view.broken {
		if broken {
			want := "a sorted set"
			if part(p).isHash() {
				want = "a hash"
			}
			list = append(list, Difference{Bucket: c.bucket, Kind: part(p).kind(), Want: want, Have: sayOtherType})
		}
	}
	for _, e := range wrong {
		var gone bool
		list, gone = c.view.describe(list, e)
		lost = lost || gone
	}
	return list, lost
}

// step is one reading under WATCH.
type step struct {
	// suspects are entries that differed, to be read again.
	suspects []entryID
	// wrong are those that differed when they were read again, to be put right.
	wrong []entryID
	// before is the floor before the stream; absent where nothing is to be written.
	before compliance.Floor

	// found and again are what was put right.
	found []Difference
	again bool
}

// take takes a step. It reports false where somebody wrote meanwhile.
func (c *check) take(ctx context.Context, s *step) (stood bool, err error) {
	err = c.master.Watch(ctx, func(tx *redis.Tx) error {
		have, err := askFloor(ctx, tx, c.bucket).read()
		if err != nil {
			return err
		}
		floor := have.Floor
		floor.Torn = false // That the workers see to; what is read here is compared all the same.
		moved, err := c.since(ctx, floor)
		if err != nil {
			return err
		}
		if err := c.view.refresh(ctx, tx, moved, s.suspects); err != nil {
			return err
		}
		if !s.before.Absent() {
			if done, err := c.mend(ctx, tx, s, &have); done || err != nil {
				return err
			}
		}
		return stand(ctx, tx, c.view.keys.floor)
	}, c.view.keys.floor)
	if errors.Is(err, redis.TxFailedErr) {
		return false, nil
	}
	return err == nil, err
}

// stand says whether nobody has written to a bucket since its floor is watched: the
// command does nothing, EXEC tells.
func stand(ctx context.Context, tx *redis.Tx, floor string) error {
	_, err := tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.Exists(ctx, floor)
		return nil
	})
	return err
}

// since returns the records that reports concern which the floor covers and the base
// does not, and makes the floor the base.
func (c *check) since(ctx context.Context, floor compliance.Floor) ([]compliance.Key, error) {
	if floor.Equal(c.base) {
		return nil, nil
	}
	if !floor.SameStream(c.base) || floor.Sequence < c.base.Sequence || floor.Repair {
		return nil, ErrRestless // The bucket is merged again.
	}
	var keys []compliance.Key
	if floor.Sequence > c.base.Sequence {
		var err error
		if keys, err = c.options.Touched(ctx, c.bucket, c.base, floor); err != nil {
			return nil, err
		}
	}
	c.base = floor
	return keys, nil
}

// mend puts right what still differs in this step, on top of the floor that the bucket
// has. It reports false where nothing is to be put right.
func (c *check) mend(ctx context.Context, tx *redis.Tx, s *step, have *sealed) (done bool, err error) {
	var wrong []entryID
	for _, e := range s.wrong {
		if c.view.wrong(e) {
			wrong = append(wrong, e)
		}
	}
	found, lost := c.describe(wrong)
	if len(found) == 0 {
		return false, nil
	}
	to := c.base
	if lost || to.Absent() {
		to, s.again = s.before, true
	}
	to.Write = "verify-" + uuid.NewString()[:8]
	pipe := tx.TxPipeline()
	have.reseal(ctx, pipe, c.view.keys.seal, &compliance.Transaction{From: c.base, To: to})
	c.view.mend(ctx, pipe, wrong)
	pipe.Set(ctx, c.view.keys.floor, formatFloor(to), 0)
	if cmds, err := pipe.Exec(ctx); err != nil {
		if redis.IsExecAbortError(err) {
			err = refusal(cmds, err)
		}
		s.again = false
		return true, err
	}
	c.base, s.found = to, found
	c.view.mended(wrong)
	return true, nil
}
