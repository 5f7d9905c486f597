package ingest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/complianced/complianced/compliance"
)

// look compares every floor with the expected one and the stream with the
// floors, puts right what has to be, and moves the floors up to the end of the
// last batch. Where the reader has to go back it sets lost.
func (l *Loop) look(ctx context.Context) error {
	// Floors first: a stream read after them is never behind them by itself.
	floors, err := l.store.Floors(ctx, l.buckets)
	if err != nil {
		return err
	}
	info, cause, err := l.inspect(ctx, floors)
	if err != nil {
		return err
	}
	if cause != "" {
		l.options.Logger.LogAttrs(ctx, slog.LevelError, "the stream is not the one that was merged; every bucket is merged again",
			slog.Int("partition", l.options.Partition), slog.String("stream", info.Stream), slog.String("cause", string(cause)))
		l.options.Observer.ObserveRewind(string(cause))
	}
	recreated := l.stream.Stream != "" && !l.stream.Created.Equal(info.Created)
	if recreated {
		l.buried, l.replied = 0, position{}
	}
	if recreated || cause != "" {
		// Whatever the floors say, and if there are none: what was read is of
		// another stream.
		l.lost, l.done = true, position{}
	}
	l.stream = info
	back, err := l.settle(ctx, floors, cause != "", recreated)
	if back {
		// What was merged up to done is not merged in every bucket any more.
		l.lost, l.done = true, l.lowest()
	}
	if err != nil {
		return err
	}
	// Buckets without traffic first: what is merged is no gap.
	if err := l.moveUp(ctx); err != nil {
		return err
	}
	if l.idle && l.stream.First > l.next {
		l.lost = true // No report will come that tells of the loss.
	}
	if err := l.passLost(ctx); err != nil {
		return err
	}
	l.buried = 0
	for _, floor := range l.floors {
		l.buried = max(l.buried, floor.Sequence)
	}
	l.looked = time.Now()
	return nil
}

// inspect returns what the stream says of itself, and the cause where it was
// rolled back. That is so only if it looks so twice: a server that has just
// become the stream's leader can lag behind.
func (l *Loop) inspect(ctx context.Context, floors []compliance.Floor) (StreamInfo, Cause, error) {
	info, cause, err := l.inspectOnce(ctx, floors)
	if err != nil || cause == "" {
		return info, "", err
	}
	sleep(ctx, againAfter*l.options.Backoff)
	if err := ctx.Err(); err != nil {
		return StreamInfo{}, "", err
	}
	return l.inspectOnce(ctx, floors)
}

// againAfter is the wait before the second time, in Backoffs: by default it is a
// heartbeat.
const againAfter = 10

func (l *Loop) inspectOnce(ctx context.Context, floors []compliance.Floor) (StreamInfo, Cause, error) {
	info, err := l.source.Info(ctx)
	if err != nil {
		return StreamInfo{}, "", err
	}
	cause, err := l.broken(ctx, info, floors)
	return info, cause, err
}

// settle takes over the floors that are there, each for what it is. It reports
// whether one went back.
func (l *Loop) settle(ctx context.Context, floors []compliance.Floor, broken, recreated bool) (back bool, err error) {
	causes := map[Cause]bool{StreamRecreated: recreated}
	for i, have := range floors {
		if !l.settled || !have.Equal(l.floors[i]) {
			l.whole[i] = l.wholeAfter(have)
		}
		cause, again, err := l.judge(i, have, broken)
		switch {
		case err != nil:
		case again:
			err = l.mergeAgain(ctx, i, have)
		case have.Torn:
			err = l.recount(ctx, i, have)
		default:
			l.floors[i] = have
		}
		if err != nil {
			return back, err
		}
		causes[cause] = true
		back = back || again || cause == StoreBehind || cause == StoreEmpty
	}
	back = back || !l.settled
	l.settled = true
	for _, cause := range Causes() {
		if causes[cause] {
			l.announce(ctx, cause)
		}
	}
	return back, nil
}

