package replay

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/publisher"
)

// Options say how reports are sent. The zero value works.
type Options struct {
	// Rate is the greatest number of reports a second. Defaults to no bound.
	Rate float64
	// Lag returns how far the workers of the destination are behind. While it grows,
	// the rate falls. Defaults to none: then Rate alone holds.
	Lag func(context.Context) (time.Duration, error)
	// Results, where not nil, is a connection to the destination on which the result of
	// every report is waited for.
	Results *nats.Conn
	// ResultTimeout is how long a result may take after the PubAck. Defaults to 65 s: no
	// worker sends the result of a report that was stored more than a minute ago.
	ResultTimeout time.Duration
	// From is the position to go on from, as the source was told too. Where it is one by
	// number, the reports that are passed are read and left out, and nothing is sent where
	// they are others. Defaults to the beginning.
	From Position
	// Save, where not nil, keeps the position, about once a second, also where it is the one
	// before, and at the end. Its error ends the replay.
	Save func(Position) error
	// Passed, where not nil, hears of each report that is passed. It must not block.
	Passed func()
}

const (
	saveEvery = time.Second
	// settleTime is how long an interrupted replay waits for what is in flight.
	settleTime = 5 * time.Second
)

// Run sends the reports of a source and returns what became of them, those before
// Options.From included. When ctx ends, it sends no more, waits 5 s at most for what is
// in flight, and returns the error of ctx. All other errors end it in the same way:
// what a further run may mend, it sends.
//
// The publisher's options bound what is in flight. Reports of one record are sent one
// after the other.
func Run(ctx context.Context, source Source, sender *publisher.Publisher, o Options) (Table, error) {
	r := &run{
		sender: sender, options: o, pace: newPace(o.Rate), tracker: newTracker(o.From, o.Passed),
		busy: map[compliance.Key]chan struct{}{},
	}
	if o.Results != nil {
		timeout := o.ResultTimeout
		if timeout == 0 {
			timeout = 65 * time.Second
		}
		var err error
		if r.results, err = newResults(o.Results, timeout, r.tracker.end); err != nil {
			return Table{}, err
		}
		defer r.results.sub.Unsubscribe() //nolint:errcheck // The connection may be closed.
	}
	err := r.run(ctx, source)
	position, table := r.tracker.now()
	if o.Save == nil {
		return table, err
	}
	if failed := o.Save(position); !r.unsaved { // Else it is told already.
		err = errors.Join(err, failed)
	}
	return table, err
}

// run is one replay.
type run struct {
	sender  *publisher.Publisher
	options Options
	pace    *pace
	tracker *tracker
	results *results
	// flying are the reports that are not accepted yet.
	flying sync.WaitGroup
	// unsaved says that the replay ended because a position could not be saved.
	unsaved bool

	mu   sync.Mutex // guards busy
	busy map[compliance.Key]chan struct{}
}

func (r *run) run(ctx context.Context, source Source) error {
	running, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	// What is in flight outlives an interruption for a while.
	sending, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	var helpers sync.WaitGroup
	helping, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer helpers.Wait()
	defer stop()
	r.help(helping, &helpers, fail)
	err := r.produce(running, sending, source, fail)
	if err == nil {
		err = r.settle(running)
	}
	if err == nil {
		r.flying.Wait()
		return nil
	}
	fail(err)
	cause := context.Cause(running) // What ended the loop, in place of its consequences.
	timer := time.AfterFunc(settleTime, giveUp)
	defer timer.Stop()
	r.flying.Wait()
	return cause
}

// help starts what goes on beside the loop.
func (r *run) help(ctx context.Context, helpers *sync.WaitGroup, fail func(error)) {
	if r.options.Lag != nil {
		helpers.Go(func() { r.pace.run(ctx, r.options.Lag) })
	}
	if r.results != nil {
		helpers.Go(func() { r.results.run(ctx) })
	}
	if r.options.Save == nil {
		return
	}
	helpers.Go(func() {
		tick := time.NewTicker(saveEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			position, _ := r.tracker.now()
			if err := r.options.Save(position); err != nil {
				r.unsaved = true
				fail(err)
				return
			}
		}
	})
}

