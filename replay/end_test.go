package replay_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/complianced/complianced/replay"
)

// breaking is a source that ends with an error.
type breaking struct {
	source replay.Source
	left   int
	err    error
}

func (b *breaking) Next(ctx context.Context) (replay.Report, error) {
	if b.left--; b.left < 0 {
		return replay.Report{}, b.err
	}
	return b.source.Next(ctx)
}

func TestADeadlineIsNoEndOfTheSource(t *testing.T) {
	b := startBroker(t, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	// The turn of the second report comes after the deadline.
	table, err := replay.Run(ctx, numbered(10), b.sender(), replay.Options{Rate: 1e-5})
	if !errors.Is(err, context.DeadlineExceeded) || table.Reports != 1 {
		t.Errorf("%v: %+v", err, table)
	}
}

func TestWhatEndsAReplayIsToldAndNotWhatFollows(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	sender := b.sender()
	if err := b.js.DeleteStream(t.Context(), "COMPLIANCE_STATUS"); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("the file is torn")
	// What is in flight is never accepted, and given up when the replay ends.
	_, err := replay.Run(t.Context(), &breaking{source: numbered(10), left: 3, err: broken}, sender, replay.Options{})
	if !errors.Is(err, broken) {
		t.Error(err)
	}
}

// waiting is a source that has no more reports until it is told.
type waiting struct {
	source replay.Source
	goOn   chan struct{}
}

func (w *waiting) Next(ctx context.Context) (replay.Report, error) {
	r, err := w.source.Next(ctx)
	if err == nil {
		return r, nil
	}
	select {
	case <-w.goOn:
		return r, err
	case <-ctx.Done():
		return r, ctx.Err()
	}
}

func TestAPositionIsToldAgainWhileNothingIsPassed(t *testing.T) {
	t.Parallel()
	b := startBroker(t, 1)
	w := &waiting{source: numbered(3), goOn: make(chan struct{})}
	told := 0
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := replay.Run(ctx, w, b.sender(), replay.Options{Save: func(p replay.Position) error {
		if p.Passed == 3 {
			if told++; told == 3 {
				close(w.goOn)
			}
		}
		return nil
	}})
	if err != nil {
		t.Error(err)
	}
}