// judge finds out why a floor is not the expected one, if it is not, and whether
// its bucket has to be merged again from the beginning.
func (l *Loop) judge(i int, have compliance.Floor, broken bool) (cause Cause, again bool, err error) {
	want := l.floors[i]
	switch {
	case have.Unreadable():
		return StoreBehind, true, nil
	case l.corrupt[l.buckets[i]]:
		return "", true, nil
	case have.Absent() && l.settled && !want.Absent():
		return StoreEmpty, false, nil
	case have.Absent():
		return "", false, nil
	case have.Layout != l.options.Layout:
		return "", false, errFloorLayout
	case broken:
		return "", true, nil
	case !isOf(have, l.stream):
		return StreamRecreated, true, nil
	case have.Torn:
		return StoreBehind, false, nil
	case !l.settled || have.Equal(want):
		return "", false, nil
	case have.Sequence < want.Sequence:
		return StoreBehind, false, nil
	case l.wrote(have):
		return "", false, nil // It happened in spite of an error.
	}
	// Ahead or level: what this loop has done since holds on top of it.
	return OwnerChanged, false, nil
}

// announce counts a cause and writes it to the log.
func (l *Loop) announce(ctx context.Context, cause Cause) {
	level := slog.LevelWarn
	if cause == StreamRecreated {
		level = slog.LevelError
	}
	l.options.Observer.ObserveRewind(string(cause))
	l.options.Logger.LogAttrs(ctx, level, "floors are not the expected ones",
		slog.Int("partition", l.options.Partition), slog.String("cause", string(cause)))
}

// errFloorLayout says that another deployment writes to the same keys.
var errFloorLayout = errors.New("a floor in redis is that of a layout with other numbers of partitions or buckets; " +
	"give this deployment a Redis of its own, or the numbers that it was provisioned with")

func isOf(floor compliance.Floor, info StreamInfo) bool {
	return floor.Stream == info.Stream && floor.Created.Equal(info.Created)
}

// broken tells whether the stream was rolled back: whether what it is now cannot
// have led to its own floors. Floors of a stream that was deleted and made anew
// are those of another.
func (l *Loop) broken(ctx context.Context, info StreamInfo, floors []compliance.Floor) (Cause, error) {
	var own []compliance.Floor
	for _, floor := range floors {
		if isOf(floor, info) {
			own = append(own, floor)
		}
	}
	slices.SortFunc(own, func(a, b compliance.Floor) int {
		return cmp.Or(cmp.Compare(b.Sequence, a.Sequence), b.Stored.Compare(a.Stored))
	})
	own = slices.CompactFunc(own, func(a, b compliance.Floor) bool { return a.Sequence == b.Sequence })
	for _, floor := range own {
		switch {
		case floor.Sequence > info.Last:
			return StreamRolledBack, nil
		case floor.Sequence < info.First:
			return "", nil
		case floor.Stored.IsZero():
			continue
		}
		// What was rolled back and grew again has another message at the highest
		// floor; lower floors are right if that one is. Where the message was
		// removed, the next lower floor decides.
		stored, err := l.source.StoredAt(ctx, floor.Sequence)
		switch {
		case err != nil:
			return "", err
		case stored.IsZero():
			continue
		case !stored.Equal(floor.Stored):
			return StreamRolledBack, nil
		}
		return "", nil
	}
	return "", nil
}

// mergeAgain sets a bucket's floor back to before the first report of the
// stream, as a repair. Merging again what is merged changes nothing.
func (l *Loop) mergeAgain(ctx context.Context, i int, have compliance.Floor) error {
	to := l.floor(position{sequence: l.stream.First - 1})
	to.Repair = true
	recount := l.corrupt[l.buckets[i]] || have.Torn || have.Unreadable()
	if err := l.replace(ctx, i, compliance.Transaction{From: have, To: to, Recount: recount}); err != nil {
		return fmt.Errorf("merge bucket %02x again: %w", int(l.buckets[i]), err)
	}
	return nil
}

