package ingest_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/ingest"
)

// lapse waits, in a bubble's time.
func lapse(d time.Duration) { <-time.NewTimer(d).C }

func TestTheBatchInHandIsFinishedWhenTheLoopIsToStop(t *testing.T) {
	// Each holds up the batch for nine of the ten seconds that it has.
	for name, hold := range map[string]func(*rig, func(context.Context) error){
		"while it is applied": func(r *rig, wait func(context.Context) error) {
			r.tap.watch(func(ctx context.Context, _ compliance.Transaction) error { return wait(ctx) })
		},
		"while its dead letters are buried": func(r *rig, wait func(context.Context) error) { r.outlet.before = wait },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := setup(t)
				begun, release := make(chan struct{}), make(chan struct{})
				begin := sync.OnceFunc(func() { close(begun) })
				hold(r, func(ctx context.Context) error {
					begin()
					<-release
					return ctx.Err()
				})
				r.publish(0, 20, "compliant")
				bad := r.stream.publish(key(1), `{"status":"String"}`, "Compliance-Reply", "token")
				r.publish(20, 40, "compliant")
				r.startWith(nil)
				<-begun
				stopped := make(chan struct{})
				go func() { r.stop(); close(stopped) }()
				lapse(9 * time.Second)
				select {
				case <-stopped:
					t.Error("the loop did not wait for its batch")
				default:
				}
				close(release)
				<-stopped
				for b := range layout.Buckets {
					if at := r.floorOf(compliance.Bucket(b)).Sequence; at != 41 {
						t.Errorf("bucket %d is at %d, not at the end of the batch", b, at)
					}
				}
				r.same(r.messages())
				if diff := cmp.Diff(map[uint64]compliance.Code{bad: compliance.InvalidStatus}, r.outlet.codes()); diff != "" {
					t.Error(diff)
				}
				if diff := cmp.Diff([]uint64{bad}, r.outlet.answered()); diff != "" {
					t.Error(diff)
				}
			})
		})
	}
}

func TestABatchThatDoesNotEndIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := setup(t)
		begun := make(chan struct{})
		begin := sync.OnceFunc(func() { close(begun) })
		r.tap.watch(func(ctx context.Context, _ compliance.Transaction) error {
			begin()
			<-ctx.Done()
			return ctx.Err()
		})
		r.publish(0, 20, "compliant")
		r.startWith(func(o *ingest.Options) { o.StopWithin = 3 * time.Second })
		<-begun
		lapse(time.Minute) // Nobody stops it: it may take its time.
		asked := time.Now()
		r.stop()
		if took := time.Since(asked); took != 3*time.Second {
			t.Errorf("the batch was cut off after %v", took)
		}
		if txs := r.tap.since(0); txs != nil {
			t.Errorf("%d transactions happened", len(txs))
		}
	})
}

func TestNoResultIsSentForAReportOfMoreThanAMinuteAgo(t *testing.T) {
	r := setup(t)
	ask := func() {
		r.stream.publish(key(1), `{"status":"compliant"}`, "Compliance-Reply", "token")
		r.stream.publish(key(1), `{"status":"String"}`, "Compliance-Reply", "token")
	}
	ask()
	r.stream.advance(time.Second)
	ask()
	r.stream.advance(59500 * time.Millisecond)
	r.startWith(nil)
	eventually(t, "four reports", func() bool { return r.observer.read() == 4 })
	r.stop()
	if diff := cmp.Diff([]uint64{3, 4}, r.outlet.answered()); diff != "" {
		t.Error(diff)
	}
}

func TestNoResultIsSentTwiceAfterARewind(t *testing.T) {
	r := setup(t)
	r.stream.publish(key(1), `{"status":"compliant"}`, "Compliance-Reply", "token")
	r.stream.publish(key(1), `{"status":"String"}`, "Compliance-Reply", "token")
	r.start()
	r.settled()
	// The dead letter is gone as well, so that it is buried as a new one.
	r.outlet.mu.Lock()
	clear(r.outlet.letters)
	r.outlet.mu.Unlock()
	r.store.Lose()
	eventually(t, "both reports once more", func() bool { return r.observer.read() == 4 })
	r.settled()
	r.stop()
	if diff := cmp.Diff([]uint64{1, 2}, r.outlet.answered()); diff != "" {
		t.Error(diff)
	}
}

