package ingest_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/complianced/complianced/compliance"
)

// aBatch is how many reports a batch can have.
const aBatch = 4000

// sent is a transaction with reports.
type sent struct {
	bucket compliance.Bucket
	first  uint64
	whole  bool
}

// collect has all transactions with reports noted from now on. The first one of bucket
// 1 meets with trouble, where there is any.
func (r *rig) collect(trouble func(compliance.Transaction) error) (all func() []sent) {
	var mu sync.Mutex
	var list []sent
	met := trouble == nil
	r.tap.watch(func(_ context.Context, tx compliance.Transaction) error {
		if !hasReports(tx) {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		if !met && tx.Bucket == 1 {
			met = true
			return trouble(tx)
		}
		list = append(list, sent{tx.Bucket, tx.Reports[0].Sequence, tx.Whole})
		return nil
	})
	return func() []sent {
		mu.Lock()
		defer mu.Unlock()
		return append([]sent(nil), list...)
	}
}

func TestAfterAFloorThatWasNotLeftTheNextBatchIsWrittenWhole(t *testing.T) {
	r := setup(t)
	r.publish(0, 3*aBatch, "compliant")
	all := r.collect(nil)
	r.startWith(nil)
	r.settled()
	first, kinds := map[compliance.Bucket]uint64{}, map[bool]int{}
	for _, tx := range all() {
		if _, known := first[tx.bucket]; !known {
			first[tx.bucket] = tx.first
		}
		if want := tx.first <= first[tx.bucket]+aBatch; tx.whole != want {
			t.Errorf("bucket %d, of which the first report is %d: that from %d on is whole: %t", tx.bucket, first[tx.bucket], tx.first, tx.whole)
		}
		kinds[tx.whole]++
	}
	if kinds[true] == 0 || kinds[false] == 0 {
		t.Fatalf("of the transactions %d were whole and %d were not", kinds[true], kinds[false])
	}

	restore := r.store.Snapshot()
	for _, c := range []struct {
		name    string
		trouble func(compliance.Transaction) error
		whole   bool
	}{
		{"no trouble", nil, false},
		{"an error", func(compliance.Transaction) error { return errors.New("whether it happened is open") }, true},
		{"no trouble again", nil, true}, // The batch is not over.
		{"a floor of another loop", func(tx compliance.Transaction) error {
			r.setFloor(tx.Bucket, r.foreignFloor(tx.From.Sequence))
			return nil
		}, true},
		{"a store that went back", func(compliance.Transaction) error { restore(); return nil }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := r.tap.count()
			all := r.collect(c.trouble)
			r.stream.pause()
			r.publish(0, 10, "conflict")
			r.stream.resume()
			r.settled()
			found := false
			for _, tx := range r.tap.since(n) {
				if tx.Bucket == 1 && hasReports(tx) {
					found = true
					if tx.Whole != c.whole {
						t.Errorf("a transaction is whole: %t", tx.Whole)
					}
				}
			}
			if !found {
				t.Errorf("no transaction among %v", all())
			}
		})
	}
}