// recount has a bucket that is torn recounted. What the part of a transaction did to
// the records is of reports that the floor covers or that are merged again, so the
// floor stays where it is.
func (l *Loop) recount(ctx context.Context, i int, have compliance.Floor) error {
	b := l.buckets[i]
	l.options.Logger.LogAttrs(ctx, slog.LevelWarn, "redis took in a part of a transaction; the bucket is recounted",
		slog.Int("partition", l.options.Partition), slog.Int("bucket", int(b)))
	to := l.floor(position{have.Sequence, have.Stored})
	to.Repair = have.Repair
	if err := l.replace(ctx, i, compliance.Transaction{From: have, To: to, Recount: true}); err != nil {
		return fmt.Errorf("recount bucket %02x: %w", int(b), err)
	}
	return nil
}

// replace runs a transaction that puts a bucket right.
func (l *Loop) replace(ctx context.Context, i int, tx compliance.Transaction) error {
	tx.Bucket = l.buckets[i]
	if _, err := l.store.Apply(ctx, tx); err != nil {
		l.noteCorrupt(ctx, tx.Bucket, err)
		return err
	}
	l.floors[i], l.whole[i] = tx.To, l.wholeAfter(tx.To)
	delete(l.corrupt, tx.Bucket)
	return nil
}

// passLost passes what the stream has lost at its beginning before it was
// merged: a floor below it, or none at all. What the reader has in hand is not
// lost; where that ends, take finds it.
func (l *Loop) passLost(ctx context.Context) error {
	first := l.stream.First
	if !l.lost {
		first = min(first, l.next)
	}
	lowest := first
	for _, floor := range l.floors {
		if !floor.Repair {
			lowest = min(lowest, floor.Sequence+1)
		}
	}
	if lowest >= first {
		return nil
	}
	return l.passGap(ctx, lowest, first-1)
}

// pass passes a gap in the middle of the stream, up to this sequence.
func (l *Loop) pass(ctx context.Context, to uint64) error {
	if err := l.passGap(ctx, l.next, to); err != nil {
		return err
	}
	l.next = to + 1
	l.done.sequence = max(l.done.sequence, to)
	return nil
}

// passGap lets every floor pass the reports from first to last, which the stream
// does not hold, and writes down which of them the bucket has not got.
func (l *Loop) passGap(ctx context.Context, first, last uint64) error {
	alarmed := false
	for i, b := range l.buckets {
		have := l.floors[i]
		if have.Sequence >= last {
			continue
		}
		tx := compliance.Transaction{Bucket: b, From: have, To: l.floor(position{last, have.Stored})}
		if !have.Repair {
			gap := compliance.Gap{First: max(first, have.Sequence+1), Last: last, Seen: l.options.Now()}
			tx.Gaps = []compliance.Gap{gap}
			if !alarmed {
				l.options.Logger.LogAttrs(ctx, slog.LevelError,
					"the stream has lost reports before they were merged; forget them with complianced provision --accept-gap",
					slog.Int("partition", l.options.Partition), slog.String("stream", l.stream.Stream),
					slog.Uint64("first", gap.First), slog.Uint64("last", gap.Last))
				alarmed = true
			}
		}
		if _, err := l.store.Apply(ctx, tx); err != nil {
			l.noteCorrupt(ctx, b, err)
			return fmt.Errorf("pass a gap: %w", err)
		}
		l.floors[i] = tx.To
	}
	return nil
}

// moveUp moves the floors of buckets without traffic to the end of the last
// batch.
func (l *Loop) moveUp(ctx context.Context) error {
	var txs []transaction
	for i, b := range l.buckets {
		if have := l.floors[i]; have.Sequence < l.done.sequence {
			txs = append(txs, transaction{compliance.Transaction{Bucket: b, From: have, To: l.floor(l.done)}, i})
		}
	}
	return l.applyAll(ctx, txs, func(int, []*compliance.Report, []compliance.Effect) {})
}
