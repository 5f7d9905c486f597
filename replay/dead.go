package replay

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/deadletter"
)

// Dead is a source on the reports of dead letters, in the order of those. It is used by
// one goroutine.
type Dead struct {
	letters chan Report
	failed  error
	stop    context.CancelFunc
	bounds  Bounds
	total   uint64
}

// OpenDead begins to read the dead letters that there are now: those of reports that are
// sent again and refused again come after them. The caller closes it. A message that is
// no dead letter is told to skipped, and left out.
func OpenDead(ctx context.Context, js jetstream.JetStream, of deadletter.Filter, continued Position, skipped func(error)) (*Dead, error) {
	box, err := deadletter.Open(ctx, js)
	if err != nil {
		return nil, err
	}
	stream, err := js.Stream(ctx, compliance.DeadStream)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", compliance.DeadStream, err)
	}
	info := stream.CachedInfo()
	b, first, err := boundsOf(info, 0, continued)
	if err != nil {
		return nil, fmt.Errorf("stream %s: %w", compliance.DeadStream, err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	d := &Dead{letters: make(chan Report), stop: stop, bounds: b, total: info.State.Msgs}
	go func() {
		defer close(d.letters)
		d.failed = box.Each(ctx, of, func(letter deadletter.Letter, err error) error {
			switch {
			case letter.Sequence > b.Last:
				return errBeyond
			case letter.Sequence < first:
				return nil
			case err != nil:
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
	return d, nil
}

// errBeyond says that a letter is not of those that there were at the beginning.
var errBeyond = errors.New("beyond the end")

// Bounds are where the replay begins and ends, by the stream's name.
func (d *Dead) Bounds() map[string]Bounds { return map[string]Bounds{compliance.DeadStream: d.bounds} }

// Total is how many reports there are at most.
func (d *Dead) Total() uint64 { return d.total }

// reportOf is the report of a dead letter.
func reportOf(letter *deadletter.Letter) Report {
	_, _, err := compliance.ParseSubject(letter.Envelope.Subject)
	return Report{
		Envelope: letter.Envelope, Incomplete: letter.DroppedDeciding > 0 || letter.LostBody > 0,
		Misplaced: err == nil && letter.Code == compliance.InvalidSubject,
		place:     place{compliance.DeadStream, letter.Sequence},
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
		case d.failed != nil && !errors.Is(d.failed, errBeyond):
			return Report{}, d.failed
		}
		return Report{}, io.EOF
	case <-ctx.Done():
		return Report{}, ctx.Err()
	}
}
