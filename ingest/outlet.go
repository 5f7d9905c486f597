package ingest

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/compliance"
)

// DeadStream is the stream of the dead letters.
const DeadStream = "COMPLIANCE_DEAD"

// Headers of a dead letter.
const (
	headerCode     = "Compliance-Code"
	headerProperty = "Compliance-Property"
	headerError    = "Compliance-Error"
	headerSubject  = "Compliance-Subject"
	headerStream   = "Compliance-Stream"
	headerSequence = "Compliance-Sequence"
)

// Publisher is the outlet on NATS: dead letters go to [DeadStream], results out
// by core NATS.
type Publisher struct {
	js jetstream.JetStream
}

// NewPublisher returns an outlet.
func NewPublisher(js jetstream.JetStream) *Publisher { return &Publisher{js: js} }

// maxUnderWay is how many dead letters wait for their acknowledgement at once.
const maxUnderWay = 256

// Bury has the contract of [Outlet].
func (p *Publisher) Bury(ctx context.Context, letters []DeadLetter) error {
	for len(letters) > 0 {
		n := min(len(letters), maxUnderWay)
		if err := p.buryAtOnce(ctx, letters[:n]); err != nil {
			return fmt.Errorf("keep dead letters in %s: %w", DeadStream, err)
		}
		letters = letters[n:]
	}
	return nil
}

func (p *Publisher) buryAtOnce(ctx context.Context, letters []DeadLetter) error {
	futures := make([]jetstream.PubAckFuture, 0, len(letters))
	for _, letter := range letters {
		future, err := p.js.PublishMsgAsync(letter.message(), jetstream.WithRetryAttempts(0))
		if err != nil {
			return err
		}
		futures = append(futures, future)
	}
	for _, future := range futures {
		select {
		case <-future.Ok():
		case err := <-future.Err():
			if !alreadyThere(err) {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// alreadyThere tells the refusal of a second dead letter of the same report.
func alreadyThere(err error) bool {
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence
}

// message returns the dead letter as it is published. The expected last sequence
// of its own subject is 0, so that a report read twice has one.
func (d DeadLetter) message() *nats.Msg {
	code := string(d.Rejection.Code())
	sequence := strconv.FormatUint(d.Envelope.Sequence, 10)
	m := nats.NewMsg(compliance.DeadPrefix + code + "." + d.Stream + "." + sequence + "." +
		strconv.FormatInt(d.Envelope.Stored.UnixNano(), 10))
	for name, values := range d.Envelope.Header {
		if compliance.KeptWithDeadLetter(name) {
			m.Header[name] = values
		}
	}
	m.Header.Set(headerCode, code)
	if target := d.Rejection.Violations[0].Target; target != "" {
		m.Header.Set(headerProperty, target)
	}
	m.Header.Set(headerError, string(d.Rejection.ErrorObject().JSON()))
	m.Header.Set(headerSubject, compliance.StatusSubject(d.Envelope.Subject))
	m.Header.Set(headerStream, d.Stream)
	m.Header.Set(headerSequence, sequence)
	m.Header.Set(compliance.HeaderStored, compliance.FormatStored(d.Envelope.Stored))
	m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, "0")
	m.Data = d.Envelope.Body
	return m
}

// Reply has the contract of [Outlet].
func (p *Publisher) Reply(_ context.Context, replies []Reply) error {
	var errs []error
	for _, reply := range replies {
		text, err := reply.Result.JSON()
		if err == nil {
			err = p.js.Conn().Publish(compliance.ResultSubject(reply.Device, reply.Token), text)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
