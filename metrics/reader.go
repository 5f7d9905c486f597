package metrics

import (
	"context"
	"sync"
	"time"
)

// reader reads the state for scrapes, any number of which may come at once.
type reader struct {
	read    func(context.Context) (Snapshot, error)
	timeout time.Duration

	// mu guards current.
	mu sync.Mutex
	// current is the read under way, else nil.
	current *reading
}

// reading is one read and what came of it.
type reading struct {
	began time.Time
	// expired is closed when the time for the read is over.
	expired <-chan struct{}
	// done is closed when the rest is set.
	done     chan struct{}
	snapshot Snapshot
	took     time.Duration
	err      error
}

// snapshot returns the state and how long reading it took. It joins the read that
// is under way, else begins one. After the timeout of the read it returns
// [context.DeadlineExceeded] and how long the read has lasted, even where the read
// pays no heed to its context: the goroutine is then left behind, and there is
// only ever one.
func (r *reader) snapshot(ctx context.Context) (Snapshot, time.Duration, error) {
	now := r.join(ctx)
	select {
	case <-now.done:
	case <-now.expired:
	}
	// Both may be closed, and then what was read counts.
	select {
	case <-now.done:
		return now.snapshot, now.took, now.err
	default:
		return Snapshot{}, time.Since(now.began), context.DeadlineExceeded
	}
}

func (r *reader) join(ctx context.Context) *reading {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current == nil {
		r.current = r.begin(ctx)
	}
	return r.current
}

func (r *reader) begin(ctx context.Context) *reading {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	now := &reading{began: time.Now(), expired: ctx.Done(), done: make(chan struct{})}
	go func() {
		defer cancel()
		now.snapshot, now.err = r.read(ctx)
		now.took = time.Since(now.began)
		r.mu.Lock()
		r.current = nil
		r.mu.Unlock()
		close(now.done)
	}()
	return now
}
