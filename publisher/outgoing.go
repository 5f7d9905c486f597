package publisher

import (
	"fmt"
	"net/textproto"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/complianced/complianced/compliance"
)

// MaxReport is how many bytes of body and headers the streams of reports take.
// Of a body, at most 16 KiB is ever applied: a larger one becomes a dead letter.
const MaxReport = 64 << 10

// Outgoing is a report to be sent. Key and Body are all that an agent sets.
type Outgoing struct {
	// Key names the record.
	Key compliance.Key
	// Subject takes the place of Key for a report that names no record, and only for
	// one: a replay sends it again so that it is refused again. Defaults to that of Key.
	Subject string
	// Body is the patch: one JSON object. It is not changed, and must not be
	// until the call returns.
	Body []byte
	// EventID says which report this is. Defaults to a new UUIDv7.
	EventID string
	// EventTime says when the report was made, and decides which report wins. It
	// is cut to ticks of 100 ns. Defaults to the publisher's clock.
	EventTime time.Time
	// NoEventID sends no ce-id where EventID is empty. The id is then that in
	// Header, else a hash of key and body.
	NoEventID bool
	// NoEventTime sends no ce-time where EventTime is zero. The time is then that
	// in Header, else the body's lastReportedDateTime, else the time of storing:
	// reports without any time of their own depend on the order in which they are
	// stored, and a copy that a retry causes is a newer report.
	NoEventTime bool
	// Header are further headers, traceparent or Compliance-Stored for example.
	// They are sent as they are, but must not hold, in any spelling, a header
	// that the publisher sets: ce-id and ce-time, unless left out by the two
	// fields above, and in PublishAndWait Compliance-Reply. A Compliance-Reply of
	// more than 128 characters counts as none.
	Header map[string][]string
}

// Ack is the proof that a report is accepted: JetStream has stored it.
type Ack struct {
	// Stream and Sequence say where.
	Stream   string
	Sequence uint64
	// EventID and EventTime are what the report was sent with, the time cut to
	// 100 ns and in UTC. They are zero where the publisher set none.
	EventID   string
	EventTime time.Time
	// Attempts is how often the report was sent, from 1. Where it is more than
	// 1, further copies may be stored.
	Attempts int
}

// subject returns what a report is published to.
func (s *Stamper) subject(o Outgoing) (string, error) {
	if o.Subject == "" {
		if !o.Key.Valid() || s.device != "" && s.device != o.Key.Device {
			return "", ErrInvalidKey
		}
		return o.Key.Subject(), nil
	}
	_, _, parsed := compliance.ParseSubject(o.Subject)
	if parsed == nil || o.Key != (compliance.Key{}) || s.device != "" || !ValidSubject(o.Subject) {
		return "", ErrInvalidKey
	}
	return o.Subject, nil
}

// maxSubject is how long a subject may be, in bytes: less than a server takes in a line
// of its protocol, 4 KiB, with all that stands beside it.
const maxSubject = 3 << 10

// ValidSubject reports whether a report can be published to a subject, also where that
// names no record, so that the report is refused.
func ValidSubject(subject string) bool {
	if !strings.HasPrefix(subject, compliance.StatusPrefix) || !utf8.ValidString(subject) || len(subject) > maxSubject {
		return false
	}
	for token := range strings.SplitSeq(subject, ".") {
		if token == "" || token == "*" || token == ">" || strings.ContainsFunc(token, notInSubject) {
			return false
		}
	}
	return true
}

func notInSubject(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }

// size returns the bytes that a server counts: body and headers.
func size(msg *nats.Msg) int { return msg.Size() - len(msg.Subject) }

// set adds a header of the publisher, unless its value is empty. Names are read
// without regard to case, so another spelling could count in its place.
func set(header nats.Header, name, value string) error {
	if value == "" {
		return nil
	}
	for other := range header {
		if strings.EqualFold(other, name) {
			return fmt.Errorf("%w: the publisher sets %s itself; use the fields of Outgoing", ErrInvalidHeader, name)
		}
	}
	header[name] = []string{value}
	return nil
}

// ValidHeaderName reports whether NATS takes a name of a header: the characters of a
// token in HTTP (RFC 9110, section 5.6.2).
func ValidHeaderName(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
}

func (o *Outgoing) eventID() (string, error) {
	switch {
	case !ValidEventID(o.EventID):
		return "", fmt.Errorf("%w: the event id has a control character, or a space at an end", ErrInvalidHeader)
	case o.EventID != "" || o.NoEventID:
		return o.EventID, nil
	}
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("make event id: %w", err)
	}
	return id.String(), nil
}

// ValidEventID reports whether an event id can be sent: without a control character,
// and without a space at an end. An empty one stands for a new id.
func ValidEventID(id string) bool { return sentAsIs(id) }

// sentAsIs reports whether a header's value arrives as it was sent. NATS takes
// the spaces at its ends away and puts spaces in place of line breaks.
func sentAsIs(value string) bool {
	return textproto.TrimString(value) == value && utf8.ValidString(value) && !strings.ContainsFunc(value, unicode.IsControl)
}
