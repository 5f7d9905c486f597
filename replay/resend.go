package replay

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/publisher"
)

// invalid stands for a header that was refused and cannot be sent as it was: taking
// the spaces at its ends away may make it right.
const invalid = "invalid"

var (
	// ErrUnsendable says that a report which is right cannot be sent so that it stays the
	// same: its event id has characters that the NATS client takes away, or it is too
	// large with its first store time beside it.
	ErrUnsendable = errors.New("the report cannot be sent again as it is")
	// ErrRefused says that a report cannot be sent, and would be refused as before if
	// it could.
	ErrRefused = errors.New("the report was refused, would be refused again, and cannot be sent as it was")
)

// Resend returns the report that is sent for one that was stored: one that decodes to
// the same report, or to a rejection with the same code, whenever it is stored after
// that one. The error is [ErrUnsendable] or [ErrRefused].
func Resend(r *Report) (publisher.Outgoing, error) {
	if r.Misplaced || r.Incomplete {
		return publisher.Outgoing{}, ErrRefused
	}
	decoded, rejection := r.decode(nil)
	eventTime := decoded.Version.Time
	if rejection != nil {
		eventTime = rejection.EventTime
	}
	id := r.Envelope.IDHeader()
	switch {
	case publisher.ValidEventID(id):
	case rejection != nil:
		return publisher.Outgoing{}, ErrRefused
	default:
		return publisher.Outgoing{}, fmt.Errorf("%w: its event id has a control character or a space at an end, or is not UTF-8", ErrUnsendable)
	}
	sentTime, sentStored := r.Envelope.TimeHeaders()
	first, ok := compliance.TicksOf(r.Envelope.Stored)
	if !ok {
		return publisher.Outgoing{}, fmt.Errorf("%w: its store time lies outside the years 0001 to 9999", ErrRefused)
	}
	o := publisher.Outgoing{
		Body: r.Envelope.Body, NoEventID: true, NoEventTime: true,
		Header: map[string][]string{
			compliance.HeaderEventTime: {timeHeader(sentTime, eventTime)},
			compliance.HeaderStored:    {storedHeader(sentStored, first, r.Envelope.Stored)},
		},
	}
	if id != "" {
		o.Header[compliance.HeaderEventID] = []string{id}
	}
	key, _, err := compliance.ParseSubject(r.Envelope.Subject)
	if err != nil {
		if !publisher.ValidSubject(r.Envelope.Subject) {
			return publisher.Outgoing{}, ErrRefused
		}
		o.Subject = r.Envelope.Subject
	}
	o.Key = key
	return fitted(r, o, rejection)
}

// timeHeader is ce-time with the event time that the law took.
func timeHeader(sent *string, taken compliance.Ticks) string {
	if sent != nil {
		if _, err := compliance.ParseDateTimeOffset(*sent); err != nil {
			return refusedHeader(*sent)
		}
	}
	return compliance.FormatStored(taken.Time())
}

// storedHeader is Compliance-Stored with the first store time. One that the report came
// with is the first, unless it lies after the store time: then it decided nothing, and
// must not later.
func storedHeader(sent *string, stored compliance.Ticks, at time.Time) string {
	if sent == nil {
		return compliance.FormatStored(at)
	}
	first, err := compliance.ParseStored(*sent)
	switch {
	case err != nil:
		return refusedHeader(*sent)
	case first > stored:
		return compliance.FormatStored(at)
	}
	return *sent
}

// refusedHeader is a header that is no time, and stays so on its way.
func refusedHeader(sent string) string {
	if sent == "" || !publisher.ValidEventID(sent) {
		return invalid
	}
	return sent
}

// fitted adds the headers that are kept and decide nothing, unless the report becomes
// larger than the streams take by them.
func fitted(r *Report, o publisher.Outgoing, rejection *compliance.Rejection) (publisher.Outgoing, error) {
	if size(o) > publisher.MaxReport {
		err := ErrRefused
		if rejection == nil {
			err = ErrUnsendable
		}
		return publisher.Outgoing{}, fmt.Errorf("%w: with its first store time it is larger than 64 KiB", err)
	}
	for name, values := range r.Envelope.Kept() {
		if decides(name) || !sendable(name, values) {
			continue
		}
		o.Header[name] = values
		if size(o) > publisher.MaxReport {
			delete(o.Header, name)
		}
	}
	return o, nil
}

// decides reports whether a header that a dead letter keeps decides something, or is the
// dead letter's own.
func decides(name string) bool {
	return strings.EqualFold(name, compliance.HeaderEventID) || strings.EqualFold(name, compliance.HeaderEventTime) ||
		strings.HasPrefix(name, compliance.HeaderReportPrefix)
}

// sendable reports whether a header arrives as it was.
func sendable(name string, values []string) bool {
	return publisher.ValidHeaderName(name) && len(values) > 0 && !slices.ContainsFunc(values, func(v string) bool { return !publisher.ValidEventID(v) })
}

// size is what a server counts: body and headers.
func size(o publisher.Outgoing) int {
	msg := nats.Msg{Header: o.Header, Data: o.Body}
	return msg.Size()
}
