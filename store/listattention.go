package store

import (
	"cmp"
	"context"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"

	"github.com/complianced/complianced/compliance"
)

// ofAttention reads the index of what needs attention: of each bucket the range of
// each status.
func (l *listing) ofAttention(ctx context.Context, at place) (stride, error) {
	pipe := l.store.client.Pipeline()
	var ranges []place
	var replies []*redis.ZSliceCmd
	// Those with the score of the place are read again, and more: an offset would leave
	// out an entry where one before it went meanwhile.
	enough := l.level + min(perStep, max(2*(l.limit-len(l.page.Items)), 50))
	next := at
	for next.bucket < l.store.layout.Buckets && len(ranges) < l.width {
		i := slices.IndexFunc(l.statuses, func(s compliance.Status) bool { return s >= next.status })
		if i < 0 {
			next = place{order: byStatus, bucket: next.bucket + 1}
			continue
		}
		if status := l.statuses[i]; status != next.status {
			next = place{order: byStatus, bucket: next.bucket, status: status}
		}
		first, last := attentionRange(l.query.Policy, next.status)
		if next.device != "" {
			first, _ = l.past(next)
		}
		replies = append(replies, pipe.ZRangeByScoreWithScores(ctx, keysOf(compliance.Bucket(next.bucket)).attention, &redis.ZRangeBy{
			Min: strconv.FormatInt(first, 10), Max: strconv.FormatInt(last, 10), Count: int64(enough),
		}))
		ranges = append(ranges, next)
		next = place{order: byStatus, bucket: next.bucket, status: next.status + 1}
	}
	_, _ = pipe.Exec(ctx)
	s := stride{end: next, last: next.bucket >= l.store.layout.Buckets}
	l.level = 0
	for i, reply := range replies {
		entries, err := reply.Result()
		if isWrongType(err) {
			err = corruptAttention(ranges[i])
		}
		if err != nil {
			return stride{}, err
		}
		l.entries += 1 + len(entries)
		end, err := l.ofRange(&s, ranges[i], entries)
		if err != nil {
			return stride{}, err
		}
		if len(entries) == enough { // The range has more, and they come before the next one.
			s.end, s.last = end, false
			l.level = enough - slices.IndexFunc(entries, func(e redis.Z) bool { return e.Score == entries[enough-1].Score })
			break
		}
	}
	l.widen(len(s.found), enough)
	return s, nil
}

// ofRange adds the records of the policy among entries of a range that begins with a
// place, and returns the place after all of them: it stays where none comes after it.
func (l *listing) ofRange(s *stride, at place, entries []redis.Z) (place, error) {
	status, resumed := at.status, at.device != ""
	score, last := l.past(at)
	for _, e := range entries {
		name, _ := e.Member.(string)
		key, ok := unpackKey(name)
		if !ok || e.Score != float64(attentionScore(key, status)) {
			return at, corruptAttention(at)
		}
		if resumed && e.Score == float64(score) && name <= last {
			continue
		}
		at = place{order: byStatus, bucket: at.bucket, status: status, device: key.Device}
		if key.Policy != l.query.Policy {
			at.policy = key.Policy // The hashes of the policies collide.
			continue
		}
		s.found = append(s.found, candidate{key: key, place: at, only: &status})
	}
	return at, nil
}

// past returns the score and the member that a place in byStatus comes after.
func (l *listing) past(at place) (int64, string) {
	own := compliance.Key{Policy: l.query.Policy, Device: at.device}
	return attentionScore(own, at.status), packKey(compliance.Key{Policy: cmp.Or(at.policy, l.query.Policy), Device: at.device})
}

func corruptAttention(at place) error {
	return &compliance.CorruptError{Bucket: compliance.Bucket(at.bucket), What: whatAttention}
}
