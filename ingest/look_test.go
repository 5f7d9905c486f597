package ingest_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/ingest"
)

// foreignFloor is what another loop leaves behind when it has come to a report.
func (r *rig) foreignFloor(sequence uint64) compliance.Floor {
	info, _ := r.stream.Info(r.Context())
	stored, _ := r.stream.StoredAt(r.Context(), sequence)
	return compliance.Floor{
		Stream: info.Stream, Created: info.Created, Sequence: sequence, Stored: stored, Layout: layout,
		Write: fmt.Sprint("foreign-", sequence),
	}
}

// mergedAgainFirst checks that after n transactions the buckets went back before
// a report was merged.
func (r *rig) mergedAgainFirst(n int) {
	r.Helper()
	txs := r.tap.since(n)
	if len(txs) < layout.Buckets {
		r.Fatalf("only %d transactions", len(txs))
	}
	for _, tx := range txs[:layout.Buckets] {
		if !tx.To.Repair || tx.Reports != nil {
			r.Errorf("bucket %d got %d reports before all were merged again", tx.Bucket, len(tx.Reports))
		}
	}
}

func TestARollbackBehindANewConsumerIsNoticedBeforeItsFirstReport(t *testing.T) {
	r := setup(t)
	r.publish(0, 100, "compliant")
	r.startWith(nil)
	r.settled()
	before, n := r.messages(), r.tap.count()
	r.stream.pause()
	r.stream.rollBack(60)
	r.view.reset()
	r.publish(0, 20, "error")
	r.stream.resume()
	r.settled()
	r.mergedAgainFirst(n)
	r.same(before, r.messages())
	if have := r.observer.rewound(ingest.StreamRolledBack); have != 1 {
		t.Errorf("want one rewind, have %d", have)
	}
	r.wantNoGap()
}

func TestARecreatedStreamBehindANewConsumerIsNoticedBeforeItsFirstReport(t *testing.T) {
	r := setup(t)
	r.publish(0, 100, "compliant")
	r.startWith(nil)
	r.settled()
	before, n := r.messages(), r.tap.count()
	r.stream.pause()
	r.stream.recreateUnderReaders()
	r.publish(0, 200, "error") // The next sequence is there again, in another stream.
	r.view.reset()
	r.stream.resume()
	r.settled()
	r.mergedAgainFirst(n)
	r.same(before, r.messages())
	if have := r.observer.rewound(ingest.StreamRecreated); have == 0 {
		t.Error("no rewind was counted")
	}
	r.wantNoGap()
}

func TestSequencesMissingFromARecreatedStreamAreNoGap(t *testing.T) {
	r := setup(t)
	r.publish(0, 100, "compliant")
	r.startWith(nil)
	r.settled()
	before := r.messages()
	r.stream.pause()
	r.stream.recreateUnderReaders() // The consumer keeps its name.
	r.publish(0, 200, "error")
	r.stream.ageOut(121)
	r.stream.resume()
	r.settled()
	r.same(before, r.messages())
	r.wantNoGap()
}

