package graph

import (
	"sync"
	"time"

	"github.com/complianced/complianced/compliance"
)

// ahead knows the records that were deleted with a time that is ahead of the clock, so that
// a later update through this gateway is newer all the same. An entry is kept until the
// clock is past it, which takes at most [compliance.MaxFuture]. The zero value is empty.
type ahead struct {
	mu    sync.Mutex // guards what follows
	until map[compliance.Key]time.Time
}

// note keeps the time of a deletion.
func (a *ahead) note(key compliance.Key, at, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for other, until := range a.until {
		if until.Before(now) {
			delete(a.until, other)
		}
	}
	if a.until == nil {
		a.until = map[compliance.Key]time.Time{}
	}
	a.until[key] = at
}

// tick is the smallest step of an event time.
const tick = 100 * time.Nanosecond

// after returns the time of a report of a record: that of its stamp, or a later one where
// the record was deleted with a time that is ahead.
func (a *ahead) after(key compliance.Key, stamp time.Time) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	until, ok := a.until[key]
	if !ok || stamp.After(until) {
		return stamp
	}
	a.until[key] = until.Add(tick)
	return until.Add(tick)
}
