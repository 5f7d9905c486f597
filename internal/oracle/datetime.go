package oracle

import (
	"regexp"
	"strconv"
	"time"
)

// ticksPerSecond is the number of 100 ns in a second.
const ticksPerSecond = 10_000_000

// yearTwo is 0002-01-01T00:00:00Z.
const yearTwo = instant(365 * 24 * 3600 * ticksPerSecond)

// instant is a number of 100 ns since 0001-01-01T00:00:00Z.
type instant int64

var (
	dateTime = regexp.MustCompile(`^([0-9]{4})-([0-9]{2})-([0-9]{2})T([01][0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9])(?:\.([0-9]{1,12}))?)?(?:Z|([+-])(0[0-9]|1[0-4]):([0-5][0-9]))$`)
	// storeTime is the form of the header Compliance-Stored.
	storeTime = regexp.MustCompile(`^[^.]{19}\.[0-9]{9}Z$`)
)

// parseDateTime reads a DateTimeOffset.
func parseDateTime(text string) (instant, bool) {
	m := dateTime.FindStringSubmatch(text)
	if m == nil {
		return 0, false
	}
	n := func(i int) int {
		v, _ := strconv.Atoi(m[i]) // Digits or nothing.
		return v
	}
	at := time.Date(n(1), time.Month(n(2)), n(3), n(4), n(5), n(6), 0, time.UTC)
	if int(at.Month()) != n(2) || at.Day() != n(3) {
		return 0, false // The date was none, and became one of the next month or so.
	}
	offset := time.Duration(n(9))*time.Hour + time.Duration(n(10))*time.Minute
	if offset > 14*time.Hour {
		return 0, false
	}
	if m[8] == "+" {
		offset = -offset
	}
	fraction, _ := strconv.Atoi((m[7] + "0000000")[:7])
	at = at.Add(offset).Add(time.Duration(fraction) * 100)
	return instantOf(at), at.Year() >= 1 && at.Year() <= 9999
}

// parseStoreTime reads the form with nine digits that store times have.
func parseStoreTime(text string) (instant, bool) {
	at, ok := parseDateTime(text)
	return at, ok && storeTime.MatchString(text)
}

// time returns the instant in UTC.
func (i instant) time() time.Time {
	var year1 time.Time
	return time.Unix(year1.Unix()+int64(i)/ticksPerSecond, int64(i)%ticksPerSecond*100).UTC()
}

// instantOf cuts off what is less than 100 ns.
func instantOf(t time.Time) instant {
	var year1 time.Time
	seconds := t.Unix() - year1.Unix()
	return instant(seconds*ticksPerSecond + int64(t.Nanosecond()/100))
}
