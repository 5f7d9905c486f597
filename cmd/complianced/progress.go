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
	bar   *progressbar.ProgressBar
	stop  chan struct{}
	ended chan struct{}
}

// newProgress begins to tell. End ends it.
func newProgress(w io.Writer, what string, total int, every time.Duration) *progress {
	p := &progress{w: w, what: what, total: total, stop: make(chan struct{}), ended: make(chan struct{})}
	if file, ok := w.(*os.File); ok && isTerminal(file) {
		p.bar = progressbar.NewOptions(total,
			progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(what), progressbar.OptionShowCount(),
			progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
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
			fmt.Fprintf(p.w, "%s %d of %d\n", p.what, p.done.Load(), p.total)
		}
	}
}

// add counts one more. It may be called from many goroutines.
func (p *progress) add() {
	p.done.Add(1)
	if p.bar != nil {
		_ = p.bar.Add(1) // What came since the bar was made may be more than its total.
	}
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
