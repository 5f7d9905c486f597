package replay

import "time"

// NewReport is a report from the stream of a partition, of so many.
var NewReport = newReport

// Pace is a rate that is bound, and falls while the lag grows.
type Pace = pace

// NewPace returns a pace.
var NewPace = newPace

// Look has the pace look at a lag, when so many reports were sent a second.
func (p *pace) Look(lag time.Duration, had float64) float64 {
	p.look(lag, had)
	return float64(p.limiter.Limit())
}

// Tracker knows which reports are passed.
type Tracker struct{ t *tracker }

// NewTracker returns a tracker.
func NewTracker(from Position) Tracker { return Tracker{newTracker(from, nil)} }

// Begin notes a report that is to be sent.
func (t Tracker) Begin(r *Report) uint64 {
	t.t.slots <- struct{}{}
	return t.t.begin(r)
}

// End notes what became of it.
func (t Tracker) End(n uint64, o Outcome) (Position, Table) {
	t.t.end(n, o)
	return t.t.now()
}