func TestACorruptKeyHasItsBucketRecountedAndMergedAgain(t *testing.T) {
	const broken = compliance.Bucket(1)
	moves := func(tx compliance.Transaction) bool {
		return len(tx.Reports) == 0 && len(tx.Gaps) == 0 && !tx.To.Repair
	}
	repairs := func(tx compliance.Transaction) bool { return tx.To.Repair }
	cases := []struct {
		name string
		at   func(compliance.Transaction) bool
		// prepare makes the call happen that finds the corrupt key.
		prepare func(*rig)
		change  func(*ingest.Options)
		// others are the other buckets that are recounted.
		others []compliance.Bucket
	}{
		{"while reports are merged", hasReports, func(r *rig) { r.publish(0, 100, "error") }, nil, nil},
		{"while a floor is moved up", moves, func(r *rig) {
			r.stream.publish(keyIn(2, 0), `{}`)
		}, func(o *ingest.Options) { o.LookEvery = 10 * time.Millisecond }, nil},
		{"while a gap is passed", func(tx compliance.Transaction) bool { return len(tx.Gaps) > 0 }, func(r *rig) {
			r.publish(100, 120, "error")
			r.stream.remove(101)
		}, nil, nil},
		{"while a bucket is merged again", repairs, func(r *rig) {
			for b := range layout.Buckets {
				r.setFloor(compliance.Bucket(b), compliance.UnreadableFloor("junk"))
			}
			r.view.reset()
			r.publish(0, 100, "error")
		}, nil, []compliance.Bucket{0, 2, 3}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := setup(t)
			// The records of the bucket are not what its floor says.
			r.tap.drops = func(tx compliance.Transaction) bool { return tx.Bucket == broken && !r.tap.watching() }
			r.publish(0, 100, "compliant")
			r.startWith(c.change)
			r.settled()
			r.stream.pause()
			c.prepare(r)
			r.tap.watch(once(func(tx compliance.Transaction) bool { return tx.Bucket == broken && c.at(tx) }, func() error {
				return &compliance.CorruptError{Bucket: broken, What: "a record"}
			}))
			r.stream.resume()
			eventually(t, "a recount", func() bool { return len(r.tap.recounts()) > 0 })
			r.publish(0, 100, "compliant")
			r.reaches(broken, lastOf(r.messages(), broken))
			want := map[compliance.Bucket]int{broken: 1}
			for _, b := range c.others {
				want[b] = 1
			}
			if diff := cmp.Diff(want, r.tap.recounts()); diff != "" {
				t.Error(diff)
			}
			for _, tx := range r.tap.since(0) {
				if tx.Recount && (!tx.To.Repair || tx.To.Sequence != 0) {
					t.Errorf("the floor went back to %d, repair: %t", tx.To.Sequence, tx.To.Repair)
				}
			}
			eventually(t, "the state of the reports", func() bool {
				return cmp.Equal(r.fold(r.messages()), r.store.Dump())
			})
		})
	}
}

func TestWhatTheStreamLostAfterARepairIsNoGap(t *testing.T) {
	const broken = compliance.Bucket(1)
	// run merges the bucket again, while the stream loses its first reports.
	run := func(t *testing.T, after error) *rig {
		t.Helper()
		r := setup(t)
		r.publish(0, 100, "compliant")
		r.startWith(nil)
		r.settled()
		before := r.messages()
		r.stop()
		r.setFloor(broken, compliance.UnreadableFloor("junk"))
		r.tap.after = func(tx compliance.Transaction) error {
			if tx.To.Repair {
				r.stream.ageOut(11)
				return after
			}
			return nil
		}
		r.startWith(nil)
		r.reaches(broken, lastOf(before, broken))
		r.same(before)
		r.wantNoGap()
		return r
	}
	t.Run("before it is read", func(t *testing.T) { run(t, nil) })
	t.Run("before the next look", func(t *testing.T) {
		r := run(t, errDown) // It happened, and the loop looks again.
		r.stop()
		if sought := r.stream.sought; sought[len(sought)-1] != 11 {
			t.Errorf("want the reader at the first report, 11, have it at %v", sought)
		}
	})
}

// lastOf returns the last report of a bucket.
func lastOf(messages map[uint64]compliance.Envelope, b compliance.Bucket) uint64 {
	last := uint64(0)
	for n, envelope := range messages {
		if report, rejection := compliance.Decode(&envelope); rejection == nil && layout.BucketOf(report.Key.Device) == b {
			last = max(last, n)
		}
	}
	return last
}

func TestAQuietBucketHasNoGapWhereAllIsMerged(t *testing.T) {
	const busy = compliance.Bucket(2)
	publish := func(r *rig, n int) {
		for range n {
			r.stream.publish(keyIn(busy, 0), `{"status":"compliant"}`)
		}
	}
	t.Run("when the loop looks", func(t *testing.T) {
		r := setup(t)
		r.startWith(nil)
		publish(r, 100)
		r.reaches(busy, 100)
		r.stream.ageOut(51)
		r.view.reset()
		publish(r, 1)
		r.reaches(busy, 101)
		r.wantNoGap()
	})
	t.Run("when the loop was stopped", func(t *testing.T) {
		r := setup(t)
		r.startWith(nil)
		publish(r, 100)
		r.reaches(busy, 100)
		r.stop()
		for b := range layout.Buckets {
			if at := r.floorOf(compliance.Bucket(b)).Sequence; at != 100 {
				t.Errorf("bucket %d is at %d", b, at)
			}
		}
		publish(r, 1)
		r.stream.ageOut(101)
		r.startWith(nil)
		r.reaches(busy, 101)
		r.wantNoGap()
	})
	t.Run("when the loop was held up", func(t *testing.T) {
		r := setup(t)
		r.startWith(nil)
		publish(r, 100)
		r.reaches(busy, 100)
		r.stream.pause()
		r.tap.watch(once(hasReports, func() error {
			r.stream.ageOut(51)
			return errDown
		}))
		publish(r, 1)
		r.stream.resume()
		r.reaches(busy, 101)
		r.wantNoGap()
		for b := range layout.Buckets {
			if at := r.floorOf(compliance.Bucket(b)).Sequence; at < 100 {
				t.Errorf("bucket %d is at %d", b, at)
			}
		}
	})
}

