package compliance

import (
	"strconv"
	"strings"
	"time"

	"github.com/zeebo/xxh3"
)

// Names of the headers of a report, read without regard to case.
const (
	HeaderEventID   = "ce-id"
	HeaderMsgID     = "Nats-Msg-Id"
	HeaderEventTime = "ce-time"
	HeaderStored    = "Compliance-Stored"
	HeaderReply     = "Compliance-Reply"
)

// Envelope is a report as the stream keeps it.
type Envelope struct {
	Subject string
	Header  map[string][]string
	// Body is the payload. It is only read, and not kept.
	Body []byte
	// Sequence is the report's number in its stream, from 1.
	Sequence uint64
	// Stored is the store time: the server's time stamp.
	Stored time.Time
}

// header is one header of a report: its first value under the bytewise smallest
// of its spellings.
type header struct {
	spelling string
	value    string
	present  bool
}

func (h *header) offer(spelling string, values []string) {
	if len(values) == 0 || h.present && h.spelling < spelling {
		return
	}
	*h = header{spelling: spelling, value: values[0], present: true}
}

// headers are the headers that decide something.
type headers struct {
	eventID, msgID, eventTime, stored, reply header
}

func (e *Envelope) headers() headers {
	var h headers
	for name, values := range e.Header {
		switch {
		case foldsTo(name, HeaderEventID):
			h.eventID.offer(name, values)
		case foldsTo(name, HeaderMsgID):
			h.msgID.offer(name, values)
		case foldsTo(name, HeaderEventTime):
			h.eventTime.offer(name, values)
		case foldsTo(name, HeaderStored):
			h.stored.offer(name, values)
		case foldsTo(name, HeaderReply):
			h.reply.offer(name, values)
		}
	}
	return h
}

// foldsTo compares without regard to the case of ASCII letters, and of no
// others: strings.EqualFold takes the Kelvin sign for a k.
func foldsTo(name, want string) bool {
	if len(name) != len(want) {
		return false
	}
	for i := range len(name) {
		if lower(name[i]) != lower(want[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// IDHeader returns the header that the event id was taken from: that of ce-id, else of
// Nats-Msg-Id. It is empty where the id is a hash.
func (e *Envelope) IDHeader() string {
	h := e.headers()
	return h.id()
}

// TimeHeaders returns ce-time and Compliance-Stored as the law takes them, right or not;
// nil where the report has none.
func (e *Envelope) TimeHeaders() (eventTime, stored *string) {
	h := e.headers()
	return h.eventTime.text(), h.stored.text()
}

func (h *header) text() *string {
	if !h.present {
		return nil
	}
	return &h.value
}

func (h *headers) id() string {
	if h.eventID.value != "" {
		return h.eventID.value
	}
	return h.msgID.value
}

// RetryOf returns what the report is a retry of, as the function [RetryOf] has it; empty
// where it is none.
func (e *Envelope) RetryOf() string {
	var h header
	for name, values := range e.Header {
		if foldsTo(name, HeaderRetryOf) {
			h.offer(name, values)
		}
	}
	return h.value
}

// Replayed reports whether this is a report that was sent again, which a header tells.
func (e *Envelope) Replayed() bool {
	h := e.headers()
	return h.stored.present
}

// eventID returns the 64-bit xxh3 of the report's id and the id itself, which
// is the hash in hex where the report came without one.
func (e *Envelope) eventID(h *headers, key Key) (uint64, string) {
	if id := h.id(); id != "" {
		return xxh3.HashString(id), id
	}
	var hasher xxh3.Hasher
	_, _ = hasher.WriteString(key.Policy)
	_, _ = hasher.Write([]byte{0})
	_, _ = hasher.WriteString(key.Device)
	_, _ = hasher.Write([]byte{0})
	_, _ = hasher.Write(e.Body)
	id := hasher.Sum64()
	return id, hex16(id)
}

// hex16 returns v in 16 lower-case hex digits.
func hex16(v uint64) string {
	digits := strconv.FormatUint(v, 16)
	return strings.Repeat("0", 16-len(digits)) + digits
}
