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
	// Whole says since when the stream of a bucket holds all reports, which is when it
	// was made; the zero time where it has lost some. What it does not hold may have been
	// merged before then: a record with such a version, and with none that is older than
	// what the stream makes of it, is passed over. Required.
	Whole func(compliance.Bucket) time.Time
	// LeaveOut, where not nil, names the policies whose records are not compared.
	LeaveOut func(policy string) bool
	// Found, where not nil, hears of each difference.
	Found func(Difference)
	// Patience is how long reports may keep two records apart. Defaults to 30 s.
	Patience time.Duration
}

// Compared is the result.
type Compared struct {
	// Records is how many records and tombstones there are of the policies that are not
	// left out, and LeftOut how many of the others.
	Records int
	LeftOut int
	// PassedOver is how many of Records could not be compared because the stream does
	// not hold all their versions, and Apart how many because one of the two states had
	// merged a report that the other had not.
	PassedOver  int
	Apart       int
	Differences int
}

// The errors that say why records were not compared.
var (
	// ErrLags says that the state does not come to where the stream is.
	ErrLags = errors.New("the state lags behind the stream, so that records with newer reports cannot be compared: see that complianced serve is running and keeps up, and check again")
	// ErrApart says that reports came too fast for the rebuilt state to follow.
	ErrApart = errors.New("the rebuilt state does not come to where the state is, so that records with newer reports cannot be compared: check again when fewer reports come")
	// ErrMergedAgain says that the floors tell nothing of what both states have.
	ErrMergedAgain = errors.New("the bucket is merged again by complianced serve, or its floor is that of another stream: check again when serve is through")
)

// Compare compares every record and tombstone with the one in a state that was rebuilt
// from the streams: whether its key is there, its type, and its fields. Store times of
// tombstones, and tombstones that are to be taken away, are no differences. What follows
// from the records is left to Verify.
//
// Reports may be merged into both states. A record that differs is compared again, in
// one moment of either state, until no report concerns it that only one of them holds.
func (r *Redis) Compare(ctx context.Context, rebuilt *Redis, options CompareOptions) (Compared, error) {
	if options.Patience <= 0 {
		options.Patience = 30 * time.Second
	}
	c := &comparison{live: r, rebuilt: rebuilt, options: options, suspects: map[compliance.Bucket]map[compliance.Key]bool{}}
	if err := c.survey(ctx, r, rebuilt); err != nil {
		return c.result, fmt.Errorf("compare records: %w", err)
	}
	if err := c.survey(ctx, rebuilt, r); err != nil {
		return c.result, fmt.Errorf("compare records: %w", err)
	}
	for _, b := range slices.Sorted(maps.Keys(c.suspects)) {
		for keys := range slices.Chunk(slices.Collect(maps.Keys(c.suspects[b])), maxConfirmed) {
			if err := c.confirm(ctx, b, keys); err != nil {
				return c.result, fmt.Errorf("bucket %02x: %w", int(b), err)
			}
		}
	}
	return c.result, c.late
}

// maxConfirmed is how many records are read in one moment.
const maxConfirmed = 200

type comparison struct {
	live, rebuilt *Redis
	options       CompareOptions

	mu       sync.Mutex
	suspects map[compliance.Bucket]map[compliance.Key]bool
	result   Compared
	// late is why the first records that were not compared in time were not. After
	// them, no time is spent on waiting.
	late error
}

// survey looks at every record of one state, and at those of the other by the same
// names. What differs is suspect.
func (c *comparison) survey(ctx context.Context, of, other *Redis) error {
	return of.eachServer(ctx, func(ctx context.Context, server *redis.Client) error {
		for cursor := uint64(0); ; {
			names, next, err := server.Scan(ctx, cursor, keyPrefix+"{*", scanCount).Result()
			if err != nil {
				return err
			}
			places := c.places(names, of)
			here, err := readImages(ctx, server, recordNames(places))
			if err != nil {
				return err
			}
			there, err := readImages(ctx, other.client, recordNames(places))
			if err != nil {
				return err
			}
			if of == c.live {
				c.suspectOfLive(places, here, there)
			} else {
				c.suspectOfRebuilt(places, there, here)
			}
			if cursor = next; cursor == 0 {
				return nil
			}
		}
	})
}

