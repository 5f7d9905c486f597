package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/complianced/complianced/compliance"
)

// Query says which records a list has. The zero Query has all.
type Query struct {
	// Policy and Device, where not empty, are the only ones.
	Policy string
	Device string
	// Statuses are the only ones of the records. Defaults to all.
	Statuses []compliance.Status
	// Worst, where not nil, is the worst status of the devices whose records are
	// listed.
	Worst *compliance.Status
	// Devices leaves of each device one record: of those with its worst status the
	// first by policy. It goes with neither Policy nor Device.
	Devices bool
	// InGrace leaves those that are in their grace period.
	InGrace bool
	// Stale leaves those whose newest event is more than Validity UTC days old.
	Stale    bool
	Validity int
	// Since, where not zero, leaves those whose newest event is not before it, and
	// Until those whose newest event is not after it.
	Since, Until time.Time
	// Match, where not nil, leaves those for which it is true.
	Match func(*Item) bool
	// Bucket, where not nil, is the only one. It does not go with Device.
	Bucket *compliance.Bucket
}

// All reports whether the query has all records.
func (q *Query) All() bool {
	return q.Policy == "" && q.Device == "" && len(q.Statuses) == 0 && q.Worst == nil && !q.Devices && !q.InGrace && !q.Stale &&
		q.Since.IsZero() && q.Until.IsZero() && q.Match == nil && q.Bucket == nil
}

// Item is a record in a list.
type Item struct {
	Key    compliance.Key
	Record compliance.Record
	Facts  compliance.Facts
}

// Page is a part of a list.
type Page struct {
	Items []Item
	// Next is the cursor of what follows; empty at the end of the list.
	Next string
	// Unreadable is how many records could not be read and are left out: Verify names
	// them.
	Unreadable int
}

// Limits of a page. The work that it takes is bounded whatever the query leaves out:
// 1,500 entries of an index or 600 records that are left out take some 10 ms.
const (
	// MaxPage is the greatest number of records in a page.
	MaxPage = 1000

	maxEntries = 1500
	maxLeftOut = 600
	// perStep is how many entries one range of an index gives, perRead how many
	// records one pipeline reads.
	perStep = 500
	perRead = 250
	// firstWidth and maxWidth are how many ranges of an index one pipeline reads: few
	// where they are long, many where they are short.
	firstWidth = 2
	maxWidth   = 64
)

// List returns a page of the records of a query at an instant: after the cursor of the
// page before, where that is not empty, and at most limit of them; 0 is [MaxPage],
// which is also the greatest. A page may have fewer, also none, and still not be the
// last one: the work that one takes is bounded.
//
// The order is that of buckets and, within one, of devices and of policies. With a
// policy, and statuses that all need attention (nonCompliant alone does, where InGrace
// asks for it), it is that of buckets, of the numbers of the statuses, and of devices in
// an order of their own: then an index has these records beside each other, and others
// are not looked at.
//
// A cursor names a place in this order, not an offset. So a record that does not change
// is listed once, whatever comes and goes beside it between two pages; one whose status
// changes meanwhile may be listed with both or none of them. A cursor can be used with
// any query of the same order. The error is [ErrCursor] where it is of another one.
//
// What an index says is never believed: it leads to a record, and the record decides.
func (r *Redis) List(ctx context.Context, q Query, cursor string, limit int, now time.Time) (Page, error) {
	l := listing{store: r, query: q, now: now, width: firstWidth, limit: limit, end: r.layout.Buckets}
	if limit < 1 || limit > MaxPage {
		l.limit = MaxPage
	}
	l.want()
	order, step := l.way()
	at, err := parseCursor(order, cursor, r.layout.Buckets)
	if err != nil {
		return Page{}, err
	}
	if q.Bucket != nil {
		if l.end = int(*q.Bucket) + 1; cursor == "" {
			at.bucket = int(*q.Bucket)
		}
	}
	if len(l.statuses) == 0 {
		return Page{}, nil // None is in its grace period but those that are nonCompliant.
	}
	return l.run(ctx, at, step)
}

// listing is a page that is being made.
type listing struct {
	store *Redis
	query Query
	now   time.Time
	limit int
	// end is the bucket after the last one.
	end int
	// statuses are those that records can have, in ascending order.
	statuses []compliance.Status
	// width is how many ranges the next step reads at once.
	width int
	// level is how many entries with the score of its end the last step read.
	level int
	// entries and records are how many were looked at.
	entries, records int
	page             Page
}

