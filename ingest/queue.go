package ingest

import (
	"context"
	"slices"
	"sync"

	"github.com/complianced/complianced/compliance"
)

// Limits of what is read ahead.
const (
	aheadReports = 8000
	aheadBytes   = 16 << 20
)

// queue holds what was read ahead, as the batches that it will be taken in, for one
// goroutine that puts and one that takes. A report passes it under one lock, and is
// copied once.
type queue struct {
	mu      sync.Mutex
	batches []waiting
	// reports and bytes are those of all batches.
	reports, bytes int
	// err is what comes after the last report, once nothing more is put.
	err error
	// spare is memory of batches that were taken.
	spare [][]compliance.Envelope

	// filled and emptied wake the one who waits for reports, or for room.
	filled, emptied chan struct{}
}

// waiting is a batch that more is put into.
type waiting struct {
	Batch

	// bytes is about what it takes in memory.
	bytes int
}

func sizeOf(e *compliance.Envelope) int {
	n := len(e.Subject) + len(e.Body) + 64
	for name, values := range e.Header {
		n += len(name)
		for _, value := range values {
			n += len(value)
		}
	}
	return n
}

func newQueue() *queue {
	return &queue{filled: make(chan struct{}, 1), emptied: make(chan struct{}, 1)}
}

// wake lets one that waits look again. It never waits itself.
func wake(signal chan struct{}) {
	select {
	case signal <- struct{}{}:
	default:
	}
}

// put appends a report once there is room for it. The error is the context's.
func (q *queue) put(ctx context.Context, instance string, e *compliance.Envelope) error {
	size := sizeOf(e)
	for !q.offer(instance, e, size) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-q.emptied:
		}
	}
	return nil
}

// room reports whether one more report of this size may be read ahead.
func (q *queue) room(size int) bool {
	return q.reports == 0 || q.reports < aheadReports && q.bytes+size <= aheadBytes
}

func (q *queue) offer(instance string, e *compliance.Envelope, size int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.room(size) {
		return false
	}
	last := len(q.batches) - 1
	if last < 0 || q.batches[last].closedFor(instance) {
		q.batches = append(q.batches, waiting{Batch: Batch{Instance: instance, Envelopes: q.memory()}})
		last++
	}
	b := &q.batches[last]
	b.Envelopes = append(b.Envelopes, *e)
	b.bytes += size
	q.reports++
	q.bytes += size
	if q.reports == 1 {
		wake(q.filled)
	}
	return true
}

// closedFor reports whether a report of this consumer begins a new batch.
func (b *waiting) closedFor(instance string) bool {
	return b.Instance != instance || len(b.Envelopes) >= maxBatchReports || b.bytes >= maxBatchBytes
}

// memory returns that of a batch that was taken earlier, or none.
func (q *queue) memory() []compliance.Envelope {
	n := len(q.spare)
	if n == 0 {
		return nil
	}
	memory := q.spare[n-1]
	q.spare = q.spare[:n-1]
	return memory
}

// fail says that nothing more comes, and why.
func (q *queue) fail(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.err = err
	wake(q.filled)
}

// take waits for reports and returns the oldest batch. The error is the context's,
// or what came after the last report.
func (q *queue) take(ctx context.Context) (Batch, error) {
	for {
		batch, ok, err := q.poll()
		if ok || err != nil {
			return batch, err
		}
		select {
		case <-ctx.Done():
			return Batch{}, ctx.Err()
		case <-q.filled:
		}
	}
}

func (q *queue) poll() (Batch, bool, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.batches) == 0 {
		return Batch{}, false, q.err
	}
	b := q.batches[0]
	q.batches = slices.Delete(q.batches, 0, 1)
	q.reports -= len(b.Envelopes)
	q.bytes -= b.bytes
	wake(q.emptied)
	return b.Batch, true, nil
}

// giveBack takes over the memory of a batch whose reports are no longer needed.
func (q *queue) giveBack(envelopes []compliance.Envelope) {
	clear(envelopes)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.spare = append(q.spare, envelopes[:0])
}
