package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/complianced/complianced/compliance"
)

// CompareOptions say how a state is compared with one that was rebuilt.
type CompareOptions struct {
	// Touched is as in [VerifyOptions]. Required.
	Touched func(ctx context.Context, b compliance.Bucket, from, to compliance.Floor) ([]compliance.Key, error)
	// Whole says that the stream of a bucket holds all reports that were ever merged.
	// Of one that does not, the records are compared of which it holds every version.
	// Required.
	Whole func(compliance.Bucket) bool
	// Found, where not nil, hears of each difference.
	Found func(Difference)
	// Patience is how long reports may keep two records apart. Defaults to a minute.
	Patience time.Duration
}

// Compared is the result.
type Compared struct {
	// Records is how many records and tombstones were compared, and Passed over how
	// many could not be, because the stream does not hold all their versions.
	Records     int
	PassedOver  int
	Differences int
}

// ErrApart says that reports came too fast for the rebuilt state to follow.
var ErrApart = errors.New("the rebuilt state does not come as far as the one that it is compared with")

// Compare compares every record and tombstone with the one in a state that was rebuilt
// from the streams: whether its key is there, its type, and its fields. Store times of
// tombstones, and tombstones that are to be taken away, are no differences. What follows
// from the records is left to Verify.
//
// Reports may be merged into both states. A record that differs is compared again, in
// one moment of either state, until no report concerns it that only one of them holds.
func (r *Redis) Compare(ctx context.Context, rebuilt *Redis, options CompareOptions) (Compared, error) {
	if options.Patience <= 0 {
		options.Patience = time.Minute
	}
	c := &comparison{live: r, rebuilt: rebuilt, options: options, suspects: map[compliance.Bucket]map[compliance.Key]bool{}, passed: map[string]bool{}}
	if err := c.survey(ctx, r, rebuilt, true); err != nil {
		return c.result, fmt.Errorf("compare records: %w", err)
	}
	if err := c.survey(ctx, rebuilt, r, false); err != nil {
		return c.result, fmt.Errorf("compare records: %w", err)
	}
	for _, b := range slices.Sorted(maps.Keys(c.suspects)) {
		for keys := range slices.Chunk(slices.Collect(maps.Keys(c.suspects[b])), maxConfirmed) {
			if err := c.confirm(ctx, b, keys); err != nil {
				return c.result, fmt.Errorf("bucket %02x: %w", int(b), err)
			}
		}
	}
	c.result.PassedOver = len(c.passed)
	return c.result, nil
}

// maxConfirmed is how many records are read in one moment.
const maxConfirmed = 200

type comparison struct {
	live, rebuilt *Redis
	options       CompareOptions

	mu       sync.Mutex
	suspects map[compliance.Bucket]map[compliance.Key]bool
	// passed are the keys of the records that are passed over.
	passed map[string]bool
	result Compared
}

// survey looks at every record of one state, and at those of the other by the same
// names. What differs is suspect.
func (c *comparison) survey(ctx context.Context, of, other *Redis, count bool) error {
	return of.eachServer(ctx, func(ctx context.Context, server *redis.Client) error {
		for cursor := uint64(0); ; {
			names, next, err := server.Scan(ctx, cursor, keyPrefix+"{*", scanCount).Result()
			if err != nil {
				return err
			}
			names = slices.DeleteFunc(names, func(name string) bool { _, ok := placeOf(c.live.layout, name); return !ok })
			here, err := readImages(ctx, server, names)
			if err != nil {
				return err
			}
			there, err := readImages(ctx, other.client, names)
			if err != nil {
				return err
			}
			live, rebuilt := here, there
			if of == c.rebuilt {
				live, rebuilt = there, here
			}
			c.suspect(names, live, rebuilt)
			if count {
				c.count(here)
			}
			if cursor = next; cursor == 0 {
				return nil
			}
		}
	})
}

func (c *comparison) count(images []image) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, i := range images {
		if i.there {
			c.result.Records++
		}
	}
}

func (c *comparison) suspect(names []string, live, rebuilt []image) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, name := range names {
		at, _ := placeOf(c.live.layout, name)
		if live[i].equal(rebuilt[i]) {
			continue
		}
		if !c.options.Whole(at.bucket) && beyond(live[i], rebuilt[i]) {
			c.passed[name] = true
			continue
		}
		if c.suspects[at.bucket] == nil {
			c.suspects[at.bucket] = map[compliance.Key]bool{}
		}
		c.suspects[at.bucket][at.key] = true
	}
}

// beyond says that the stream does not hold every version of a record: what it makes of
// it has other ones, or is none.
func beyond(live, rebuilt image) bool {
	have, readable := live.record()
	want, _ := rebuilt.record()
	return want.Empty() || readable && !have.Empty() && have.Versions != want.Versions
}

// image is a record as it is stored; a key of another type has no fields.
type image struct {
	there, hash bool
	fields      map[string]string
}

func (i image) equal(j image) bool {
	return i.there == j.there && i.hash == j.hash && maps.Equal(i.fields, j.fields)
}

// record decodes an image; false where it is none.
func (i image) record() (compliance.Record, bool) {
	reply := make([]any, len(fullFields))
	for n, field := range fullFields {
		if text, ok := i.fields[field]; ok {
			reply[n] = text
		}
	}
	r, err := decode(reply)
	return r, err == nil && i.there == !r.Empty()
}

