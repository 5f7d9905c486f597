package publisher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/compliance"
)

// What is wrong with a report or with the right to send it. None of these goes
// away by itself, so none is tried again.
var (
	// ErrInvalidKey says that policy or device is no id, or that the device is
	// not the one of Options.Device. Nothing was sent.
	ErrInvalidKey = errors.New("policy and device must each be 1 to 128 characters of A-Z a-z 0-9 _ -, and the device that of Options.Device where this is set")
	// ErrInvalidHeader says that a header cannot be sent as given, or that it is
	// one that the publisher sets itself. Nothing was sent.
	ErrInvalidHeader = errors.New("invalid header")
	// ErrInvalidTime says that the event time, given or of the clock, lies
	// outside the years 1 to 9999 in UTC, or within the very first 100 ns of year 1.
	// Nothing was sent.
	ErrInvalidTime = errors.New("the event time lies outside the years 1 to 9999 in UTC")
	// ErrTooLarge says that body and headers are more than MaxReport, or than the
	// server (max_payload) or the stream (maximum message size) takes.
	ErrTooLarge = errors.New("the report is larger than the server or the stream takes; at most 16 KiB is ever applied")
	// ErrMaxPayload is the ErrTooLarge of a connection whose server takes no message
	// so large (max_payload): a setting of the server, so it says little about the
	// report.
	ErrMaxPayload = fmt.Errorf("max_payload of the NATS server: %w", ErrTooLarge)
	// ErrNotAllowed says that the server refused the credentials, or the right
	// to publish to the report's subject or to subscribe to the inbox that
	// PubAcks come to.
	ErrNotAllowed = errors.New("the NATS server does not allow this; ask the operator for credentials that may publish " +
		"to compliance.status.*.<device> and subscribe to the inbox")
	// ErrCredentials is the ErrNotAllowed of credentials that the server refused:
	// there is no connection, so it says nothing about the report.
	ErrCredentials = fmt.Errorf("no connection: %w", ErrNotAllowed)
	// ErrDuplicate says that JetStream threw the report away, because it had
	// seen its Nats-Msg-Id within the stream's duplicate window. It happens only
	// where the caller set that header. The id may be another device's, so this
	// is no acceptance; after an attempt without an answer it may also be this
	// report's own.
	ErrDuplicate = errors.New("the stream took the report for a duplicate by its Nats-Msg-Id and did not store it; publish it without that header")
	// ErrDriver says that the NATS client cannot send the report, or cannot make
	// sense of what came in place of a PubAck, in a way that a further attempt does
	// not mend: a server without headers, or another program that answers on the
	// subject. In the latter case the report may be stored.
	ErrDriver = errors.New("the NATS client cannot publish to this server")
	// ErrClosed says that the publisher or its NATS connection is closed.
	ErrClosed = errors.New("the publisher or its connection is closed")
)

// Why an attempt failed, and why there was no further one. They are found in an
// [UnackedError].
var (
	// ErrNoStream says that no stream takes the subject.
	ErrNoStream = errors.New("no JetStream stream takes compliance.status.>; the operator creates it with: complianced provision")
	// ErrNotConnected says that there was no connection to a NATS server.
	ErrNotConnected = errors.New("not connected to a NATS server")
	// ErrNoAnswer says that the PubAck did not come in Options.AckTimeout.
	ErrNoAnswer = errors.New("no PubAck in time")
	// ErrMaxAttempts says that all Options.MaxAttempts were used up.
	ErrMaxAttempts = errors.New("all attempts used up")
)

// UnackedError says that no PubAck was received. The report may be stored or
// not. Publishing it again with EventID and EventTime of this error is safe,
// also after a restart of the program.
type UnackedError struct {
	// EventID and EventTime are what the attempts carried; zero where
	// Outgoing asked for none.
	EventID   string
	EventTime time.Time
	// Attempts is how often the report was tried.
	Attempts int
	// Why says why there was no further attempt: the error of the context,
	// ErrMaxAttempts or ErrClosed.
	Why error
	// Last says why the last attempt failed; nil where there was none.
	Last error
}

// Error says how often the report was tried and why that ended.
func (e *UnackedError) Error() string {
	if e.Last == nil {
		return fmt.Sprintf("publish report: not sent: %v", e.Why)
	}
	return fmt.Sprintf("publish report: no PubAck after %d attempts: %v; last attempt: %v", e.Attempts, e.Why, e.Last)
}

// Unwrap returns Why and Last.
func (e *UnackedError) Unwrap() []error {
	if e.Last == nil {
		return []error{e.Why}
	}
	return []error{e.Why, e.Last}
}

