package ingest

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/complianced/complianced/compliance"
)

// decoded is what became of an envelope.
type decoded struct {
	report    compliance.Report
	rejection *compliance.Rejection
}

// transaction is one of a bucket, with the bucket's place in the loop.
type transaction struct {
	compliance.Transaction

	index int
}

// maxReplyAge is how old a report may be for its result to be sent.
const maxReplyAge = time.Minute

// process merges reports that follow each other: decode in parallel, bury what
// cannot be applied, then one transaction for each bucket.
func (l *Loop) process(ctx context.Context, envelopes []compliance.Envelope) error {
	ctx, cancel := l.finishing(ctx)
	defer cancel()
	began := time.Now()
	l.decode(envelopes)
	last := envelopes[len(envelopes)-1]
	replies, err := l.bury(ctx, envelopes)
	if err != nil {
		return err
	}
	end := positionOf(&last)
	merged, err := l.merge(ctx, end)
	l.reply(ctx, append(replies, merged...))
	if err != nil {
		return err
	}
	l.options.Observer.ObserveBatch(len(envelopes), time.Since(began))
	l.done = end
	l.buried = max(l.buried, end.sequence)
	if !l.replied.covers(end) {
		l.replied = end
	}
	return nil
}

// finishing returns a context that outlives the given one by StopWithin, so that
// a batch once begun is finished.
func (l *Loop) finishing(ctx context.Context) (context.Context, context.CancelFunc) {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		sleep(work, l.options.StopWithin)
		cancel()
	})
	return work, func() {
		stop()
		cancel()
	}
}

// decode decodes the envelopes on all processors.
func (l *Loop) decode(envelopes []compliance.Envelope) {
	if cap(l.decoded) < len(envelopes) {
		l.decoded = make([]decoded, max(len(envelopes), maxBatchReports))
	}
	l.decoded = l.decoded[:len(envelopes)]
	const chunk = 128
	var workers sync.WaitGroup
	share := max(chunk, (len(envelopes)+runtime.GOMAXPROCS(0)-1)/runtime.GOMAXPROCS(0))
	for from := 0; from < len(envelopes); from += share {
		to := min(from+share, len(envelopes))
		workers.Go(func() {
			for i := from; i < to; i++ {
				l.decoded[i].report, l.decoded[i].rejection = l.rules.Decode(&envelopes[i])
			}
		})
	}
	workers.Wait()
}

// bury sends the dead letters that are not yet there and returns the results of
// their reports. No floor moves before they are acknowledged.
func (l *Loop) bury(ctx context.Context, envelopes []compliance.Envelope) ([]Reply, error) {
	var letters []DeadLetter
	for i := range l.decoded {
		if rejection := l.decoded[i].rejection; rejection != nil && envelopes[i].Sequence > l.buried {
			letters = append(letters, DeadLetter{Stream: l.stream.Stream, Envelope: envelopes[i], Rejection: rejection})
		}
	}
	if len(letters) == 0 {
		return nil, nil
	}
	fresh, err := l.outlet.Bury(ctx, letters)
	var replies []Reply
	for _, letter := range fresh {
		l.options.Observer.ObserveRejected(letter.Rejection.Code())
		if rejection := letter.Rejection; rejection.Reply != "" && rejection.Key != (compliance.Key{}) && l.worthReply(positionOf(&letter.Envelope)) {
			object := rejection.ErrorObject()
			replies = append(replies, l.answer(rejection.Key.Device, rejection.Reply, letter.Envelope.Sequence,
				compliance.Result{Outcome: compliance.Rejected, Error: &object}))
		}
	}
	if err != nil {
		l.reply(ctx, replies) // They are kept, and fresh this once.
		return nil, err
	}
	return replies, nil
}

// merge runs one transaction for each bucket that the decoded reports concern,
// and returns the results that were asked for.
func (l *Loop) merge(ctx context.Context, end position) ([]Reply, error) {
	for i := range l.groups {
		l.groups[i] = l.groups[i][:0]
	}
	for i := range l.decoded {
		if l.decoded[i].rejection != nil {
			continue
		}
		report := &l.decoded[i].report
		index := int(l.options.Layout.BucketOf(report.Key.Device)) / l.options.Layout.Partitions
		if report.Sequence > l.floors[index].Sequence {
			l.groups[index] = append(l.groups[index], report)
		}
	}
	l.reconnected()
	var txs []transaction
	for i, reports := range l.groups {
		if len(reports) > 0 {
			txs = append(txs, transaction{compliance.Transaction{
				Bucket: l.buckets[i], From: l.floors[i], To: l.floor(end), Reports: reports,
				Whole: l.writesWhole(i, reports),
			}, i})
		}
	}
	var mu sync.Mutex
	var replies []Reply
	err := l.applyAll(ctx, txs, func(_ int, reports []*compliance.Report, effects []compliance.Effect) {
		mu.Lock()
		defer mu.Unlock()
		replies = append(replies, l.observe(reports, effects)...)
	})
	return replies, err
}

// observe counts what became of reports and returns the results asked for.
func (l *Loop) observe(reports []*compliance.Report, effects []compliance.Effect) []Reply {
	var replies []Reply
	now := l.options.Now()
	for i, effect := range effects {
		report := reports[i]
		l.options.Observer.ObserveEffect(effect, now.Sub(report.Stored))
		if report.Reply != "" && l.worthReply(position{report.Sequence, report.Stored}) {
			replies = append(replies, l.answer(report.Key.Device, report.Reply, report.Sequence,
				compliance.Result{Outcome: effect.Outcome, Record: effect.Record}))
		}
	}
	return replies
}

