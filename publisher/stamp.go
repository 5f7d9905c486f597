package publisher

import (
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/complianced/complianced/compliance"
)

// Stamper checks reports and gives them their id and time, as a Publisher does
// when it takes them. It is for a program that keeps reports before they are
// sent. Its methods may be called from many goroutines.
type Stamper struct {
	device string
	clock  clock
}

// NewStamper returns a stamper of reports about a device, or any where it is
// empty. The times come from now, and go up from last, the newest time that was
// given out before, or zero.
func NewStamper(device string, now func() time.Time, last time.Time) (*Stamper, error) {
	if device != "" && !compliance.ValidID(device) {
		return nil, ErrInvalidKey
	}
	s := &Stamper{device: device, clock: clock{now: now}}
	if !last.IsZero() {
		ticks, ok := compliance.TicksOf(last)
		if !ok {
			return nil, ErrInvalidTime
		}
		s.clock.last.Store(uint64(ticks))
	}
	return s, nil
}

// Last is the newest time of the stamper's clock that it gave out, or zero. Where
// the clock was set back by more than ten minutes, it goes back too. Times that
// reports had of their own do not count.
func (s *Stamper) Last() time.Time {
	return compliance.Ticks(s.clock.last.Load()).Time()
}

// Stamp returns the report with the event id and event time that it will be sent
// with: Publish changes neither. A report that could not be sent is an error:
// ErrInvalidKey, ErrInvalidHeader, ErrInvalidTime or ErrTooLarge. So is one without a Key.
func (s *Stamper) Stamp(o Outgoing) (Outgoing, error) {
	if o.Subject != "" {
		return o, ErrInvalidKey
	}
	report, err := s.pack(o, "")
	o.EventID, o.EventTime = report.eventID, report.eventTime
	return o, err
}

// parcel is a report as every attempt sends it.
type parcel struct {
	msg       *nats.Msg
	eventID   string
	eventTime time.Time
}

// pack checks and stamps a report. reply is the token of PublishAndWait, or
// empty.
func (s *Stamper) pack(o Outgoing, reply string) (parcel, error) {
	subject, err := s.subject(o)
	if err != nil {
		return parcel{}, err
	}
	eventID, err := o.eventID()
	if err != nil {
		return parcel{}, err
	}
	eventTime, err := s.eventTime(o)
	if err != nil {
		return parcel{}, err
	}
	header := make(nats.Header, len(o.Header)+3)
	for name, values := range o.Header {
		if !ValidHeaderName(name) {
			return parcel{}, fmt.Errorf("%w: a name that NATS does not take", ErrInvalidHeader)
		}
		if strings.ContainsAny(strings.Join(values, ""), "\r\n") {
			return parcel{}, fmt.Errorf("%w: a value with a line break", ErrInvalidHeader)
		}
		header[name] = values
	}
	for _, h := range []struct{ name, value string }{
		{compliance.HeaderEventID, eventID},
		{compliance.HeaderEventTime, formatEventTime(eventTime)},
		{compliance.HeaderReply, reply},
	} {
		if err := set(header, h.name, h.value); err != nil {
			return parcel{}, err
		}
	}
	msg := &nats.Msg{Subject: subject, Header: header, Data: o.Body}
	if size(msg) > MaxReport {
		return parcel{}, ErrTooLarge
	}
	return parcel{msg: msg, eventID: eventID, eventTime: eventTime}, nil
}

// eventTime returns the report's event time, cut to ticks; zero where it gets none.
func (s *Stamper) eventTime(o Outgoing) (time.Time, error) {
	if o.EventTime.IsZero() {
		if o.NoEventTime {
			return time.Time{}, nil
		}
		ticks, err := s.clock.next()
		return ticks.Time(), err
	}
	ticks, ok := compliance.TicksOf(o.EventTime)
	if !ok || ticks.Time().IsZero() { // Cut to nothing, it would count as none.
		return time.Time{}, ErrInvalidTime
	}
	return ticks.Time(), nil
}