// candidate is a record that an index leads to.
type candidate struct {
	key compliance.Key
	// place is that of the record.
	place place
	// only, where not nil, is the status that the record must have, because the index
	// has a place for each.
	only *compliance.Status
}

// stride is a part of an index.
type stride struct {
	found []candidate
	// end is the place after all that was looked at; last says that nothing follows.
	end  place
	last bool
}

// want finds out which statuses are asked for.
func (l *listing) want() {
	for _, s := range compliance.Statuses() {
		if len(l.query.Statuses) > 0 && !slices.Contains(l.query.Statuses, s) ||
			l.query.InGrace && s != compliance.StatusNonCompliant {
			continue
		}
		l.statuses = append(l.statuses, s)
	}
}

// way chooses the index.
func (l *listing) way() (order, func(context.Context, place) (stride, error)) {
	calm := func(s compliance.Status) bool { return !s.NeedsAttention() }
	switch {
	case l.query.Device != "":
		return byDevice, l.ofDevice
	case l.query.Bucket == nil && l.query.Policy != "" && l.query.Worst == nil && !slices.ContainsFunc(l.statuses, calm):
		return byStatus, l.ofAttention
	}
	return byDevice, l.ofDevices
}

func (l *listing) run(ctx context.Context, at place, next func(context.Context, place) (stride, error)) (Page, error) {
	for {
		s, err := next(ctx, at)
		if err != nil {
			return Page{}, fmt.Errorf("list records: %w", err)
		}
		moved := s.end != at
		for len(s.found) > 0 {
			n, err := l.take(ctx, s.found)
			if err != nil {
				return Page{}, fmt.Errorf("list records: %w", err)
			}
			at, s.found = s.found[n-1].place, s.found[n:]
			if (len(s.found) > 0 || !s.last) && (len(l.page.Items) == l.limit || l.records-len(l.page.Items) >= maxLeftOut) {
				l.page.Next = at.cursor()
				return l.page, nil
			}
		}
		if s.last {
			return l.page, nil
		}
		if at = s.end; l.entries >= maxEntries && moved {
			l.page.Next = at.cursor()
			return l.page, nil
		}
	}
}

// take reads the first of these records and takes those that the query has. It returns
// how many it came past: no further than to the last that the page has room for.
func (l *listing) take(ctx context.Context, found []candidate) (int, error) {
	const least = 50 // Fewer are not worth a round trip.
	found = found[:min(len(found), perRead, max(l.limit-len(l.page.Items), least))]
	pipe := l.store.client.Pipeline()
	replies := make([]*redis.SliceCmd, len(found))
	for i, c := range found {
		replies[i] = pipe.HMGet(ctx, recordKey(compliance.Bucket(c.place.bucket), c.key), fullFields...)
	}
	_, _ = pipe.Exec(ctx) // Every command's own error is looked at.
	l.records += len(found)
	for i, c := range found {
		fields, err := replies[i].Result()
		if err == nil {
			err = l.takeOne(c, fields)
		}
		switch {
		case isWrongType(err), errors.Is(err, errRecord):
			l.page.Unreadable++
		case err != nil:
			return 0, err
		}
		if len(l.page.Items) == l.limit {
			return i + 1, nil
		}
	}
	return len(found), nil
}

func (l *listing) takeOne(c candidate, fields []any) error {
	record, err := decode(fields)
	if err != nil || !record.Exists() {
		return err
	}
	record.Values[compliance.ID] = compliance.TextValue(c.key.Device)
	if item := (Item{Key: c.key, Record: record, Facts: record.Facts()}); l.has(c, &item) {
		l.page.Items = append(l.page.Items, item)
	}
	return nil
}

// has reports whether the query has a record.
func (l *listing) has(c candidate, item *Item) bool {
	f := item.Facts
	switch {
	case c.only != nil && f.Status != *c.only, !slices.Contains(l.statuses, f.Status),
		l.query.InGrace && !f.InGrace(l.now),
		l.query.Stale && !f.Stale(l.now, l.query.Validity):
		return false
	}
	newest := item.Record.Newest().Time.Time()
	return (l.query.Since.IsZero() || !newest.Before(l.query.Since)) && (l.query.Until.IsZero() || !newest.After(l.query.Until)) &&
		(l.query.Match == nil || l.query.Match(item))
}

// widen finds out how many ranges to read next, when some were read and all of them
// together gave n entries.
func (l *listing) widen(n, enough int) {
	if n < enough {
		l.width = min(2*l.width, maxWidth)
	} else {
		l.width = firstWidth
	}
}

