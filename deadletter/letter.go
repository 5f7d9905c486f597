package deadletter

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/complianced/complianced/compliance"
)

// Letter is a report that can never be applied, with the reason.
type Letter struct {
	// Sequence is the letter's number in the stream of the dead letters.
	Sequence uint64
	// Buried is when the letter was stored.
	Buried time.Time
	// Code is the leading violation's, and Property what it is about: a property or a
	// header; empty where the whole report is meant.
	Code     compliance.Code
	Property string
	// Error is the error object: at most 16 violations.
	Error compliance.Error
	// Stream is the stream of the report.
	Stream string
	// Envelope is the report as it was: its subject in the form compliance.status.…,
	// those of its headers that a dead letter keeps ([compliance.Envelope.Kept]), its
	// body, its sequence in Stream and its store time.
	Envelope compliance.Envelope
	// RetryOf is, where the report was sent again by dead retry, the report of the
	// earlier dead letter, as [compliance.RetryOf] has it; otherwise empty.
	RetryOf string
	// Dropped is how many of the report's headers did not fit into the letter. Where it
	// is not 0, the id and the time of the report, and its body, may be lost.
	Dropped int
}

// Report names the report of the letter, as [compliance.RetryOf] has it.
func (l *Letter) Report() string { return compliance.RetryOf(l.Stream, l.Envelope.Sequence) }

// UnreadableError says that a message in the stream of the dead letters is none.
type UnreadableError struct {
	Sequence uint64
	Reason   error
}

// Error says which message it is and why.
func (e *UnreadableError) Error() string {
	return fmt.Sprintf("message %d of %s is no dead letter: %v", e.Sequence, compliance.DeadStream, e.Reason)
}

// Unwrap returns the reason.
func (e *UnreadableError) Unwrap() error { return e.Reason }

// Message is a message as the stream holds it.
type Message struct {
	Subject  string
	Header   map[string][]string
	Body     []byte
	Sequence uint64
	Stored   time.Time
}

// Parse reads a message as a dead letter. The subject and the headers must agree. The
// error is [*UnreadableError]. The letter shares the body and the headers' values.
func Parse(m Message) (Letter, error) {
	l, err := m.parse()
	if err != nil {
		return Letter{}, &UnreadableError{Sequence: m.Sequence, Reason: err}
	}
	return l, nil
}

func (m *Message) parse() (Letter, error) {
	about, err := compliance.ParseDeadSubject(m.Subject)
	if err != nil {
		return Letter{}, err
	}
	for _, own := range []struct{ name, want string }{
		{compliance.HeaderCode, string(about.Code)},
		{compliance.HeaderStream, about.Stream},
		{compliance.HeaderSequence, strconv.FormatUint(about.Sequence, 10)},
		{compliance.HeaderStored, compliance.FormatStored(about.Stored)},
	} {
		if !slices.Equal(m.Header[own.name], []string{own.want}) {
			return Letter{}, fmt.Errorf("the header %s does not say what the subject says", own.name)
		}
	}
	subject := m.Header[compliance.HeaderSubject]
	if len(subject) != 1 || subject[0] == "" {
		return Letter{}, fmt.Errorf("the header %s is not there once", compliance.HeaderSubject)
	}
	l := Letter{
		Sequence: m.Sequence, Buried: m.Stored, Code: about.Code, Stream: about.Stream,
		Envelope: compliance.Envelope{
			Subject: subject[0], Header: compliance.ReportHeader(m.Header), Body: m.Body,
			Sequence: about.Sequence, Stored: about.Stored,
		},
	}
	l.RetryOf = l.Envelope.RetryOf()
	return l, errors.Join(l.readError(m.Header), l.readDropped(m.Header))
}

// readError reads the error object and what it is about.
func (l *Letter) readError(header map[string][]string) error {
	text := header[compliance.HeaderError]
	if len(text) != 1 {
		return fmt.Errorf("the header %s is not there once", compliance.HeaderError)
	}
	if err := json.Unmarshal([]byte(text[0]), &l.Error); err != nil {
		return fmt.Errorf("the header %s is no error object", compliance.HeaderError) // Its text may hold values of a report.
	}
	if l.Error.Inner.Code != l.Code || len(l.Error.Details) == 0 {
		return fmt.Errorf("the header %s does not say what the subject says", compliance.HeaderError)
	}
	property := header[compliance.HeaderProperty]
	if len(property) > 1 {
		return fmt.Errorf("the header %s is there twice", compliance.HeaderProperty)
	}
	if len(property) == 1 {
		l.Property = property[0]
	}
	return nil
}

func (l *Letter) readDropped(header map[string][]string) (err error) {
	text := header[compliance.HeaderDropped]
	if len(text) == 0 {
		return nil
	}
	if l.Dropped, err = strconv.Atoi(text[0]); err != nil || len(text) > 1 || l.Dropped < 0 {
		return fmt.Errorf("the header %s is no number", compliance.HeaderDropped)
	}
	return nil
}
