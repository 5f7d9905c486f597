package compliance

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"
)

// DeadStream is the stream of the dead letters.
const DeadStream = "COMPLIANCE_DEAD"

// Headers of a dead letter. [HeaderStored] is one, too: the store time of the report.
const (
	HeaderCode     = "Compliance-Code"
	HeaderProperty = "Compliance-Property"
	HeaderError    = "Compliance-Error"
	HeaderSubject  = "Compliance-Subject"
	HeaderStream   = "Compliance-Stream"
	HeaderSequence = "Compliance-Sequence"
	// HeaderDropped says how many of the report's headers, which are otherwise kept,
	// the dead letter lacks.
	HeaderDropped = "Compliance-Dropped-Headers"
	// HeaderReportPrefix begins the name of a header that the report had under the rest
	// of the name, where it would say something else of the dead letter.
	HeaderReportPrefix = "Compliance-Report-"
)

// HeaderRetryOf names, on a report that was sent again, the report of the dead letter
// that it was made from, as [RetryOf] has it. It is kept with a dead letter.
const HeaderRetryOf = "Compliance-Retry-Of"

// RetryOf returns the value of the header [HeaderRetryOf]: <stream>.<sequence>.
func RetryOf(stream string, sequence uint64) string {
	return stream + "." + strconv.FormatUint(sequence, 10)
}

// Kept returns the headers of a report that are kept with its dead letter: the ce-* of
// CloudEvents, traceparent and Compliance-Retry-Of as they are, and under
// [HeaderReportPrefix] the Nats-Msg-Id where that is the event id, and
// Compliance-Stored. The values are those of the report, and not copied.
func (e *Envelope) Kept() map[string][]string {
	kept := make(map[string][]string, len(e.Header))
	for name, values := range e.Header {
		if len(name) > len("ce-") && foldsTo(name[:len("ce-")], "ce-") || foldsTo(name, "traceparent") || foldsTo(name, HeaderRetryOf) {
			kept[name] = values
		}
	}
	h := e.headers()
	if h.eventID.value == "" && h.msgID.value != "" {
		kept[HeaderReportPrefix+HeaderMsgID] = []string{h.msgID.value}
	}
	if h.stored.present {
		kept[HeaderReportPrefix+HeaderStored] = []string{h.stored.value}
	}
	return kept
}

// ReportHeader is the inverse of [Envelope.Kept]: of the headers of a dead letter it
// returns those that the report had, under the names that the report had them.
func ReportHeader(letter map[string][]string) map[string][]string {
	report := map[string][]string{}
	for name, values := range letter {
		if own, ok := strings.CutPrefix(name, HeaderReportPrefix); ok && (own == HeaderMsgID || own == HeaderStored) {
			report[own] = values
		}
	}
	of := Envelope{Header: letter}
	for name, values := range of.Kept() {
		if !strings.HasPrefix(name, HeaderReportPrefix) {
			report[name] = values
		}
	}
	return report
}

// DeadSubject says of which report a dead letter is, and why.
type DeadSubject struct {
	Code     Code
	Stream   string
	Sequence uint64
	// Stored is the store time of the report.
	Stored time.Time
}

// String returns the subject of the dead letter:
// compliance.dead.<code>.<stream>.<sequence>.<store time in Unix ns>.
func (s DeadSubject) String() string {
	return DeadPrefix + string(s.Code) + "." + s.Stream + "." + strconv.FormatUint(s.Sequence, 10) + "." +
		strconv.FormatInt(s.Stored.UnixNano(), 10)
}

// ErrDeadSubject says that a subject is not that of a dead letter.
var ErrDeadSubject = errors.New("the subject is not compliance.dead.<code>.<stream>.<sequence>.<store time in Unix ns>")

// ParseDeadSubject is the inverse of [DeadSubject.String]. The error is [ErrDeadSubject].
func ParseDeadSubject(subject string) (DeadSubject, error) {
	rest, ok := strings.CutPrefix(subject, DeadPrefix)
	tokens := strings.Split(rest, ".")
	if !ok || len(tokens) != 4 {
		return DeadSubject{}, ErrDeadSubject
	}
	sequence, errS := strconv.ParseUint(tokens[2], 10, 64)
	nanos, errT := strconv.ParseInt(tokens[3], 10, 64)
	s := DeadSubject{Code: Code(tokens[0]), Stream: tokens[1], Sequence: sequence, Stored: time.Unix(0, nanos).UTC()}
	if errS != nil || errT != nil || s.Stream == "" || !slices.Contains(Codes(), s.Code) || s.String() != subject {
		return DeadSubject{}, ErrDeadSubject
	}
	return s, nil
}
