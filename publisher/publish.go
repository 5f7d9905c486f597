package publisher

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/publisher/internal/backoff"
)

// Publish sends a report and returns when it is accepted. What may go away by
// itself (no connection, no stream, no answer, a server that is busy or elects a
// leader) is tried again, with the same id and time, until ctx ends, MaxAttempts
// are used up or the publisher is closed: then the error is an [*UnackedError].
// All other errors are permanent; the package comment lists them.
func (p *Publisher) Publish(ctx context.Context, o Outgoing) (Ack, error) {
	if !p.gate.enter() {
		return Ack{}, fmt.Errorf("publish report: %w", ErrClosed)
	}
	defer p.gate.leave()
	return p.publish(ctx, o, "")
}

func (p *Publisher) publish(ctx context.Context, o Outgoing, reply string) (Ack, error) {
	report, err := p.stamper.pack(o, reply)
	if err != nil {
		return Ack{}, fmt.Errorf("publish report: %w", err)
	}
	return p.send(ctx, report)
}

// send tries until the report is accepted, refused or given up.
func (p *Publisher) send(ctx context.Context, report parcel) (Ack, error) {
	var last error
	for n := 0; ; n++ {
		if why := p.pause(ctx, n); why != nil {
			return Ack{}, &UnackedError{
				EventID: report.eventID, EventTime: report.eventTime,
				Attempts: n, Why: why, Last: last,
			}
		}
		stored, err := p.attempt(ctx, report.msg)
		if err == nil {
			return Ack{
				Stream: stored.Stream, Sequence: stored.Sequence,
				EventID: report.eventID, EventTime: report.eventTime, Attempts: n + 1,
			}, nil
		}
		if !temporary(err) {
			return Ack{}, fmt.Errorf("publish report: %w", err)
		}
		last = err
	}
}

// pause waits after n attempts, or says why there is no further one.
func (p *Publisher) pause(ctx context.Context, n int) error {
	if n == 0 {
		return ctx.Err()
	}
	if n == p.opts.MaxAttempts {
		return ErrMaxAttempts
	}
	timer := time.NewTimer(backoff.Pause(n, p.opts.RetryWait, p.opts.RetryWaitMax))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-p.gate.closing:
	}
	if p.gate.isClosing() {
		return ErrClosed
	}
	return ctx.Err()
}

// attempt sends the report once and waits for its PubAck.
func (p *Publisher) attempt(ctx context.Context, msg *nats.Msg) (*jetstream.PubAck, error) {
	ctx, cancel := context.WithTimeout(ctx, p.opts.AckTimeout)
	defer cancel()
	if err := p.connected(ctx); err != nil {
		return nil, err
	}
	// nats.go would refuse it too, but keeps a trace of every request that it could not send.
	if int64(size(msg)) > p.nc.MaxPayload() {
		return nil, ErrMaxPayload
	}
	before := p.nc.LastError()
	ack, err := p.js.PublishMsg(ctx, msg, jetstream.WithRetryAttempts(0))
	switch {
	case err == nil && ack.Duplicate:
		return nil, ErrDuplicate
	case err == nil:
		return ack, nil
	case p.denied(msg.Subject, before):
		return nil, ErrNotAllowed
	}
	err = attemptError(err)
	if errors.Is(err, ErrDriver) && p.nc.IsReconnecting() {
		return nil, ErrNotConnected // Whatever it is, it may be of the connection that is lost.
	}
	return nil, err
}

// denied reports whether the server has said, since before was its last error,
// that the subject may not be published to; or, at any time of this connection,
// that the inbox for PubAcks may not be subscribed to, which is done once.
func (p *Publisher) denied(subject string, before error) bool {
	now := p.nc.LastError()
	if refusedSubject(now, "Subscription", inboxPrefix(p.nc)) {
		return true
	}
	isNew := now != before //nolint:errorlint // Another error of the same kind is meant to differ.
	return isNew && refusedSubject(now, "Publish", subject+`"`)
}

func inboxPrefix(nc *nats.Conn) string {
	if nc.Opts.InboxPrefix == "" {
		return nats.InboxPrefix
	}
	return nc.Opts.InboxPrefix + "."
}

// connected waits for a connection.
func (p *Publisher) connected(ctx context.Context) error {
	if p.nc.IsConnected() {
		return nil
	}
	changed := p.nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
	defer p.nc.RemoveStatusListener(changed)
	for !p.nc.IsConnected() {
		if p.nc.IsClosed() {
			return ErrClosed
		}
		select {
		case <-changed:
		case <-p.gate.closing:
			return ErrNotConnected
		case <-ctx.Done():
			return notConnected(p.nc.LastError())
		}
	}
	return nil
}

// notConnected adds the reason that the connection knows, as far as it may be told.
func notConnected(reason error) error {
	switch {
	case reason == nil:
		return ErrNotConnected
	case unauthorized(reason):
		return ErrCredentials
	case errors.Is(reason, nats.ErrPermissionViolation): // It names a subject, and so a device.
		return ErrNotConnected
	}
	return fmt.Errorf("%w: %s", ErrNotConnected, masked(reason.Error()))
}
