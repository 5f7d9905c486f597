package fleet

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/compliance"
)

// publisher is what the sender needs of JetStream.
type publisher interface {
	PublishMsgAsync(msg *nats.Msg, opts ...jetstream.PublishOpt) (jetstream.PubAckFuture, error)
}

// flight is a report on its way. It has one of the slots from when it is made until
// it is accepted or given up.
type flight struct {
	report   Report
	attempts int
	// future is what the last attempt waits for, err why it could not be made.
	future jetstream.PubAckFuture
	err    error
	// notBefore is when the next attempt is due.
	notBefore time.Time
}

// sender sends reports. One goroutine makes and sends them (produce, then settle), one
// takes what becomes of them (collect). A flight is with one of them, or in pending
// or again, which have room for all slots and so never block.
type sender struct {
	load      Load
	connected func(context.Context) error
	js        publisher

	slots   chan struct{}
	pending chan flight
	again   chan flight

	// Of the goroutine that sends.
	summary Summary
	// Of the one that collects.
	journal  *journal
	accepted uint64
	troubled bool
	refused  bool
	last     error
}

func newSender(l Load, connected func(context.Context) error, js publisher) *sender {
	return &sender{
		load: l, connected: connected, js: js,
		slots:   make(chan struct{}, l.MaxPending),
		pending: make(chan flight, l.MaxPending),
		again:   make(chan flight, l.MaxPending),
		journal: newJournal(l.Journal),
	}
}

// produce sends the reports of a fleet. What failed goes first, so that nothing new is
// made while nothing is accepted.
func (s *sender) produce(ctx context.Context, fleet *Fleet, began time.Time) error {
	for s.load.Reports == 0 || s.summary.Sent < s.load.Reports {
		var due time.Time
		if s.load.Fleet.Rate > 0 {
			due = began.Add(time.Duration(float64(s.summary.Sent) / s.load.Fleet.Rate * float64(time.Second)))
		}
		next, failed, err := s.await(ctx, due)
		if err != nil {
			return err
		}
		if !failed {
			next.report = s.next(fleet)
			s.summary.count(&next.report)
		}
		if err := s.send(ctx, next); err != nil {
			return err
		}
	}
	return nil
}

// next returns the next report. The last ones of a number of reports are those that
// were held back.
func (s *sender) next(fleet *Fleet) Report {
	if s.load.Reports > 0 && s.load.Reports-s.summary.Sent <= uint64(fleet.Held()) {
		if report, ok := fleet.Drain(); ok {
			return report
		}
	}
	return fleet.Next()
}

// await returns a flight that failed, or takes a slot for a new one when that is
// due and there is one. The error is the context's.
func (s *sender) await(ctx context.Context, due time.Time) (f flight, failed bool, err error) {
	if err := ctx.Err(); err != nil {
		return flight{}, false, err
	}
	select {
	case f := <-s.again:
		return f, true, nil
	default:
	}
	if pause := time.Until(due); pause > 0 {
		timer := time.NewTimer(max(pause, minPause))
		defer timer.Stop()
		select {
		case <-timer.C:
		case f := <-s.again:
			return f, true, nil
		case <-ctx.Done():
			return flight{}, false, ctx.Err()
		}
	}
	select {
	case s.slots <- struct{}{}:
		return flight{}, false, nil
	case f := <-s.again:
		return f, true, nil
	case <-ctx.Done():
		return flight{}, false, ctx.Err()
	}
}

// settle waits until nothing is under way, and goes on trying what failed.
func (s *sender) settle(ctx context.Context) error {
	for free := 0; free < cap(s.slots); {
		select {
		case s.slots <- struct{}{}:
			free++
		case failed := <-s.again:
			if err := s.send(ctx, failed); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// send makes one attempt. The error says that there can be none.
func (s *sender) send(ctx context.Context, f flight) error {
	err := pauseUntil(ctx, f.notBefore)
	if err == nil {
		err = s.connected(ctx)
	}
	if err != nil {
		s.again <- f
		return err
	}
	if f.attempts++; f.attempts > 1 {
		s.summary.Retries++
	}
	f.future, f.err = s.js.PublishMsgAsync(f.report.Message(), jetstream.WithRetryAttempts(0))
	s.pending <- f
	return nil
}

func pauseUntil(ctx context.Context, at time.Time) error {
	pause := time.Until(at)
	if pause <= 0 {
		return nil
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// collect takes what becomes of each report, in the order of sending, until pending
// is closed. Once ctx has ended it no longer waits. The error is the journal's, and
// ends it.
func (s *sender) collect(ctx context.Context) error {
	flush := time.NewTicker(time.Second)
	defer flush.Stop()
	for {
		select {
		case <-flush.C:
			if err := s.journal.flush(); err != nil {
				return err
			}
		case f, open := <-s.pending:
			if !open {
				return s.journal.flush()
			}
			if err := s.outcome(ctx, f, flush.C); err != nil {
				return err
			}
		}
	}
}

// outcome waits for what becomes of a report.
func (s *sender) outcome(ctx context.Context, f flight, flush <-chan time.Time) error {
	for f.err == nil {
		select {
		case ack := <-f.future.Ok():
			if !ack.Duplicate {
				return s.accept(f, ack)
			}
			f.err = errDuplicate
		case f.err = <-f.future.Err():
		case <-flush:
			if err := s.journal.flush(); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
	s.fail(f, f.err)
	return nil
}

func (s *sender) accept(f flight, ack *jetstream.PubAck) error {
	s.accepted++
	<-s.slots
	if s.troubled {
		s.troubled = false
		s.load.Log.Info("reports are accepted again")
	}
	return s.journal.write(Entry{
		Stream: ack.Stream, Sequence: ack.Sequence,
		ID: f.report.EventID, Time: compliance.FormatStored(f.report.Time), Subject: f.report.Subject,
	})
}

// fail sees to it that a report is tried again, unless that is in vain.
func (s *sender) fail(f flight, err error) {
	if errors.Is(err, jetstream.ErrNoStreamResponse) {
		err = errNoStream
	}
	s.last = err
	if permanent(err) {
		<-s.slots
		if !s.refused {
			s.refused = true
			s.load.Log.Warn("a report is refused for good; further ones are only counted", slog.Any("error", err))
		}
		return
	}
	if !s.troubled {
		s.troubled = true
		s.load.Log.Warn("reports are not accepted; trying again", slog.Any("error", err))
	}
	f.notBefore = time.Now().Add(min(firstPause<<min(f.attempts, 10), maxPause))
	s.again <- f
}

// The pause before another attempt doubles from one to the other.
const (
	firstPause = 50 * time.Millisecond
	maxPause   = 2 * time.Second
)

var (
	errNoStream  = errors.New("no stream takes the reports; is it there? see complianced provision")
	errDuplicate = errors.New("the stream took a report for a duplicate and did not store it")
)

// accountLimits is the error of an account at its limits, which goes away when there
// is room again.
const accountLimits jetstream.ErrorCode = 10002

// permanent reports whether another attempt would end the same.
func permanent(err error) bool {
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return api.Code == 400 && api.ErrorCode != accountLimits
	}
	return errors.Is(err, errDuplicate) || errors.Is(err, nats.ErrMaxPayload)
}