func TestResultsAreSentForTheReportsOfAStreamThatWentBack(t *testing.T) {
	for name, goBack := range map[string]func(*rig) (asked uint64){
		"recreated":   func(r *rig) uint64 { r.stream.recreateUnderReaders(); return 1 },
		"rolled back": func(r *rig) uint64 { r.stream.rollBack(60); return 61 },
	} {
		t.Run(name, func(t *testing.T) {
			r := setup(t)
			r.publish(0, 99, "compliant")
			r.stream.publish(key(1), `{"status":"error"}`, "Compliance-Reply", "token")
			r.startWith(nil)
			r.settled()
			r.stream.pause()
			first := goBack(r)
			r.view.reset()
			var want []uint64
			for range 5 {
				want = append(want, r.stream.publish(key(1), `{"status":"error"}`, "Compliance-Reply", "token"))
				r.stream.publish(key(1), `{}`)
			}
			if want[0] != first {
				t.Fatalf("the first one is %d", want[0])
			}
			r.stream.resume()
			b := layout.BucketOf(key(1).Device)
			eventually(t, "the end of the new reports", func() bool { return r.floorOf(b).Sequence == first+9 })
			r.stop()
			if diff := cmp.Diff(append(want, 100), r.outlet.answered()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// reports returns what an envelope of the stream is decoded to.
func (r *rig) reports(sequences ...uint64) []*compliance.Report {
	r.Helper()
	messages := r.messages()
	var reports []*compliance.Report
	for _, n := range sequences {
		envelope := messages[n]
		report, rejection := compliance.Decode(&envelope)
		if rejection != nil {
			r.Error(rejection)
		}
		reports = append(reports, &report)
	}
	return reports
}

func TestAFloorThatIsAheadIsAdoptedAndWhatItCoversIsDropped(t *testing.T) {
	const shared = compliance.Bucket(1)
	for name, to := range map[string]uint64{"in the batch": 5, "at its end": 10, "past it": 12} {
		t.Run(name, func(t *testing.T) {
			r := setup(t)
			for n := range 12 {
				r.stream.publish(keyIn(shared, n%3), `{"status":"compliant"}`)
			}
			ahead := r.foreignFloor(to)
			reports := r.reports(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)[:to]
			r.stream.rollBack(10) // Two are not there when the batch is read.
			r.tap.watch(once(hasReports, func() error { r.setFloor(shared, ahead, reports...); return nil }))
			r.startWith(nil)
			eventually(t, "the takeover", func() bool { return r.observer.rewound(ingest.OwnerChanged) > 0 })
			eventually(t, "the batch", func() bool { return r.observer.read() == 10 })
			r.stop()
			var merged []uint64
			for _, tx := range r.tap.since(0) {
				for _, report := range tx.Reports {
					merged = append(merged, report.Sequence)
				}
			}
			want := []uint64{6, 7, 8, 9, 10}
			if to > 5 {
				want = nil
				if have := r.floorOf(shared); !have.Equal(ahead) {
					t.Errorf("the floor is %+v", have)
				}
			}
			if diff := cmp.Diff(want, merged); diff != "" {
				t.Error(diff)
			}
			if n := r.stream.seekCount(); n != 1 {
				t.Errorf("the reader went back: %d seeks", n)
			}
			if n := r.observer.rewound(ingest.OwnerChanged); n != 1 {
				t.Errorf("%d takeovers", n)
			}
		})
	}
}

func TestAFloorThatIsBehindIsNotAdoptedButGoneBackTo(t *testing.T) {
	r := setup(t)
	r.publish(0, 100, "compliant")
	r.startWith(nil)
	r.settled()
	restore := r.store.Snapshot()
	r.publish(0, 100, "error")
	r.settled()
	r.tap.watch(once(hasReports, func() error { restore(); return nil }))
	r.stream.pause()
	r.publish(50, 150, "conflict")
	r.stream.resume()
	eventually(t, "the rewind", func() bool { return r.observer.rewound(ingest.StoreBehind) > 0 })
	r.settled()
	r.same(r.messages())
	if n := r.observer.rewound(ingest.OwnerChanged); n > 0 {
		t.Errorf("a floor that is behind was adopted %d times", n)
	}
}

func TestAFloorOfAnotherStreamIsNotAdopted(t *testing.T) {
	r := setup(t)
	r.publish(0, 100, "compliant")
	r.startWith(nil)
	r.settled()
	foreign := r.foreignFloor(1000)
	foreign.Created = foreign.Created.Add(time.Hour)
	r.tap.watch(once(hasReports, func() error { r.setFloor(1, foreign); return nil }))
	r.stream.pause()
	r.publish(0, 100, "error")
	r.stream.resume()
	eventually(t, "the rewind", func() bool { return r.observer.rewound(ingest.StreamRecreated) > 0 })
	r.settled()
	r.same(r.messages())
	if n := r.observer.rewound(ingest.OwnerChanged); n > 0 {
		t.Errorf("a floor of another stream was adopted %d times", n)
	}
}

func TestReportsUpToAFloorAreNotMergedAgain(t *testing.T) {
	r := setup(t)
	r.publish(0, 100, "compliant")
	r.startWith(nil)
	r.settled()
	r.stop()
	n := r.tap.count()
	r.setFloor(1, r.foreignFloor(40))
	r.startWith(nil)
	r.reaches(1, 100)
	r.stop()
	for _, tx := range r.tap.since(n) {
		if tx.Bucket != 1 { // The tap holds the floor against the reports of bucket 1.
			t.Errorf("bucket %d was written to", tx.Bucket)
		}
	}
}

// stutter delivers what it delivered before once more, by the same consumer.
type stutter struct {
	*view
	last []compliance.Envelope
}

func (s *stutter) Next(ctx context.Context) (ingest.Batch, error) {
	batch, err := s.view.Next(ctx)
	again := s.last
	s.last = batch.Envelopes
	batch.Envelopes = append(slices.Clone(again), batch.Envelopes...)
	return batch, err
}

func TestRedeliveredReportsAreSkipped(t *testing.T) {
	r := setup(t)
	stop := r.runWith(&stutter{view: r.view}, r.tap, func(o *ingest.Options) { o.LookEvery = time.Hour })
	for range 5 {
		r.publish(0, 40, "compliant")
		r.stream.publish(key(1), `{`)
		info, _ := r.stream.Info(t.Context())
		eventually(t, "the reports", func() bool { return r.observer.read() >= int(info.Last) })
	}
	stop()
	if n := r.observer.read(); n != 205 {
		t.Errorf("205 reports were taken as %d", n)
	}
	if n := r.stream.seekCount(); n != 1 {
		t.Errorf("the reader went back: %d seeks", n)
	}
	r.same(r.messages())
	r.wantNoGap()
}

func TestAnErrorMakesTheReaderGoBack(t *testing.T) {
	r := setup(t)
	r.publish(0, 50, "compliant")
	r.tap.watch(once(hasReports, func() error { return errDown }))
	r.startWith(nil)
	r.reaches(0, lastOf(r.messages(), 0))
	r.publish(0, 50, "error")
	r.settled()
	r.same(r.messages())
	r.wantNoGap()
}

func TestATransactionThatHappenedInSpiteOfItsErrorIsNotRepeated(t *testing.T) {
	r := setup(t)
	failed := once(hasReports, func() error { return errDown })
	r.tap.after = func(tx compliance.Transaction) error { return failed(t.Context(), tx) }
	r.publish(0, 50, "compliant")
	r.startWith(nil)
	r.settled()
	r.same(r.messages())
	r.stop()
	merged := map[uint64]int{}
	for _, tx := range r.tap.since(0) {
		for _, report := range tx.Reports {
			merged[report.Sequence]++
		}
	}
	for n, times := range merged {
		if times != 1 {
			t.Errorf("report %d was merged %d times", n, times)
		}
	}
	if n := r.observer.rewound(ingest.OwnerChanged); n > 0 {
		t.Errorf("the loop took itself for another owner %d times", n)
	}
}

func TestAnotherOwnerOfManyBucketsIsCountedOnce(t *testing.T) {
	for name, at := range map[string]func(*rig, func() error){
		"while a batch is merged": func(r *rig, takeOver func() error) { r.tap.watch(once(hasReports, takeOver)) },
		"when the loop looks": func(r *rig, takeOver func() error) {
			_ = takeOver()
			r.view.reset()
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := setup(t)
			r.publish(0, 50, "compliant")
			r.startWith(func(o *ingest.Options) { o.Concurrency = 1 })
			r.settled()
			r.stream.pause()
			at(r, func() error {
				for b := range layout.Buckets {
					r.setFloor(compliance.Bucket(b), r.foreignFloor(50))
				}
				return nil
			})
			r.publish(0, 50, "error")
			r.stream.resume()
			eventually(t, "the batch", func() bool { return r.observer.read() == 100 })
			r.stop()
			r.same(r.messages())
			if n := r.observer.rewound(ingest.OwnerChanged); n != 1 {
				t.Errorf("one change of owner was counted as %d", n)
			}
		})
	}
}

// publishBad publishes rejected reports whose results are asked for.
func (r *rig) publishBad(n int) []uint64 {
	var sequences []uint64
	for range n {
		sequences = append(sequences, r.stream.publish(key(1), `{"status":"String"}`, "Compliance-Reply", "token"))
	}
	return sequences
}

// wantBadOnce checks that each rejected report is counted and answered once.
func (r *rig) wantBadOnce(want []uint64) {
	r.Helper()
	if diff := cmp.Diff(want, r.outlet.answered()); diff != "" {
		r.Errorf("results (-want +have):\n%s", diff)
	}
	if n := r.observer.refused(compliance.InvalidStatus); n != len(want) {
		r.Errorf("%d rejected reports were counted as %d", len(want), n)
	}
	if n := len(r.outlet.codes()); n != len(want) {
		r.Errorf("%d rejected reports have %d dead letters", len(want), n)
	}
}

func TestADeadLetterIsBuriedAgainOnlyWhereNobodyKnowsOfIt(t *testing.T) {
	r := setup(t)
	r.publish(0, 40, "compliant")
	bad := r.publishBad(10)
	r.publish(0, 40, "error")
	r.startWith(nil)
	r.settled()
	r.stop()
	r.setFloor(1, r.foreignFloor(20)) // It lost its tail, and the others did not.
	r.startWith(nil)
	r.reaches(1, lastOf(r.messages(), 1))
	eventually(t, "the rewind", func() bool { return r.observer.read() > 90 })
	r.stop()
	for id, n := range r.outlet.buried {
		if n != 1 {
			t.Errorf("the dead letter of %d was buried %d times", id.sequence, n)
		}
	}
	r.store.Lose()
	r.startWith(nil)
	r.settled()
	r.stop()
	for id, n := range r.outlet.buried {
		if n != 2 {
			t.Errorf("no floor told of the dead letter of %d, and it was buried %d times", id.sequence, n)
		}
	}
	r.wantBadOnce(bad)
}

func TestDeadLettersOfWhichSomeFailedAreCountedAndAnsweredOnce(t *testing.T) {
	r := setup(t)
	r.publish(0, 20, "compliant")
	bad := r.publishBad(10)
	r.publish(0, 20, "error")
	r.outlet.atMost = 4
	r.startWith(nil)
	eventually(t, "some of them", func() bool { return len(r.outlet.codes()) == 4 })
	if at := r.floorOf(1).Sequence; at > 24 {
		t.Errorf("a floor is at %d", at)
	}
	r.outlet.mu.Lock()
	r.outlet.atMost = 0
	r.outlet.mu.Unlock()
	r.settled()
	r.stop()
	r.wantBadOnce(bad)
}

func TestTwoLoopsCountAndAnswerARejectedReportOnce(t *testing.T) {
	r := setup(t)
	bad := r.publishBad(20)
	r.publish(0, 20, "compliant")
	// Neither buries anything before the other one is about to.
	var both sync.WaitGroup
	both.Add(2)
	var mu sync.Mutex
	calls := 0
	r.outlet.before = func(context.Context) error {
		mu.Lock()
		calls++
		first := calls <= 2
		mu.Unlock()
		if first {
			both.Done()
			both.Wait()
		}
		return nil
	}
	r.startWith(nil)
	other := r.runWith(&view{stream: r.stream}, r.store, func(*ingest.Options) {})
	r.settled()
	eventually(t, "the second loop", func() bool { return r.observer.read() >= 40 })
	r.stop()
	other()
	mu.Lock()
	defer mu.Unlock()
	if calls < 2 {
		t.Errorf("dead letters were buried %d times", calls)
	}
	r.wantBadOnce(bad)
}
