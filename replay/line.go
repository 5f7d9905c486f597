package replay

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"

	"github.com/complianced/complianced/compliance"
)

// fileVersion is the version of the form of a file.
const fileVersion = 1

// heading is the first line of a file.
type heading struct {
	Version int `json:"complianceReports"`
}

// line is a report in a file. What is text is told apart from what is not by the
// member's name, never by a look at it.
type line struct {
	Stream   string `json:"stream,omitzero"`
	Sequence uint64 `json:"sequence,omitzero"`
	// Stored is the store time, as FormatStored has it.
	Stored string `json:"stored"`
	// Exactly one of these is there; the second one where the subject is not UTF-8.
	Subject       string `json:"subject,omitzero"`
	SubjectBase64 string `json:"subjectBase64,omitzero"`
	// Misplaced and Incomplete are as in Report.
	Misplaced  bool                `json:"misplaced,omitzero"`
	Incomplete bool                `json:"incomplete,omitzero"`
	Headers    map[string][]string `json:"headers,omitempty"`
	// HeadersBase64 are the headers with a value that is not UTF-8.
	HeadersBase64 map[string][]string `json:"headersBase64,omitempty"`
	// Exactly one of these is there.
	Payload       *string `json:"payload,omitzero"`
	PayloadBase64 *string `json:"payloadBase64,omitzero"`
}

// lineOf is the inverse of line.report. A header's name that is not UTF-8 is left out:
// no header of that name decides anything or can be sent.
func lineOf(r *Report) line {
	l := line{
		Stream: r.Stream, Sequence: r.Envelope.Sequence, Stored: compliance.FormatStored(r.Envelope.Stored),
		Misplaced: r.Misplaced, Incomplete: r.Incomplete,
		Headers: map[string][]string{}, HeadersBase64: map[string][]string{},
	}
	if subject := r.Envelope.Subject; utf8.ValidString(subject) {
		l.Subject = subject
	} else {
		l.SubjectBase64 = base64.StdEncoding.EncodeToString([]byte(subject))
	}
	for name, values := range r.Envelope.Header {
		switch {
		case !utf8.ValidString(name):
		case allUTF8(values):
			l.Headers[name] = values
		default:
			for _, v := range values {
				l.HeadersBase64[name] = append(l.HeadersBase64[name], base64.StdEncoding.EncodeToString([]byte(v)))
			}
		}
	}
	if text := string(r.Envelope.Body); utf8.ValidString(text) {
		l.Payload = &text
	} else {
		text := base64.StdEncoding.EncodeToString(r.Envelope.Body)
		l.PayloadBase64 = &text
	}
	return l
}

func allUTF8(values []string) bool {
	for _, v := range values {
		if !utf8.ValidString(v) {
			return false
		}
	}
	return true
}

var (
	errPayload = errors.New("exactly one of payload and payloadBase64 must be there")
	errBase64  = errors.New("payloadBase64, headersBase64 and subjectBase64 must be in standard base64 with padding")
	errStored  = errors.New("stored must be a time in UTC with nine digits of a second, as 2026-01-31T12:00:00.000000000Z")
	errTwice   = errors.New("a header is both in headers and in headersBase64")
	errSubject = errors.New("the subject must be " + compliance.StatusPrefix + "<policy>.<device>")
)

// report is the report of a line.
func (l *line) report() (Report, error) {
	r := Report{Stream: l.Stream, Misplaced: l.Misplaced, Incomplete: l.Incomplete}
	stored, err := compliance.ParseStored(l.Stored)
	if err != nil {
		return r, errStored
	}
	nanos, err := time.Parse(time.RFC3339Nano, l.Stored)
	if err != nil {
		nanos = stored.Time()
	}
	subject, err := l.subject()
	if err != nil {
		return r, err
	}
	r.Envelope = compliance.Envelope{Subject: subject, Sequence: l.Sequence, Stored: nanos, Header: map[string][]string{}}
	maps.Copy(r.Envelope.Header, l.Headers)
	for name, values := range l.HeadersBase64 {
		if _, there := r.Envelope.Header[name]; there {
			return r, errTwice
		}
		for _, v := range values {
			text, err := base64.StdEncoding.Strict().DecodeString(v)
			if err != nil {
				return r, errBase64
			}
			r.Envelope.Header[name] = append(r.Envelope.Header[name], string(text))
		}
	}
	switch {
	case (l.Payload == nil) == (l.PayloadBase64 == nil):
		return r, errPayload
	case l.Payload != nil:
		r.Envelope.Body = []byte(*l.Payload)
		return r, nil
	}
	if r.Envelope.Body, err = base64.StdEncoding.Strict().DecodeString(*l.PayloadBase64); err != nil {
		return r, errBase64
	}
	return r, nil
}

func (l *line) subject() (string, error) {
	subject := l.Subject
	if l.SubjectBase64 != "" {
		text, err := base64.StdEncoding.Strict().DecodeString(l.SubjectBase64)
		if err != nil {
			return "", errBase64
		}
		subject = string(text)
	}
	if !strings.HasPrefix(subject, compliance.StatusPrefix) || l.Subject != "" && l.SubjectBase64 != "" {
		return "", errSubject
	}
	return subject, nil
}

// appendLine appends a value and a line break.
func appendLine(b []byte, v any) ([]byte, error) {
	text, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		return b, fmt.Errorf("write a report: %w", err)
	}
	return append(append(b, text...), '\n'), nil
}
