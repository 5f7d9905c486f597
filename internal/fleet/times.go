package fleet

import "time"

const (
	// tick is what event times are counted in.
	tick = 100 * time.Nanosecond
	// lanes is how many ticks two reports are apart at least; each report keeps to
	// one of them.
	lanes = 32
	// clocks is how many different clock errors there are, each with two lanes.
	clocks = lanes / 2
	// lateSpan is the block of time in which late reports change places with those
	// of the block before: one is late by up to two of it.
	lateSpan = time.Hour
	// farFuture is by how much a clock is wrong that makes a report refused; no
	// outage of the load can make up for it. It is a multiple of the lanes.
	farFuture = 100 * 365 * 24 * time.Hour
)

// timeline gives every report a time of its own.
type timeline struct {
	start time.Time
	every time.Duration
	// late is the order of the late reports of one block, as places in the block
	// before.
	late   permutation
	errors [clocks]time.Duration
}

func newTimeline(o Options, random uint64) timeline {
	every := lanes * tick
	if o.Rate > 0 {
		// A duplicate is sent without being made.
		every = max(every, time.Duration((1+o.Duplicates)/o.Rate*float64(time.Second)))
	}
	t := timeline{
		start: o.Start,
		every: every,
		late:  newPermutation(uint64(max(1, lateSpan/every)), random),
	}
	for i := range t.errors {
		wrong := float64(o.ClockSkew) * float64(2*i-(clocks-1)) / (clocks - 1)
		t.errors[i] = time.Duration(wrong).Truncate(lanes * tick)
	}
	return t
}

// at returns when report i of a device with a certain clock was made. The place is
// unique within its lane, and the lane is what remains of the ticks: everything
// else is a multiple of the lanes.
func (t *timeline) at(i uint64, clock int, late bool) time.Time {
	place, lane := int64(i), 2*clock
	if late {
		block := i / t.late.n
		place, lane = int64(t.late.of(i%t.late.n))+(int64(block)-1)*int64(t.late.n), lane+1
	}
	ticks := place*int64(t.every)/int64(tick)&^(lanes-1) + int64(lane)
	return t.start.Add(time.Duration(ticks)*tick + t.errors[clock])
}

// appendDateTime appends a time with seven digits and an offset of some hours, as
// the documented example has it.
func appendDateTime(text []byte, t time.Time, hours int) []byte {
	t = t.Add(time.Duration(hours) * time.Hour)
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	text = appendDigits(text, year, 4)
	text = appendDigits(append(text, '-'), int(month), 2)
	text = appendDigits(append(text, '-'), day, 2)
	text = appendDigits(append(text, 'T'), hour, 2)
	text = appendDigits(append(text, ':'), minute, 2)
	text = appendDigits(append(text, ':'), second, 2)
	text = appendDigits(append(text, '.'), t.Nanosecond()/int(tick), 7)
	sign := byte('+')
	if hours < 0 {
		sign, hours = '-', -hours
	}
	text = appendDigits(append(text, sign), hours, 2)
	return append(text, ":00"...)
}

// appendDigits appends v with leading zeros to n digits.
func appendDigits(text []byte, v, n int) []byte {
	for range n {
		text = append(text, '0')
	}
	for i := len(text) - 1; v > 0; i-- {
		text[i] = byte('0' + v%10)
		v /= 10
	}
	return text
}
