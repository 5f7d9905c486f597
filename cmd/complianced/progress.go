package main

import (
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/schollz/progressbar/v3"
)

// progressEvery is how often a progress that is not on a terminal is told.
const progressEvery = 10 * time.Second

// progress tells how far a command is: by a bar on a terminal, by a line now and then
// elsewhere.
type progress struct {
	done atomic.Int64

	w     io.Writer
	what  string
	total int
	// rate, where not nil, is what the speed is told by.
	rate  *speed
	bar   *progressbar.ProgressBar
	stop  chan struct{}
	ended chan struct{}
}

// newProgress begins to tell. End ends it.
func newProgress(w io.Writer, what string, total int, every time.Duration) *progress {
	return startProgress(w, what, total, every, nil)
}

// newRateProgress is newProgress that tells how fast it goes and what time is left. A
// total below 0 is not known.
func newRateProgress(w io.Writer, what string, total int, every time.Duration) *progress {
	return startProgress(w, what, total, every, &speed{began: time.Now()})
}

func startProgress(w io.Writer, what string, total int, every time.Duration, rate *speed) *progress {
	p := &progress{w: w, what: what, total: total, rate: rate, stop: make(chan struct{}), ended: make(chan struct{})}
	if file, ok := w.(*os.File); ok && isTerminal(file) {
		options := []progressbar.Option{
			progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(what), progressbar.OptionShowCount(),
			progressbar.OptionThrottle(100 * time.Millisecond), progressbar.OptionClearOnFinish(),
		}
		if rate != nil {
			options = append(options, progressbar.OptionShowIts(), progressbar.OptionSetItsString("reports"), progressbar.OptionSetPredictTime(true))
		}
		p.bar = progressbar.NewOptions(total, options...)
		close(p.ended)
		return p
	}
	go p.tell(every)
	return p
}

func (p *progress) tell(every time.Duration) {
	defer close(p.ended)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-tick.C:
			fmt.Fprintln(p.w, p.line(time.Now()))
		}
	}
}

// line is what is told at a time.
func (p *progress) line(now time.Time) string {
	done := p.done.Load()
	text := fmt.Sprintf("%s %d", p.what, done)
	if p.total >= 0 {
		text += fmt.Sprintf(" of %d", p.total)
	}
	if p.rate == nil {
		return text
	}
	return text + p.rate.text(now, done, p.total)
}

// speed tells how fast a progress is.
type speed struct {
	began time.Time
	// first is where it began: what an earlier run did takes no time.
	first int64
}

func (s *speed) text(now time.Time, done int64, total int) string {
	took := now.Sub(s.began).Seconds()
	perSecond := float64(done-s.first) / max(took, 1e-3)
	text := fmt.Sprintf(", %.0f a second", perSecond)
	if left := float64(int64(total) - done); left > 0 && perSecond > 0 {
		text += fmt.Sprintf(", %s left", time.Duration(left/perSecond*float64(time.Second)).Round(time.Second))
	}
	return text
}

// add counts one more. It may be called from many goroutines.
func (p *progress) add() {
	p.done.Add(1)
	if p.bar != nil {
		_ = p.bar.Add(1) // What came since the bar was made may be more than its total.
	}
}

// from says how many were done before.
func (p *progress) from(done int) {
	p.set(done)
	p.rate.first = int64(done)
}

// set says how many are done.
func (p *progress) set(done int) {
	p.done.Store(int64(done))
	if p.bar != nil {
		_ = p.bar.Set(done)
	}
}

// clear takes the bar off the terminal, so that a line can be printed. The next step
// brings it back.
func (p *progress) clear() {
	if p.bar != nil {
		_ = p.bar.Clear()
	}
}

func (p *progress) end() {
	close(p.stop)
	<-p.ended
	p.clear()
}