func TestALookThatBrokeOffLosesNothing(t *testing.T) {
	r := setup(t)
	r.tap.drops = func(tx compliance.Transaction) bool { return tx.Bucket == 0 && !r.tap.watching() }
	r.publish(0, 100, "compliant")
	r.startWith(nil)
	r.settled()
	good := r.floorOf(1)
	r.stream.pause()
	r.setFloor(0, compliance.UnreadableFloor("junk"))
	r.setFloor(1, compliance.UnreadableFloor("junk"))
	// The first bucket is merged again and the second one not: another loop is
	// before this one with it, so that the next look finds nothing to go back to.
	r.tap.watch(once(func(tx compliance.Transaction) bool { return tx.To.Repair && tx.Bucket == 1 }, func() error {
		good.Write = "foreign"
		r.setFloor(1, good)
		return errDown
	}))
	r.view.reset()
	r.stream.publish(keyIn(2, 0), `{"status":"error"}`)
	r.stream.resume()
	r.reaches(2, 101)
	r.same(r.messages())
}

func TestAnUnreadableFloorIsOneThatIsBehind(t *testing.T) {
	r := setup(t)
	r.tap.drops = func(tx compliance.Transaction) bool { return tx.Bucket == 3 && !r.tap.watching() }
	r.publish(0, 100, "compliant")
	r.startWith(func(o *ingest.Options) { o.LookEvery = 10 * time.Millisecond })
	r.settled()
	r.tap.watch(nil)
	r.setFloor(3, compliance.UnreadableFloor("not a floor"))
	eventually(t, "the rewind", func() bool { return r.observer.rewound(ingest.StoreBehind) == 1 })
	r.settled()
	r.same(r.messages())
	r.wantNoGap()
	for _, cause := range []ingest.Cause{ingest.StreamRecreated, ingest.StreamRolledBack, ingest.StoreEmpty, ingest.OwnerChanged} {
		if n := r.observer.rewound(cause); n > 0 {
			t.Errorf("%s was counted %d times", cause, n)
		}
	}
}

// journal keeps what is logged.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(line []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(line)
}

func (j *journal) has(text string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Contains(j.text.String(), text)
}

func (j *journal) log(o *ingest.Options) { o.Logger = slog.New(slog.NewTextHandler(j, nil)) }

func TestAFloorOfAnotherLayoutIsRefused(t *testing.T) {
	r := setup(t)
	r.publish(0, 20, "compliant")
	foreign := r.foreignFloor(5)
	foreign.Layout = compliance.Layout{Partitions: 1, Buckets: 8}
	r.setFloor(1, foreign)
	var log journal
	r.startWith(log.log)
	eventually(t, "an error that says what to do", func() bool {
		return log.has("give this deployment a Redis of its own, or the numbers that it was provisioned with")
	})
	r.stop()
	if have := r.floorOf(1); !have.Equal(foreign) {
		t.Errorf("the floor is now %+v", have)
	}
	if txs := r.tap.since(0); txs != nil {
		t.Errorf("%d transactions happened", len(txs))
	}
}

func TestEveryReportTheStreamLostUnmergedIsAGapOfItsBucket(t *testing.T) {
	r := setup(t)
	r.publish(0, 50, "compliant")
	r.stream.ageOut(11)
	r.startWith(nil)
	r.settled()
	gaps, err := r.store.Gaps(t.Context(), layout.BucketsOf(0))
	if err != nil {
		t.Fatal(err)
	}
	for b, of := range gaps {
		if len(of) != 1 || of[0].First != 1 || of[0].Last != 10 {
			t.Errorf("bucket %d: %v", b, of)
		}
	}
}

// hand is a reader that has reports in hand, as one that reads ahead. The
// stream may have lost them since.
type hand struct {
	*view
	held ingest.Batch
}