// RefusedError is an error that JetStream answered with in place of a PubAck.
type RefusedError struct {
	// Code is the class in the manner of HTTP: 400, 503.
	Code int
	// ErrorCode is the number of the error in JetStream, 10077 for example.
	ErrorCode int
	// Description is the server's text.
	Description string
}

// Error gives the server's text and numbers.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("JetStream refused the report: %s (%d, error %d)", e.Description, e.Code, e.ErrorCode)
}

// accountResourcesExceeded is of class 400, but goes away when the account has
// room again.
const accountResourcesExceeded = 10002

// Temporary reports whether a further attempt makes sense: classes 429 and 5xx,
// an id that is in process elsewhere (409), a timeout (408), and an account that
// is at its limits.
func (e *RefusedError) Temporary() bool {
	switch e.Code {
	case 408, 409, 429:
		return true
	}
	return e.Code >= 500 || e.ErrorCode == accountResourcesExceeded
}

// NoResultError says that the report is accepted, and that its result was not
// heard. Results are best effort: the report is merged all the same.
type NoResultError struct {
	// Ack is the acceptance.
	Ack Ack
	// Why is the error of the context, context.DeadlineExceeded after
	// Options.ResultTimeout, ErrNotAllowed or ErrClosed.
	Why error
}

// Error says that and where the report is accepted.
func (e *NoResultError) Error() string {
	return fmt.Sprintf("the report is accepted (stream %s, sequence %d), but its result was not heard: %v",
		e.Ack.Stream, e.Ack.Sequence, e.Why)
}

// Unwrap returns Why.
func (e *NoResultError) Unwrap() error { return e.Why }

// temporary reports whether an attempt that failed so may succeed later.
func temporary(err error) bool {
	if refused, ok := errors.AsType[*RefusedError](err); ok {
		return refused.Temporary()
	}
	return errors.Is(err, ErrNoStream) || errors.Is(err, ErrNotConnected) || errors.Is(err, ErrNoAnswer)
}

// attemptError turns an error of the driver into one of this package.
func attemptError(err error) error {
	var api *jetstream.APIError
	switch {
	case errors.As(err, &api):
		return refusal(api)
	case errors.Is(err, nats.ErrMaxPayload):
		return ErrMaxPayload
	case errors.Is(err, nats.ErrBadHeaderMsg):
		return fmt.Errorf("%w: a name that NATS does not take", ErrInvalidHeader)
	case errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrConnectionDraining):
		return ErrClosed
	case errors.Is(err, jetstream.ErrNoStreamResponse):
		return ErrNoStream
	case disconnected(err):
		return ErrNotConnected
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), errors.Is(err, nats.ErrTimeout):
		return ErrNoAnswer
	}
	return fmt.Errorf("%w: %s", ErrDriver, masked(err.Error()))
}

// disconnected reports whether err says that the connection is lost, or was while
// the report was written to it.
func disconnected(err error) bool {
	for _, lost := range []error{
		nats.ErrDisconnected, nats.ErrConnectionReconnecting, nats.ErrReconnectBufExceeded, nats.ErrStaleConnection,
		nats.ErrNoServers, io.EOF, io.ErrUnexpectedEOF, io.ErrShortWrite, io.ErrClosedPipe, net.ErrClosed,
	} {
		if errors.Is(err, lost) {
			return true
		}
	}
	_, network := errors.AsType[net.Error](err)
	return network && !errors.Is(err, context.DeadlineExceeded)
}

// masked returns a text of the driver or the server up to where a subject begins,
// which would name a device.
func masked(text string) string {
	text, _, _ = strings.Cut(text, compliance.StatusPrefix)
	text, _, _ = strings.Cut(text, compliance.ResultPrefix)
	return text
}

// headerTooLarge is JetStream's error for headers of more than 64 KiB.
const headerTooLarge jetstream.ErrorCode = 10097

func refusal(api *jetstream.APIError) error {
	if api.ErrorCode == jetstream.JSErrCodeStreamMessageExceedsMaximum || api.ErrorCode == headerTooLarge {
		return ErrTooLarge
	}
	return &RefusedError{Code: api.Code, ErrorCode: int(api.ErrorCode), Description: masked(api.Description)}
}

// unauthorized reports whether err is a server's verdict on the credentials.
func unauthorized(err error) bool {
	return errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) ||
		errors.Is(err, nats.ErrAuthRevoked) || errors.Is(err, nats.ErrAccountAuthExpired)
}

// refusedSubject reports whether err is the server's message that publishing
// ("Publish") or subscribing ("Subscription") to a subject that begins with
// prefix is not permitted. NATS gives this as a text alone.
func refusedSubject(err error, operation, prefix string) bool {
	return errors.Is(err, nats.ErrPermissionViolation) && strings.Contains(err.Error(), operation+` to "`+prefix)
}
