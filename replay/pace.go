package replay

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

const (
	// lookEvery is how often the lag is looked at.
	lookEvery = time.Second
	// tolerated is a lag that comes and goes without any load.
	tolerated = time.Second
	// A replay slows down to a half while the lag grows, at most to a hundredth of its
	// bound or to 1 a second, and speeds up by a quarter when it does not.
	slowdown   = 0.5
	speedup    = 1.25
	slowest    = 0.01
	slowestAny = 10
)

// pace lets reports go at a rate that falls while the lag of the destination grows.
type pace struct {
	bound   float64
	limiter *rate.Limiter
	sent    atomic.Uint64
	last    time.Duration
}

// newPace bounds the rate to so many reports a second; 0 is no bound.
func newPace(bound float64) *pace {
	if bound <= 0 {
		bound = math.Inf(1)
	}
	p := &pace{bound: bound, limiter: rate.NewLimiter(0, 1)}
	p.set(bound)
	return p
}

// set sets the rate. Reports go in bursts of 2 ms at most: longer ones are what live
// reports have to wait behind.
func (p *pace) set(perSecond float64) {
	p.limiter.SetLimit(rate.Limit(perSecond))
	p.limiter.SetBurst(int(max(1, min(perSecond/500, 1000))))
}

// wait waits for the turn of a report. The error is that of ctx, also where the turn comes
// only after its deadline.
func (p *pace) wait(ctx context.Context) error {
	p.sent.Add(1)
	err := p.limiter.Wait(ctx)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return context.DeadlineExceeded
}

// run keeps an eye on the lag until ctx ends. While it is not known, the rate stays.
func (p *pace) run(ctx context.Context, lag func(context.Context) (time.Duration, error)) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		sent := float64(p.sent.Swap(0)) / lookEvery.Seconds()
		if now, err := lag(ctx); err == nil {
			p.look(now, sent)
		}
	}
}

// look sets the rate by the lag and the rate that was had.
func (p *pace) look(lag time.Duration, had float64) {
	limit := float64(p.limiter.Limit())
	grows := lag > tolerated && lag > p.last
	p.last = lag
	switch {
	case grows:
		least := float64(slowestAny)
		if !math.IsInf(p.bound, 1) {
			least = min(p.bound, max(1, p.bound*slowest))
		}
		p.set(max(least, min(limit, had)*slowdown))
	case limit < p.bound:
		p.set(min(p.bound, limit*speedup))
	}
}