// readImages reads keys, of whatever type.
func readImages(ctx context.Context, c redis.Cmdable, names []string) ([]image, error) {
	images := make([]image, len(names))
	if len(names) == 0 {
		return images, nil
	}
	pipe := c.Pipeline()
	replies := make([]*redis.MapStringStringCmd, len(names))
	for i, name := range names {
		replies[i] = pipe.HGetAll(ctx, name)
	}
	_, _ = pipe.Exec(ctx) // Every command's own error is looked at.
	for i, reply := range replies {
		fields, err := reply.Result()
		switch {
		case isWrongType(err):
			images[i] = image{there: true}
		case err != nil:
			return nil, err
		default:
			images[i] = image{there: len(fields) > 0, hash: len(fields) > 0, fields: fields}
		}
	}
	return images, nil
}

// confirm compares records until no report stands between the two states of them.
func (c *comparison) confirm(ctx context.Context, b compliance.Bucket, keys []compliance.Key) error {
	deadline := time.Now().Add(c.options.Patience)
	for attempt := 0; ; attempt++ {
		live, liveAt, err := c.live.moment(ctx, b, keys)
		if err != nil {
			return err
		}
		rebuilt, rebuiltAt, err := c.rebuilt.moment(ctx, b, keys)
		if err != nil {
			return err
		}
		apart, err := c.apart(ctx, b, liveAt, rebuiltAt)
		if err != nil {
			return err
		}
		var left []compliance.Key
		for i, key := range keys {
			if apart == nil || apart[key] {
				left = append(left, key)
				continue
			}
			c.judge(b, key, live[i], rebuilt[i], later(liveAt.Stored, rebuiltAt.Stored))
		}
		if keys = left; len(keys) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return ErrApart
		}
		if err := c.rebuilt.pause(ctx, min(attempt, 3), ErrApart); err != nil {
			return err
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// apart returns the records that reports concern which one floor covers and the other
// does not; nil where that cannot be told, because one of the buckets is merged again.
func (c *comparison) apart(ctx context.Context, b compliance.Bucket, x, y compliance.Floor) (map[compliance.Key]bool, error) {
	if !x.SameStream(y) || x.Repair || y.Repair {
		return nil, nil //nolint:nilnil // All of them may be.
	}
	if x.Sequence > y.Sequence {
		x, y = y, x
	}
	apart := map[compliance.Key]bool{}
	if x.Sequence == y.Sequence {
		return apart, nil
	}
	keys, err := c.options.Touched(ctx, b, x, y)
	for _, key := range keys {
		apart[key] = true
	}
	return apart, err
}

// moment reads records and the floor at one moment of a bucket.
func (r *Redis) moment(ctx context.Context, b compliance.Bucket, keys []compliance.Key) (images []image, floor compliance.Floor, err error) {
	k := keysOf(b)
	master, err := r.master(ctx, k.floor)
	if err != nil {
		return nil, floor, err
	}
	names := make([]string, len(keys))
	for i, key := range keys {
		names[i] = k.recordName(key)
	}
	for range maxSteps {
		err = master.Watch(ctx, func(tx *redis.Tx) (err error) {
			if floor, err = readFloor(tx.Get(ctx, k.floor)); err != nil {
				return err
			}
			if images, err = readImages(ctx, tx, names); err != nil {
				return err
			}
			return stand(ctx, tx, k.floor)
		}, k.floor)
		if !errors.Is(err, redis.TxFailedErr) {
			return images, floor, err
		}
	}
	return nil, floor, ErrRestless
}

// judge says whether two records that no report keeps apart differ.
func (c *comparison) judge(b compliance.Bucket, key compliance.Key, live, rebuilt image, at time.Time) {
	if live.equal(rebuilt) {
		return
	}
	have, readable := live.record()
	want, _ := rebuilt.record()
	keep := c.rebuilt.options.Tombstones
	if readable && (have.Tombstone() || have.Empty()) && (want.Tombstone() || want.Empty()) {
		have, want := have, want
		have.StoredMillis, want.StoredMillis = 0, 0
		if have == want {
			return // At which of its reports a tombstone stands decides nothing but its end.
		}
	}
	if readable && want.Expired(at, keep) && have.Empty() || want.Empty() && have.Expired(at, keep) {
		return
	}
	if !c.options.Whole(b) && beyond(live, rebuilt) {
		c.passed[recordKey(b, key)] = true
		return
	}
	c.result.Differences++
	if c.options.Found == nil {
		return
	}
	d := Difference{Bucket: b, Kind: KindRecord, Policy: key.Policy, Device: key.Device, Want: say(&want, key), Have: say(&have, key)}
	switch {
	case !live.there:
		d.Have = sayNone
	case !live.hash:
		d.Have = sayOtherType
	case !readable:
		d.Have = sayUnreadable
	case d.Have == d.Want:
		d.Want, d.Have = difference(rebuilt.fields, live.fields)
	}
	c.options.Found(d)
}

// say shows a record.
func say(r *compliance.Record, key compliance.Key) string {
	switch {
	case r.Empty():
		return sayNone
	case r.Tombstone():
		return "a tombstone"
	}
	r.Values[compliance.ID] = compliance.TextValue(key.Device)
	return string(bytes.TrimSpace(r.JSON(key.Device)))
}

// difference shows the stored fields in which two records differ.
func difference(want, have map[string]string) (wants, haves string) {
	var w, h []string
	for _, field := range slices.Compact(slices.Sorted(func(yield func(string) bool) {
		for _, of := range []map[string]string{want, have} {
			for field := range of {
				if !yield(field) {
					return
				}
			}
		}
	})) {
		if want[field] != have[field] {
			w = append(w, field+"="+want[field])
			h = append(h, field+"="+have[field])
		}
	}
	return strings.Join(w, " "), strings.Join(h, " ")
}