// ofDevices reads the index of devices, and the roll-up of each.
func (l *listing) ofDevices(ctx context.Context, at place) (stride, error) {
	pipe := l.store.client.Pipeline()
	var replies []*redis.StringSliceCmd
	for b := at.bucket; b < min(at.bucket+l.width, l.end); b++ {
		after := "-"
		switch {
		case b > at.bucket || at.device == "":
		case at.policy == "":
			after = "(" + at.device
		default:
			after = "[" + at.device
		}
		replies = append(replies, pipe.ZRangeByLex(ctx, keysOf(compliance.Bucket(b)).devices,
			&redis.ZRangeBy{Min: after, Max: "+", Count: perStep}))
	}
	_, _ = pipe.Exec(ctx)
	end := place{order: byDevice, bucket: at.bucket + len(replies)}
	s := stride{end: end, last: end.bucket == l.end}
	devices := make([][]string, 0, len(replies))
	n := 0
	for i, reply := range replies {
		of, err := reply.Result()
		if isWrongType(err) {
			err = &compliance.CorruptError{Bucket: compliance.Bucket(at.bucket + i), What: "the index of devices"}
		}
		if err != nil {
			return stride{}, err
		}
		l.entries += 1 + len(of)
		n += len(of)
		devices = append(devices, of)
		if len(of) == perStep {
			s.end, s.last = place{order: byDevice, bucket: at.bucket + i, device: of[perStep-1]}, false
			break
		}
	}
	l.widen(n, perStep)
	var err error
	s.found, err = l.rollups(ctx, at, devices)
	return s, err
}

// rollups returns the records of devices; the first of them are those of the bucket of
// a place, the next those of the next bucket.
func (l *listing) rollups(ctx context.Context, at place, devices [][]string) ([]candidate, error) {
	pipe := l.store.client.Pipeline()
	replies := make([]*redis.SliceCmd, len(devices))
	for i, of := range devices {
		if len(of) > 0 {
			replies[i] = pipe.HMGet(ctx, keysOf(compliance.Bucket(at.bucket+i)).rollup, of...)
		}
	}
	_, _ = pipe.Exec(ctx)
	var found []candidate
	for i, of := range devices {
		if len(of) == 0 {
			continue
		}
		texts, err := replies[i].Result()
		if isWrongType(err) {
			err = &compliance.CorruptError{Bucket: compliance.Bucket(at.bucket + i), What: whatRollup}
		}
		if err != nil {
			return nil, err
		}
		for n, device := range of {
			text, _ := texts[n].(string)
			if found, err = l.rollUp(found, at, compliance.Bucket(at.bucket+i), device, text); err != nil {
				return nil, err
			}
		}
	}
	return found, nil
}

// rollUp appends the records of a device that the query may have and that come after a
// place. A device without a roll-up has none.
func (l *listing) rollUp(found []candidate, at place, b compliance.Bucket, device, text string) ([]candidate, error) {
	policies, err := parseRollup(text)
	if err != nil {
		return nil, &compliance.CorruptError{Bucket: b, What: whatRollup}
	}
	worst, ok := policies.worst()
	switch {
	case !ok, l.query.Worst != nil && worst != *l.query.Worst:
		return found, nil
	case l.query.Devices:
		first := slices.IndexFunc(policies, func(s standing) bool { return s.status == worst })
		policies = policies[first : first+1]
	}
	for _, s := range policies {
		if device == at.device && s.policy <= at.policy || l.query.Policy != "" && s.policy != l.query.Policy ||
			!slices.Contains(l.statuses, s.status) {
			continue
		}
		key := compliance.Key{Policy: s.policy, Device: device}
		here := place{order: byDevice, bucket: int(b), device: device, policy: s.policy}
		found = append(found, candidate{key: key, place: here})
	}
	return found, nil
}

// ofDevice reads the roll-up of the one device.
func (l *listing) ofDevice(ctx context.Context, at place) (stride, error) {
	device := l.query.Device
	b := l.store.layout.BucketOf(device)
	if at.bucket > int(b) || at.bucket == int(b) && (at.device > device || at.device == device && at.policy == "") {
		return stride{last: true}, nil
	}
	text, err := l.store.client.HGet(ctx, keysOf(b).rollup, device).Result()
	switch {
	case errors.Is(err, redis.Nil):
		return stride{last: true}, nil
	case isWrongType(err):
		return stride{}, &compliance.CorruptError{Bucket: b, What: whatRollup}
	case err != nil:
		return stride{}, err
	}
	l.entries++
	found, err := l.rollUp(nil, at, b, device, text)
	return stride{found: found, last: true}, err
}