// worthReply tells whether a result is to be sent: once, and not late.
func (l *Loop) worthReply(at position) bool {
	return !l.replied.covers(at) && l.options.Now().Sub(at.stored) <= maxReplyAge
}

func (l *Loop) answer(device, token string, sequence uint64, result compliance.Result) Reply {
	result.Stream, result.Sequence = l.stream.Stream, sequence
	return Reply{Device: device, Token: token, Result: result}
}

// reply sends results. They may be lost: what is merged is merged.
func (l *Loop) reply(ctx context.Context, replies []Reply) {
	if len(replies) == 0 {
		return
	}
	if err := l.outlet.Reply(ctx, replies); err != nil {
		l.options.Logger.LogAttrs(ctx, slog.LevelWarn, "results were not sent",
			slog.Int("results", len(replies)), slog.Any("error", err))
	}
}

// applyAll runs transactions of different buckets, several at once. Done is
// called, at any time and from any goroutine, for each that happened. Another
// loop's floors count as one change of owner.
func (l *Loop) applyAll(ctx context.Context, txs []transaction, done func(int, []*compliance.Report, []compliance.Effect)) error {
	var group errgroup.Group
	group.SetLimit(l.options.Concurrency)
	errs := make([]error, len(txs))
	foreign := make([]bool, len(txs))
	for i := range txs {
		group.Go(func() error {
			foreign[i], errs[i] = l.apply(ctx, txs[i], done)
			return nil
		})
	}
	_ = group.Wait()
	if slices.Contains(foreign, true) {
		l.options.Observer.ObserveRewind(string(OwnerChanged))
	}
	for i, err := range errs {
		if err != nil {
			l.whole[txs[i].index] = l.wholeAfter(txs[i].From)
		}
		l.noteCorrupt(ctx, txs[i].Bucket, err)
	}
	return errors.Join(errs...)
}

// fromTheNext is in the place of the last report in question where not even the first
// one is known.
const fromTheNext = math.MaxUint64

// wholeAfter returns up to which report transactions are whole after a floor. Where it was
// set back on purpose, what was lost can be of any report that the stream holds now.
func (l *Loop) wholeAfter(floor compliance.Floor) uint64 {
	if floor.Repair {
		return l.stream.Last + maxBatchReports
	}
	return fromTheNext
}

// reconnected has all buckets begin anew with whole transactions where the store made a
// connection: a server that was away can have lost one.
func (l *Loop) reconnected() {
	store, ok := l.store.(interface{ Connections() uint64 })
	if !ok {
		return
	}
	if made := store.Connections(); made != l.connections {
		l.connections = made
		for i := range l.whole {
			l.whole[i] = l.wholeAfter(l.floors[i])
		}
	}
}

// writesWhole tells whether a transaction with these reports has to be whole. Where the
// floor is not the one that was left, or it is not known what became of a transaction,
// Redis may later take in a part of one that was lost: of the bucket's next reports, as
// far as one batch reaches. What these set is then written once more behind it. All later
// reports can only have been in transactions that Redis has, or has nothing of.
func (l *Loop) writesWhole(i int, reports []*compliance.Report) bool {
	first := reports[0].Sequence
	if l.whole[i] == fromTheNext {
		l.whole[i] = first + maxBatchReports
	}
	return first <= l.whole[i]
}

// noteCorrupt has the next look recount a bucket in which a key is corrupt, and
// merge it again.
func (l *Loop) noteCorrupt(ctx context.Context, b compliance.Bucket, err error) {
	if _, ok := errors.AsType[*compliance.CorruptError](err); ok {
		l.corrupt[b] = true
		l.options.Logger.LogAttrs(ctx, slog.LevelError, "a key in the store is corrupt; its bucket is recounted and merged again",
			slog.Int("partition", l.options.Partition), slog.Any("error", err))
	}
}

// apply runs one transaction. A floor that is ahead or level, of the same
// stream, is another loop's: it is adopted, and what it covers is dropped. It can
// also be this loop's, of a transaction that happened in spite of an error.
func (l *Loop) apply(ctx context.Context, tx transaction, done func(int, []*compliance.Report, []compliance.Effect)) (foreign bool, err error) {
	for {
		effects, err := l.store.Apply(ctx, tx.Transaction)
		if err == nil {
			l.floors[tx.index] = tx.To
			done(tx.index, tx.Reports, effects)
			return foreign, nil
		}
		other, ok := errors.AsType[*compliance.FloorError](err)
		if !ok || other.Have.Absent() || other.Have.Torn || !other.Have.SameStream(tx.To) || other.Have.Sequence < tx.From.Sequence {
			return foreign, err
		}
		foreign = foreign || !l.wrote(other.Have)
		l.floors[tx.index], tx.From = other.Have, other.Have
		l.whole[tx.index], tx.Whole = l.wholeAfter(other.Have), true
		covered := 0
		for covered < len(tx.Reports) && tx.Reports[covered].Sequence <= other.Have.Sequence {
			covered++
		}
		tx.Reports = tx.Reports[covered:]
		if other.Have.Sequence >= tx.To.Sequence {
			return foreign, nil
		}
	}
}
