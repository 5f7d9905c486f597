package ingest_test

import (
	"context"
	"maps"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/store"
)

// tap is a store that fails on demand, and to which nothing is sent that breaks
// the rules of a transaction.
type tap struct {
	*testing.T
	*store.Memory

	// after is called after it happened.
	after func(compliance.Transaction) error
	// connections is how many were made to the store.
	connections atomic.Uint64
	// drops tells whether the records of a transaction get lost, which no floor
	// can tell.
	drops func(compliance.Transaction) bool

	mu sync.Mutex
	// before is called before a transaction; with its error nothing happens.
	before  func(context.Context, compliance.Transaction) error
	watched bool
	// happened are the transactions that did.
	happened []compliance.Transaction
}

func (s *tap) Apply(ctx context.Context, tx compliance.Transaction) ([]compliance.Effect, error) {
	s.check(tx)
	s.mu.Lock()
	before := s.before
	s.mu.Unlock()
	if before != nil {
		if err := before(ctx, tx); err != nil {
			return nil, err
		}
	}
	applied := tx
	if s.drops != nil && s.drops(tx) {
		applied.Reports = nil
	}
	effects, err := s.apply(ctx, applied, tx)
	if err != nil {
		return nil, err
	}
	if s.after != nil {
		if err := s.after(tx); err != nil {
			return nil, err
		}
	}
	if len(applied.Reports) < len(tx.Reports) {
		effects = make([]compliance.Effect, len(tx.Reports))
	}
	return effects, nil
}

// apply notes what happened before anyone can ask: who has seen the floor of a
// transaction finds it in since.
func (s *tap) apply(ctx context.Context, applied, tx compliance.Transaction) ([]compliance.Effect, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	effects, err := s.Memory.Apply(ctx, applied)
	if err == nil {
		s.happened = append(s.happened, tx)
	}
	return effects, err
}

func (s *tap) Connections() uint64 { return s.connections.Load() }

// check holds a transaction against the invariant of the floor.
func (s *tap) check(tx compliance.Transaction) {
	last := tx.From.Sequence
	for _, report := range tx.Reports {
		if report.Sequence <= last {
			s.Errorf("bucket %d: report %d is sent after %d, the floor is %d", tx.Bucket, report.Sequence, last, tx.From.Sequence)
		}
		last = report.Sequence
		if layout.BucketOf(report.Key.Device) != tx.Bucket {
			s.Errorf("bucket %d gets a report of another", tx.Bucket)
		}
	}
	if last > tx.To.Sequence && !tx.To.Repair {
		s.Errorf("bucket %d: the floor goes from %d to %d with reports up to %d", tx.Bucket, tx.From.Sequence, tx.To.Sequence, last)
	}
}

// watch has a function called before each transaction from now on.
func (s *tap) watch(before func(context.Context, compliance.Transaction) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before, s.watched = before, true
}

func (s *tap) watching() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.watched
}

// since returns the transactions that happened after the first n.
func (s *tap) since(n int) []compliance.Transaction {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]compliance.Transaction(nil), s.happened[n:]...)
}

func (s *tap) count() int { return len(s.since(0)) }

// recounts returns how often each bucket was recounted.
func (s *tap) recounts() map[compliance.Bucket]int {
	recounts := map[compliance.Bucket]int{}
	for _, tx := range s.since(0) {
		if tx.Recount {
			recounts[tx.Bucket]++
		}
	}
	return maps.Clone(recounts)
}

// once calls a function at the first transaction that fits.
func once(fits func(compliance.Transaction) bool, then func() error) func(context.Context, compliance.Transaction) error {
	var mu sync.Mutex
	done := false
	return func(_ context.Context, tx compliance.Transaction) error {
		mu.Lock()
		defer mu.Unlock()
		if done || !fits(tx) {
			return nil
		}
		done = true
		return then()
	}
}

func hasReports(tx compliance.Transaction) bool { return len(tx.Reports) > 0 }

// keyIn returns a key of a bucket, and another one for another n.
func keyIn(b compliance.Bucket, n int) compliance.Key {
	for i := 0; ; i++ {
		if k := key(i); layout.BucketOf(k.Device) == b {
			if n == 0 {
				return k
			}
			n--
		}
	}
}

func (r *rig) floorOf(b compliance.Bucket) compliance.Floor {
	r.Helper()
	floors, err := r.store.Floors(r.Context(), []compliance.Bucket{b})
	if err != nil {
		r.Fatal(err)
	}
	return floors[0]
}

// setFloor puts something in the place of a floor, as somebody else.
func (r *rig) setFloor(b compliance.Bucket, to compliance.Floor, reports ...*compliance.Report) {
	r.Helper()
	if _, err := r.store.Apply(r.Context(), compliance.Transaction{Bucket: b, From: r.floorOf(b), To: to, Reports: reports}); err != nil {
		r.Error(err)
	}
}

// reaches waits until a bucket's floor is at a sequence or past it.
func (r *rig) reaches(b compliance.Bucket, sequence uint64) {
	r.Helper()
	eventually(r.T, "the floor", func() bool { return r.floorOf(b).Sequence >= sequence })
}

// wantNoGap is for reports that were all merged.
func (r *rig) wantNoGap() {
	r.Helper()
	if gaps := r.gaps(); gaps != nil {
		r.Errorf("want no gap, have %v", gaps)
	}
}
