package ingest_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/ingest"
)

// aBatch is how many reports a batch can have.
const aBatch = 8000

// looking moves up the floors of buckets that have no report in the last batch.
func looking(o *ingest.Options) { o.LookEvery = 20 * time.Millisecond }

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
	r.startWith(looking)
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

func TestABucketThatIsMergedAgainIsWrittenWholeAsFarAsTheStreamReached(t *testing.T) {
	for name, setBack := range map[string]func(*rig){
		"by a repair while no loop ran": func(r *rig) {
			for _, b := range layout.BucketsOf(0) {
				to := r.foreignFloor(0)
				to.Repair = true
				r.setFloor(b, to)
			}
		},
		"by a stream that was rolled back": func(r *rig) {
			r.stream.rollBack(3*aBatch - 10)
			r.publish(0, 20, "compliant")
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := setup(t)
			r.publish(0, 3*aBatch, "compliant")
			r.startWith(looking)
			r.settled()
			restore := r.store.Snapshot()
			r.publish(0, 20, "error") // The store loses the transactions of these.
			r.settled()
			r.stop()
			restore()
			setBack(r)
			all := r.collect(nil)
			r.startWith(looking)
			r.settled()
			if len(all()) == 0 {
				t.Error("nothing is merged again")
			}
			for _, tx := range all() {
				if !tx.whole {
					t.Errorf("bucket %d: the transaction from report %d on is not whole", tx.bucket, tx.first)
				}
			}
		})
	}
}

func TestAfterANewConnectionTheNextBatchIsWrittenWhole(t *testing.T) {
	r := setup(t)
	r.publish(0, 3*aBatch, "compliant")
	r.startWith(looking)
	r.settled()
	for _, made := range []uint64{0, 1} {
		r.tap.connections.Add(made)
		all := r.collect(nil)
		r.publish(0, 10, "error")
		r.settled()
		if len(all()) == 0 {
			t.Fatal("nothing was merged")
		}
		for _, tx := range all() {
			if tx.whole != (made > 0) {
				t.Errorf("after %d new connections, bucket %d is written whole: %t", made, tx.bucket, tx.whole)
			}
		}
	}
}
