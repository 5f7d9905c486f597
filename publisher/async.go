package publisher

import (
	"context"
	"fmt"
)

// PublishAsync sends a report in the background. It waits while
// Options.MaxInFlight reports of it are under way, gives the report its id and
// its time, and returns. Then done is called, exactly once and from another
// goroutine, with what Publish would have returned for the same ctx: the Ack, or
// the error, also that of a report that cannot be sent.
//
// An error of PublishAsync itself is that of ctx or ErrClosed, says that the
// report was not taken, and done is not called.
//
// Event times go up in the order of the calls. Reports that are under way at the
// same time may be stored in any order, and those that are tried again later
// than others: that is harmless, because the merge law makes the state a
// function of the set of reports. It does not where a report has no time of its own
// (see Outgoing.NoEventTime): then the time of storing counts, and with it the order.
//
// done may run many times at once. A report is under way until its done has
// returned, so a slow done slows down the caller; it must not call Close, nor
// PublishAsync. Body and Header of the report must not change before done is
// called, and ctx counts until then.
func (p *Publisher) PublishAsync(ctx context.Context, o Outgoing, done func(Ack, error)) error {
	if !p.gate.enter() {
		return fmt.Errorf("publish report: %w", ErrClosed)
	}
	if err := p.takeSlot(ctx); err != nil {
		p.gate.leave()
		return fmt.Errorf("publish report: %w", err)
	}
	report, err := p.stamper.pack(o, "")
	go func() {
		defer p.gate.leave()
		defer func() { <-p.slots }()
		if err != nil {
			done(Ack{}, fmt.Errorf("publish report: %w", err))
			return
		}
		done(p.send(ctx, report))
	}()
	return nil
}

// takeSlot waits until a further report may be under way.
func (p *Publisher) takeSlot(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case p.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-p.gate.closing:
		return ErrClosed
	}
}
