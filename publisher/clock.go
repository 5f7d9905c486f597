package publisher

import (
	"sync/atomic"
	"time"

	"github.com/complianced/complianced/compliance"
)

// maxSetBack is how far the clock may be set back before the publisher follows
// it. A report further ahead than this is refused (futureEventTime), so there is
// nothing that its successors would have to be later than.
const maxSetBack = compliance.Ticks(10 * time.Minute / tick)

// tick is the resolution of event times.
const tick = 100 * time.Nanosecond

// clock gives out event times: each tick once, and in rising order. Two reports
// with the same tick would be ordered by their random ids.
type clock struct {
	now  func() time.Time
	last atomic.Uint64
}

func (c *clock) next() (compliance.Ticks, error) {
	for {
		last := compliance.Ticks(c.last.Load())
		now, ok := compliance.TicksOf(c.now())
		if !ok {
			return 0, ErrInvalidTime
		}
		if now <= last && last-now <= maxSetBack {
			now = last + 1
		}
		if c.last.CompareAndSwap(uint64(last), uint64(now)) {
			return now, nil
		}
	}
}

// eventTimeLayout is the form of ce-time: a DateTimeOffset in UTC to the tick.
const eventTimeLayout = "2006-01-02T15:04:05.0000000Z"

// formatEventTime returns the text of ce-time, empty for the zero time.
func formatEventTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(eventTimeLayout)
}
