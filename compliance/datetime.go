package compliance

import (
	"errors"
	"time"
)

// Ticks is an instant as the number of 100 ns since 0001-01-01T00:00:00 UTC, up
// to the end of the year 9999.
type Ticks uint64

const (
	ticksPerSecond = 10_000_000
	// unixOfYear1 is 0001-01-01T00:00:00Z in Unix seconds.
	unixOfYear1 = -62135596800
	// endOfYear9999 is 10000-01-01T00:00:00Z in seconds since year 1.
	endOfYear9999 = 315537897600
	// endOfYear1 is 0002-01-01T00:00:00Z.
	endOfYear1 Ticks = 365 * 86400 * ticksPerSecond
)

// TicksOf returns the tick in which t lies. It is false where t lies outside the
// years 1 to 9999 in UTC.
func TicksOf(t time.Time) (Ticks, bool) {
	return ticksOf(t.Unix()-unixOfYear1, t.Nanosecond()/100)
}

func ticksOf(seconds int64, fraction int) (Ticks, bool) {
	if seconds < 0 || seconds >= endOfYear9999 {
		return 0, false
	}
	return Ticks(seconds)*ticksPerSecond + Ticks(fraction), true
}

// Time returns the instant in UTC.
func (t Ticks) Time() time.Time {
	return time.Unix(int64(t/ticksPerSecond)+unixOfYear1, int64(t%ticksPerSecond)*100).UTC()
}

// ErrDateTime says that a text is no DateTimeOffset.
var ErrDateTime = errors.New("not a DateTimeOffset: date, T, hh:mm[:ss[.1 to 12 digits]], then Z or ±hh:mm, in the years 0001 to 9999 UTC")

// DateTimeOffset is a date and time with an offset, as Edm.DateTimeOffset of
// OData 4.01 has it. It keeps the text as sent.
type DateTimeOffset struct {
	text  string
	ticks Ticks
}

// String returns the text as sent.
func (d DateTimeOffset) String() string { return d.text }

// Ticks returns the instant, digits past the seventh cut off.
func (d DateTimeOffset) Ticks() Ticks { return d.ticks }

// ParseDateTimeOffset reads YYYY-MM-DDThh:mm[:ss[.1 to 12 digits]] followed by Z
// or ±hh:mm. Hours are 00 to 23, minutes and seconds 00 to 59, the offset at
// most 14:00 and always there; T and Z are upper case; the instant lies in the
// years 0001 to 9999 UTC. The error is [ErrDateTime].
//
// time.Parse takes forms that this does not (a comma before the fraction, an
// hour of one digit) and refuses some that this takes (no seconds).
func ParseDateTimeOffset(text string) (DateTimeOffset, error) {
	p := dateParser{rest: text}
	year := p.digits(4)
	p.literal('-')
	month := p.digits(2)
	p.literal('-')
	day := p.digits(2)
	p.literal('T')
	hour := p.digits(2)
	p.literal(':')
	minute := p.digits(2)
	second, fraction := p.seconds()
	offset := p.offset()
	if p.failed || p.rest != "" ||
		month < 1 || month > 12 || day < 1 || day > daysIn(year, month) ||
		hour > 23 || minute > 59 || second > 59 {
		return DateTimeOffset{}, ErrDateTime
	}
	minutes := (daysBefore(year, month)+day-1)*24*60 + hour*60 + minute - offset
	ticks, ok := ticksOf(int64(minutes)*60+int64(second), fraction)
	if !ok {
		return DateTimeOffset{}, ErrDateTime
	}
	return DateTimeOffset{text: text, ticks: ticks}, nil
}

func isLeap(year int) bool { return year%4 == 0 && (year%100 != 0 || year%400 == 0) }

func daysIn(year, month int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if isLeap(year) {
			return 29
		}
		return 28
	}
	return 31
}

const daysIn400Years = 146097

// beforeMonth are the days of a common year before each month, from 1.
var beforeMonth = [...]int{1: 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334}

// daysBefore returns the days from 0001-01-01 to the first of a month, as time.Date
// counts them, at a quarter of its price. It is below 0 in the year 0.
func daysBefore(year, month int) int {
	y := year - 1 + 400 // So that the divisions round down in the year 0 too.
	days := 365*y + y/4 - y/100 + y/400 - daysIn400Years + beforeMonth[month]
	if month > 2 && isLeap(year) {
		days++
	}
	return days
}

// dateParser reads a text from left to right and remembers whether anything was
// not as it must be.
type dateParser struct {
	rest   string
	failed bool
}

func (p *dateParser) digits(n int) int {
	if len(p.rest) < n {
		p.failed = true
		return 0
	}
	v := 0
	for i := range n {
		c := p.rest[i]
		if c < '0' || c > '9' {
			p.failed = true
			return 0
		}
		v = v*10 + int(c-'0')
	}
	p.rest = p.rest[n:]
	return v
}

func (p *dateParser) literal(c byte) {
	if !p.take(c) {
		p.failed = true
	}
}

func (p *dateParser) take(c byte) bool {
	if p.rest == "" || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

// seconds reads [:ss[.1 to 12 digits]]; the fraction comes back in ticks.
func (p *dateParser) seconds() (second, fraction int) {
	if !p.take(':') {
		return 0, 0
	}
	second = p.digits(2)
	if !p.take('.') {
		return second, 0
	}
	n := 0
	for n < len(p.rest) && p.rest[n] >= '0' && p.rest[n] <= '9' {
		n++
	}
	if n < 1 || n > 12 {
		p.failed = true
		return 0, 0
	}
	for i := range 7 {
		fraction *= 10
		if i < n {
			fraction += int(p.rest[i] - '0')
		}
	}
	p.rest = p.rest[n:]
	return second, fraction
}

// offset reads Z or ±hh:mm; it comes back in minutes east of UTC.
func (p *dateParser) offset() int {
	if p.take('Z') {
		return 0
	}
	sign := 1
	if !p.take('+') {
		sign = -1
		p.literal('-')
	}
	hours := p.digits(2)
	p.literal(':')
	minutes := p.digits(2)
	if minutes > 59 || hours*60+minutes > 14*60 {
		p.failed = true
	}
	return sign * (hours*60 + minutes)
}

// storedLayout is the form of store times on the wire: UTC with nine digits.
const storedLayout = "2006-01-02T15:04:05.000000000Z"

// FormatStored returns a store time as the wire has it: a DateTimeOffset in UTC
// with nine digits of a second.
func FormatStored(t time.Time) string { return t.UTC().Format(storedLayout) }

// ParseStored is the inverse of [FormatStored], and as strict. Digits past the seventh
// are cut off, as everywhere. The error is [ErrDateTime].
func ParseStored(text string) (Ticks, error) {
	d, err := ParseDateTimeOffset(text)
	if err != nil || len(text) != len(storedLayout) || text[len(text)-1] != 'Z' {
		return 0, ErrDateTime
	}
	return d.ticks, nil
}
