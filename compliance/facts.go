package compliance

import (
	"errors"
	"time"
)

// Facts are what the counts and indexes of a bucket know of a record. They are a
// function of the record alone: no clock is in them, and whoever reads them brings his
// own.
type Facts struct {
	Standing

	// Day is the UTC day of the record's newest event.
	Day Day
	// GraceEnds is, where the status is nonCompliant, when the grace period ends, in
	// Unix milliseconds; 0 where there is no grace period. The instant is that of
	// [DateTimeOffset.Ticks], rounded up: the period is not over before it. An end
	// that so lies in the year 9999 or not after 1970-01-01T00:00:00Z is none, nor is
	// one that is [MaxFuture] or more before the newest event, of which the
	// millisecond counts in which it lies: no clock by which that event was taken can
	// be before such an end.
	GraceEnds int64
}

// InGrace reports whether the record is in its grace period at an instant: it is
// nonCompliant, and its grace period ends later. Both are compared in milliseconds.
func (f Facts) InGrace(now time.Time) bool { return f.GraceEnds > now.UnixMilli() }

// Stale reports whether the newest event is more than so many UTC days old.
func (f Facts) Stale(now time.Time, validity int) bool {
	return f.Exists && f.Day < FirstFresh(now, validity)
}

// FirstFresh returns the first day on which the newest event of a record that is not
// stale can lie.
func FirstFresh(now time.Time, validity int) Day { return DayOf(now) - Day(validity) }

// Facts returns the facts of a record; none of them where it does not exist.
//
// It panics where the status is nonCompliant and nothing is known of the grace period;
// see [Record.NeedsValues].
func (r *Record) Facts() Facts {
	if !r.Exists() {
		return Facts{}
	}
	f := Facts{Standing: r.Standing(), Day: r.Newest().Time.Day()}
	if f.Status != StatusNonCompliant {
		return f
	}
	switch v := r.Values[GracePeriodExpiration]; v.Kind {
	case Text:
		f.GraceEnds = graceEnds(v.Text)
	case Unread:
		if r.UnreadGrace == GraceUnknown {
			panic("compliance: the facts need the grace period, which was not read")
		}
		f.GraceEnds = r.UnreadGrace
	case Unset, Null, Cleared:
	}
	if f.GraceEnds <= r.Newest().Time.millis()-MaxFuture.Milliseconds() {
		f.GraceEnds = 0
	}
	return f
}

// GraceUnknown says that nothing is known of a grace period that was not read.
const GraceUnknown = -1

// noGraceFrom is 9999-01-01T00:00:00Z in Unix milliseconds. From there on an end is the
// sentinel for no grace period.
const noGraceFrom = 253370764800000

// graceEnds returns when a grace period ends in Unix milliseconds, rounded up; 0 where it
// is none. The sentinel of the year 1 is among all that does not lie after 1970 began: 0
// has to mean none, and nobody waits for such an end.
func graceEnds(text string) int64 {
	at, err := ParseDateTimeOffset(text)
	if err != nil {
		return 0
	}
	millis := (at.Ticks() + ticksPerMilli - 1).millis()
	if millis <= 0 || millis >= noGraceFrom {
		return 0
	}
	return millis
}

const ticksPerMilli = ticksPerSecond / 1000

// millis returns the instant in Unix milliseconds, rounded down.
func (t Ticks) millis() int64 { return int64(t/ticksPerMilli) + unixOfYear1*1000 }

// Day is a UTC day as the number of days since 0001-01-01.
type Day int32

const (
	secondsPerDay = 86400
	ticksPerDay   = secondsPerDay * ticksPerSecond
	dayOfEpoch    = -unixOfYear1 / secondsPerDay
)

// DayOf returns the UTC day of an instant.
func DayOf(t time.Time) Day {
	return Day((t.Unix() - unixOfYear1) / secondsPerDay)
}

// DayOfMillis returns the UTC day of an instant in Unix milliseconds, which is not
// before 1970.
func DayOfMillis(millis int64) Day { return Day(millis/(secondsPerDay*1000) + dayOfEpoch) }

// Day returns the UTC day of an instant.
func (t Ticks) Day() Day { return Day(t / ticksPerDay) }

// Start returns the first instant of the day.
func (d Day) Start() time.Time { return time.Unix(int64(d)*secondsPerDay+unixOfYear1, 0).UTC() }

// String returns the day as 2026-01-31.
func (d Day) String() string { return d.Start().Format(time.DateOnly) }

// ErrDay says that a text is no day.
var ErrDay = errors.New("not a day as 2026-01-31")

// ParseDay is the inverse of [Day.String]. The error is [ErrDay].
func ParseDay(text string) (Day, error) {
	t, err := time.Parse(time.DateOnly, text)
	if err != nil || t.Year() < 1 {
		return 0, ErrDay
	}
	return DayOf(t), nil
}
