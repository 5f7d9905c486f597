package replay

import (
	"context"
	"errors"
	"io"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/deadletter"
)

// Dead is a source on the reports of dead letters, in the order of those. It is used by
// one goroutine.
type Dead struct {
	letters chan Report
	failed  error
	stop    context.CancelFunc
}

// OpenDead begins to read dead letters. The caller closes it. A message that is no dead
// letter is told to skipped, and left out.
func OpenDead(ctx context.Context, box *deadletter.Box, of deadletter.Filter, skipped func(error)) *Dead {
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	d := &Dead{letters: make(chan Report), stop: stop}
	go func() {
		defer close(d.letters)
		d.failed = box.Each(ctx, of, func(letter deadletter.Letter, err error) error {
			if err != nil {
				skipped(err)
				return nil
			}
			select {
			case d.letters <- reportOf(&letter):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
	}()
	return d
}

// reportOf is the report of a dead letter.
func reportOf(letter *deadletter.Letter) Report {
	_, _, err := compliance.ParseSubject(letter.Envelope.Subject)
	return Report{
		Envelope: letter.Envelope, Incomplete: letter.Dropped > 0,
		Misplaced: err == nil && letter.Code == compliance.InvalidSubject,
	}
}

// Close stops reading.
func (d *Dead) Close() {
	d.stop()
	for range d.letters { // Until the goroutine has ended.
		continue
	}
}

// Next has the contract of [Source].
func (d *Dead) Next(ctx context.Context) (Report, error) {
	select {
	case r, ok := <-d.letters:
		switch {
		case ok:
			return r, nil
		case d.failed != nil && !errors.Is(d.failed, context.Canceled):
			return Report{}, d.failed
		}
		return Report{}, io.EOF
	case <-ctx.Done():
		return Report{}, ctx.Err()
	}
}
