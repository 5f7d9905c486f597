package ingest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/compliance"
)

// DeadStream is the stream of the dead letters.
const DeadStream = compliance.DeadStream

// maxKeptHeaders bounds the names and values of the report's headers that a dead
// letter keeps, in bytes: the server refuses a message with more than 64 KiB of
// headers, and the error object takes up to 8 KiB of them.
const maxKeptHeaders = 32 << 10

// Publisher is the outlet on NATS: dead letters go to [DeadStream], results out
// by core NATS.
type Publisher struct {
	js jetstream.JetStream
}

// NewPublisher returns an outlet. The context needs
// [jetstream.WithPublishAsyncTimeout], of ten seconds for example: without it a
// dead letter whose acknowledgement is lost counts as under way until the
// connection breaks, and once 4,000 are, every further one is refused with
// [jetstream.ErrTooManyStalledMsgs].
func NewPublisher(js jetstream.JetStream) *Publisher { return &Publisher{js: js} }

const (
	// maxUnderWay is how many dead letters wait for their acknowledgement at once.
	maxUnderWay = 256
	// buryWithin bounds that wait: an acknowledgement can be lost although the
	// connection stands.
	buryWithin = 10 * time.Second
)

// Bury has the contract of [Outlet].
func (p *Publisher) Bury(ctx context.Context, letters []DeadLetter) (fresh []DeadLetter, err error) {
	for some := range slices.Chunk(letters, maxUnderWay) {
		part, err := p.buryAtOnce(ctx, some)
		fresh = append(fresh, part...)
		if err != nil {
			return fresh, fmt.Errorf("keep dead letters in %s: %w", DeadStream, err)
		}
	}
	return fresh, nil
}

func (p *Publisher) buryAtOnce(ctx context.Context, letters []DeadLetter) (fresh []DeadLetter, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, buryWithin, errNoPubAck)
	defer cancel()
	receipts := make([]receipt, 0, len(letters))
	for _, letter := range letters {
		r := p.send(letter.message())
		receipts = append(receipts, r)
		if r.err != nil && !refusedForGood(r.err) {
			break // The letters after it would fare no better.
		}
	}
	var errs []error
	for i, r := range receipts {
		err := r.wait(ctx)
		if refusedForGood(err) {
			err = p.buryBare(ctx, letters[i])
		}
		switch {
		case err == nil:
			fresh = append(fresh, letters[i])
		case !alreadyThere(err):
			errs = append(errs, err)
		}
	}
	return fresh, errors.Join(errs...)
}

// receipt is of a letter that was sent, or was not.
type receipt struct {
	future jetstream.PubAckFuture
	err    error
}

func (p *Publisher) send(m *nats.Msg) receipt {
	future, err := p.js.PublishMsgAsync(m, jetstream.WithRetryAttempts(0))
	return receipt{future, err}
}

// errNoPubAck says that the server does not acknowledge.
var errNoPubAck = errors.New("no acknowledgement came; does the stream have a leader?")

// wait returns nil when the letter is kept.
func (r receipt) wait(ctx context.Context) error {
	if r.err != nil {
		return r.err
	}
	select {
	case <-r.future.Ok():
		return nil
	case err := <-r.future.Err():
		return err
	case <-ctx.Done():
	}
	// What came before the end counts, whatever select saw first.
	select {
	case <-r.future.Ok():
		return nil
	case err := <-r.future.Err():
		return err
	default:
		return context.Cause(ctx)
	}
}

// buryBare keeps a dead letter without the report's headers and body, where the
// server refuses the whole one: better than a partition that stands still.
func (p *Publisher) buryBare(ctx context.Context, letter DeadLetter) error {
	m := letter.bare()
	m.Header.Set(compliance.HeaderDropped, strconv.Itoa(len(letter.Envelope.Header)))
	return p.send(m).wait(ctx)
}

// alreadyThere tells the refusal of a second dead letter of the same report.
func alreadyThere(err error) bool {
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence
}

// Error codes of the server, in its file server/errors.json.
const (
	errCodeMessageExceedsMaximum = 10054
	errCodeHeaderExceedsMaximum  = 10097
)

// refusedForGood tells a refusal of a message as it is: by the server, or by the
// client, which knows how large a message the server takes.
func refusedForGood(err error) bool {
	if errors.Is(err, nats.ErrMaxPayload) {
		return true
	}
	api, ok := errors.AsType[*jetstream.APIError](err)
	return ok && (api.ErrorCode == errCodeMessageExceedsMaximum || api.ErrorCode == errCodeHeaderExceedsMaximum)
}

// message returns the dead letter as it is published: what bare returns, the body
// verbatim, and the report's headers that are kept, those with the smallest names first.
func (d DeadLetter) message() *nats.Msg {
	m := d.bare()
	m.Data = d.Envelope.Body
	left, dropped := maxKeptHeaders, 0
	kept := d.Envelope.Kept()
	for _, name := range slices.Sorted(maps.Keys(kept)) {
		values := kept[name]
		for _, value := range values {
			left -= len(name) + len(value) + len(": \r\n")
		}
		if left < 0 || !writable(name) {
			dropped++
			continue
		}
		m.Header[name] = values
	}
	if dropped > 0 {
		m.Header.Set(compliance.HeaderDropped, strconv.Itoa(dropped))
	}
	return m
}

// writable tells whether the client writes a header of this name. It reads names
// that it does not write.
func writable(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == ':' || r > '~' })
}

// bare returns what a dead letter says of its report. The expected last sequence of
// its own subject is 0, so that a report read twice has one.
func (d DeadLetter) bare() *nats.Msg {
	subject := compliance.DeadSubject{
		Code: d.Rejection.Code(), Stream: d.Stream, Sequence: d.Envelope.Sequence, Stored: d.Envelope.Stored,
	}
	m := nats.NewMsg(subject.String())
	m.Header.Set(compliance.HeaderCode, string(subject.Code))
	if target := d.Rejection.Violations[0].Target; target != "" {
		m.Header.Set(compliance.HeaderProperty, target)
	}
	m.Header.Set(compliance.HeaderError, string(d.Rejection.ErrorObject().JSON()))
	m.Header.Set(compliance.HeaderSubject, compliance.StatusSubject(d.Envelope.Subject))
	m.Header.Set(compliance.HeaderStream, d.Stream)
	m.Header.Set(compliance.HeaderSequence, strconv.FormatUint(d.Envelope.Sequence, 10))
	m.Header.Set(compliance.HeaderStored, compliance.FormatStored(d.Envelope.Stored))
	m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, "0")
	return m
}

// errNotConnected says that results were not sent: the client would keep them
// until the server is back, when nobody waits for them any more.
var errNotConnected = errors.New("there is no connection to nats")

// Reply has the contract of [Outlet].
func (p *Publisher) Reply(_ context.Context, replies []Reply) error {
	if !p.js.Conn().IsConnected() {
		return errNotConnected
	}
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