var (
	errFewer = errors.New("the source has fewer reports than were passed before; is it the same? begin again without --resume")
	errOther = errors.New("the reports that were passed are not the first ones of this order any more, so that it cannot be gone on with: " +
		"the stream has lost some since, dead letters were taken away, or it is another file; begin again without --resume")
)

// produce sends the reports.
func (r *run) produce(ctx, sending context.Context, source Source, fail func(error)) error {
	left, passed := uint64(0), digest{}
	if r.options.From.ByNumber() {
		left = r.options.From.Passed
	}
	for {
		report, err := source.Next(ctx)
		switch {
		case errors.Is(err, io.EOF) && left > 0:
			return errFewer
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case left > 0:
			left--
			passed = passed.with(digestOf(&report))
			if left == 0 && passed.String() != r.options.From.Digest {
				return errOther
			}
			continue
		}
		if err := r.pace.wait(ctx); err != nil {
			return err
		}
		select {
		case r.tracker.slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := r.send(ctx, sending, &report, fail); err != nil {
			return err
		}
	}
}

// send sends a report, when none of the same record is in flight.
func (r *run) send(ctx, sending context.Context, report *Report, fail func(error)) error {
	o, err := Resend(report)
	if err != nil {
		outcome := Failed
		if errors.Is(err, ErrRefused) {
			outcome = Rejected
		}
		r.tracker.end(r.tracker.begin(report), outcome)
		return nil
	}
	landed, err := r.board(ctx, o.Key)
	if err != nil {
		return err
	}
	n := r.tracker.begin(report)
	if r.results != nil && o.Subject == "" {
		o.Header[compliance.HeaderReply] = []string{r.results.ask(n)}
	}
	r.flying.Add(1)
	err = r.sender.PublishAsync(sending, o, func(ack publisher.Ack, err error) {
		defer r.flying.Done()
		defer landed()
		r.ended(n, o.Subject != "", ack, err, fail)
	})
	if err != nil {
		landed()
		r.flying.Done()
	}
	return err
}

// ended notes what became of a report, or ends the replay by an error that is not of
// this report.
func (r *run) ended(n uint64, nameless bool, ack publisher.Ack, err error, fail func(error)) {
	asks := r.results != nil && !nameless
	switch {
	case errors.Is(err, publisher.ErrTooLarge), errors.Is(err, publisher.ErrInvalidKey), errors.Is(err, publisher.ErrInvalidHeader),
		errors.Is(err, publisher.ErrInvalidTime):
		if asks {
			r.results.forget(n)
		}
		r.tracker.end(n, Failed)
	case err != nil:
		fail(err)
	case asks:
		r.results.accepted(n, ack)
	case r.results != nil: // It names no device that a result could be sent to, and is refused for that.
		r.tracker.end(n, Rejected)
	default:
		r.tracker.end(n, Accepted)
	}
}

// board waits until no report of a record is in flight, and says that one is until
// landed is called.
func (r *run) board(ctx context.Context, key compliance.Key) (landed func(), err error) {
	if key == (compliance.Key{}) {
		return func() {}, nil
	}
	own := make(chan struct{})
	for {
		r.mu.Lock()
		other := r.busy[key]
		if other == nil {
			r.busy[key] = own
		}
		r.mu.Unlock()
		if other == nil {
			return func() {
				r.mu.Lock()
				delete(r.busy, key)
				r.mu.Unlock()
				close(own)
			}, nil
		}
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// settle waits until every report is passed.
func (r *run) settle(ctx context.Context) error {
	for range cap(r.tracker.slots) {
		select {
		case r.tracker.slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