func (h *hand) Next(ctx context.Context) (ingest.Batch, error) {
	if len(h.held.Envelopes) == 0 {
		var err error
		if h.held, err = h.view.Next(ctx); err != nil {
			return ingest.Batch{}, err
		}
	}
	batch := h.held
	n := min(10, len(batch.Envelopes))
	batch.Envelopes, h.held.Envelopes = batch.Envelopes[:n], batch.Envelopes[n:]
	return batch, nil
}

func (h *hand) Seek(ctx context.Context, sequence uint64) error {
	h.held = ingest.Batch{}
	return h.view.Seek(ctx, sequence)
}

func TestReportsInTheReadersHandAreMergedAlthoughTheStreamLostThem(t *testing.T) {
	for _, c := range []struct {
		name string
		// grown is how many reports come after the fifty in hand, before the
		// stream loses all before first.
		grown int
		first uint64
		gaps  []string
	}{
		{"some of them", 0, 41, nil},
		{"all of them and more", 30, 71, []string{"51-70"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := setup(t)
			r.publish(0, 50, "compliant")
			inHand := r.messages()
			r.tap.watch(once(hasReports, func() error {
				r.publish(50, 50+c.grown, "error")
				r.stream.ageOut(c.first)
				return nil
			}))
			// It looks before each batch.
			r.runWith(&hand{view: r.view}, r.tap, func(o *ingest.Options) { o.LookEvery = time.Nanosecond })
			r.settled()
			kept := r.messages()
			for n := uint64(1); n <= 50; n++ {
				delete(kept, n)
			}
			r.same(inHand, kept)
			if diff := cmp.Diff(c.gaps, r.gaps()); diff != "" {
				t.Errorf("gaps (-want +have):\n%s", diff)
			}
		})
	}
}

// laggard is a view of a stream whose leader lags behind in some answers.
type laggard struct {
	*view
	mu      sync.Mutex
	last    uint64
	lagging int
	answers int
}

func (s *laggard) lag(last uint64, answers int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last, s.lagging = last, answers
}