// places are those of the records that are compared.
func (c *comparison) places(names []string, of *Redis) []stored {
	c.mu.Lock()
	defer c.mu.Unlock()
	places := make([]stored, 0, len(names))
	for _, name := range names {
		at, ok := placeOf(c.live.layout, name)
		switch {
		case !ok:
		case c.options.LeaveOut == nil || !c.options.LeaveOut(at.key.Policy):
			places = append(places, at)
		case of == c.live:
			c.result.LeftOut++
		}
	}
	return places
}

func recordNames(places []stored) []string {
	names := make([]string, len(places))
	for i, at := range places {
		names[i] = recordKey(at.bucket, at.key)
	}
	return names
}

// suspectOfLive counts the records of the state, and finds those that differ.
func (c *comparison) suspectOfLive(places []stored, live, rebuilt []image) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, at := range places {
		if live[i].there {
			c.result.Records++
		}
		switch {
		case live[i].equal(rebuilt[i]):
		case c.beyond(at.bucket, live[i], rebuilt[i]):
			c.result.PassedOver++
		default:
			c.suspect(at)
		}
	}
}

// suspectOfRebuilt finds the records that are not there.
func (c *comparison) suspectOfRebuilt(places []stored, live, rebuilt []image) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, at := range places {
		if !live[i].there && rebuilt[i].there {
			c.suspect(at)
		}
	}
}

func (c *comparison) suspect(at stored) {
	if c.suspects[at.bucket] == nil {
		c.suspects[at.bucket] = map[compliance.Key]bool{}
	}
	c.suspects[at.bucket][at.key] = true
}

// beyond says that a record differs from what the stream makes of it because it holds
// versions that the stream does not hold any more: none is older, none that is the same
// has another value, and each that is newer can be from before the stream was whole.
func (c *comparison) beyond(b compliance.Bucket, live, rebuilt image) bool {
	since := c.options.Whole(b)
	have, readable := live.record()
	want, _ := rebuilt.record()
	if !readable {
		return want.Empty() && since.IsZero()
	}
	newer := false
	for p, version := range have.Versions {
		switch order := version.Compare(want.Versions[p]); {
		case order < 0, order == 0 && have.Values[p] != want.Values[p],
			order > 0 && !since.IsZero() && version.Time.Time().After(since.Add(compliance.MaxFuture)):
			return false
		case order > 0:
			newer = true
		}
	}
	return newer
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
		left, late, err := c.judgeAll(ctx, b, keys)
		if keys = left; err != nil || len(keys) == 0 {
			return err
		}
		if c.late != nil || time.Now().After(deadline) {
			c.result.Apart += len(keys)
			if c.late == nil {
				c.late = fmt.Errorf("bucket %02x: %w", int(b), late)
			}
			return nil
		}
		if err := c.rebuilt.pause(ctx, min(attempt, 3), late); err != nil {
			return err
		}
	}
}

// judgeAll judges records, each state of them at one moment. It returns those that
// reports keep apart, and why.
func (c *comparison) judgeAll(ctx context.Context, b compliance.Bucket, keys []compliance.Key) (left []compliance.Key, late, err error) {
	live, liveAt, err := c.live.moment(ctx, b, keys)
	if err != nil {
		return nil, nil, err
	}
	rebuilt, rebuiltAt, err := c.rebuilt.moment(ctx, b, keys)
	if err != nil {
		return nil, nil, err
	}
	apart, err := c.apart(ctx, b, liveAt, rebuiltAt)
	if err != nil {
		return nil, nil, err
	}
	for i, key := range keys {
		if apart == nil || apart[key] {
			left = append(left, key)
			continue
		}
		c.judge(b, key, live[i], rebuilt[i], later(liveAt.Stored, rebuiltAt.Stored))
	}
	return left, lateness(liveAt, rebuiltAt), nil
}

// lateness says which of two states has to come to where the other is.
func lateness(live, rebuilt compliance.Floor) error {
	switch {
	case incomparable(live, rebuilt):
		return ErrMergedAgain
	case live.Sequence < rebuilt.Sequence:
		return ErrLags
	}
	return ErrApart
}

func incomparable(x, y compliance.Floor) bool { return !x.SameStream(y) || x.Repair || y.Repair }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// apart returns the records that reports concern which one floor covers and the other
// does not; nil where that cannot be told, because one of the buckets is merged again.
func (c *comparison) apart(ctx context.Context, b compliance.Bucket, x, y compliance.Floor) (map[compliance.Key]bool, error) {
	if incomparable(x, y) {
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
	if c.beyond(b, live, rebuilt) {
		c.result.PassedOver++
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