func (s *laggard) Info(ctx context.Context) (ingest.StreamInfo, error) {
	info, err := s.view.Info(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers++
	if s.lagging > 0 {
		s.lagging--
		info.Last = s.last
	}
	return info, err
}

// has tells whether the stream was asked so often.
func (s *laggard) has(answers int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lagging == 0 && s.answers >= answers
}

func TestOneAnswerThatLagsBehindIsNoRollback(t *testing.T) {
	r := setup(t)
	r.publish(0, 100, "compliant")
	source := &laggard{view: r.view}
	r.runWith(source, r.tap, func(o *ingest.Options) { o.LookEvery = time.Millisecond })
	r.settled()
	n := r.tap.count()
	source.lag(60, 1)
	source.mu.Lock()
	answers := source.answers
	source.mu.Unlock()
	eventually(t, "some more looks", func() bool { return source.has(answers + 10) })
	if txs := r.tap.since(n); txs != nil {
		t.Errorf("%d transactions happened", len(txs))
	}
	if have := r.observer.rewound(ingest.StreamRolledBack); have != 0 {
		t.Errorf("%d rewinds", have)
	}
	if n := r.stream.seekCount(); n != 1 {
		t.Errorf("the reader went back: %d seeks", n)
	}
	// Twice in a row it is one, for all that the loop can know.
	source.lag(60, 2)
	eventually(t, "the rewind", func() bool { return r.observer.rewound(ingest.StreamRolledBack) == 1 })
	r.settled()
	r.same(r.messages())
}

func TestAStreamRecreatedWhileThereIsNoFloorIsReadFromItsBeginning(t *testing.T) {
	r := setup(t)
	r.publishBad(5)
	r.startWith(nil)
	eventually(t, "the dead letters", func() bool { return r.observer.read() == 5 })
	if have := r.floorOf(1); !have.Absent() {
		t.Fatalf("there is a floor: %+v", have)
	}
	r.stream.pause()
	r.stream.recreateUnderReaders()
	r.publish(0, 3, "error")
	bad := r.stream.publish(key(1), `{"status":"String"}`)
	r.publish(3, 20, "error")
	r.view.reset()
	r.stream.resume()
	eventually(t, "the new reports", func() bool { return r.observer.read() == 5+21 })
	r.stop()
	r.settled()
	r.same(r.messages())
	r.wantNoGap()
	if n := r.observer.rewound(ingest.StreamRecreated); n != 1 {
		t.Errorf("want one rewind, have %d", n)
	}
	if n := len(r.outlet.codes()); n != 5 || r.outlet.codes()[bad] == "" || len(r.outlet.letters) != 6 {
		t.Errorf("%d dead letters", len(r.outlet.letters))
	}
}

func TestARollbackIsNoticedByALowerFloorWhereTheReportAtTheHighestIsRemoved(t *testing.T) {
	r := setup(t)
	r.publish(0, 100, "compliant")
	r.startWith(nil)
	r.settled()
	r.stop()
	before := r.messages()
	r.setFloor(1, r.foreignFloor(70)) // It lost its tail.
	r.setFloor(2, r.foreignFloor(80))
	r.stream.rollBack(60)
	r.publish(0, 60, "error")
	r.stream.remove(100)
	r.stream.remove(80)
	r.startWith(nil)
	eventually(t, "the rewind", func() bool { return r.observer.rewound(ingest.StreamRolledBack) == 1 })
	r.settled()
	r.same(before, r.messages())
	if diff := cmp.Diff([]string{"100-100", "80-80"}, r.gaps()); diff != "" {
		t.Error(diff)
	}
}

func TestWhatTheStreamLostUnderAReaderIsAGapAlsoWhereNothingFollows(t *testing.T) {
	r := setup(t)
	r.publish(0, 100, "compliant")
	r.start()
	r.settled()
	r.stream.pause()
	r.publish(100, 110, "error")
	r.stream.ageOut(111)
	r.stream.resume()
	eventually(t, "the gap", func() bool { return cmp.Equal(r.gaps(), []string{"101-110"}) })
	r.publish(110, 120, "compliant")
	r.settled()
	r.stop()
}

func TestATornBucketIsRecountedWhereItsFloorIs(t *testing.T) {
	const torn = compliance.Bucket(1)
	tear := func(r *rig) compliance.Floor {
		f := r.floorOf(torn)
		f.Torn = true
		r.setFloor(torn, f)
		return f
	}
	// recounted checks that the bucket was recounted once, and nothing merged again.
	recounted := func(r *rig, at compliance.Floor, n int) {
		r.Helper()
		eventually(r.T, "a recount", func() bool { return len(r.tap.recounts()) > 0 })
		r.settled()
		if diff := cmp.Diff(map[compliance.Bucket]int{torn: 1}, r.tap.recounts()); diff != "" {
			r.Error(diff)
		}
		for _, tx := range r.tap.since(n) {
			if tx.Recount && (!tx.From.Equal(at) || tx.To.Sequence != at.Sequence || !tx.To.Stored.Equal(at.Stored) || tx.To.Repair) {
				r.Errorf("recounted from %+v to %+v", tx.From, tx.To)
			}
			if !tx.Recount && tx.To.Sequence < tx.From.Sequence {
				r.Errorf("bucket %d goes back", tx.Bucket)
			}
		}
		r.same(r.messages())
		r.wantNoGap()
	}
	t.Run("when the loop looks", func(t *testing.T) {
		r := setup(t)
		r.publish(0, 100, "compliant")
		r.startWith(func(o *ingest.Options) { o.LookEvery = 10 * time.Millisecond })
		r.settled()
		n := r.tap.count()
		recounted(r, tear(r), n)
		if have := r.observer.rewound(ingest.StoreBehind); have != 1 {
			t.Errorf("want one rewind, have %d", have)
		}
	})
	t.Run("when reports come", func(t *testing.T) {
		r := setup(t)
		r.publish(0, 100, "compliant")
		r.startWith(nil)
		r.settled()
		n := r.tap.count()
		at := tear(r)
		r.publish(0, 100, "error")
		recounted(r, at, n)
	})
	t.Run("when the loop starts", func(t *testing.T) {
		r := setup(t)
		r.publish(0, 100, "compliant")
		r.startWith(nil)
		r.settled()
		r.stop()
		at := tear(r)
		r.startWith(nil)
		recounted(r, at, r.tap.count())
	})
	t.Run("when there is no floor", func(t *testing.T) {
		r := setup(t)
		r.setFloor(torn, compliance.Floor{Torn: true})
		r.publish(0, 100, "compliant")
		r.startWith(nil)
		recounted(r, compliance.Floor{Torn: true}, 0)
	})
}
