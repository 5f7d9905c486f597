package main

import (
	"errors"
	"fmt"
	"maps"
	"strings"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/deadletter"
	"github.com/complianced/complianced/publisher"
)

// mending is how the payload of a dead letter is changed before it is sent again. The
// zero value leaves it as it is.
type mending struct {
	// patch is a JSON merge patch (RFC 7396).
	patch string
	// body takes the place of the payload.
	body string
}

// validate checks the flags; n is how many letters are named.
func (m *mending) validate(n int) error {
	switch {
	case m.patch != "" && m.body != "":
		return usagef("--patch and --body do not go together")
	case m.patch != "" && !isObject([]byte(m.patch)):
		return usagef("--patch is not one JSON object")
	case m.body != "" && n != 1:
		return usagef("--body is the payload of one report: name one dead letter")
	}
	return nil
}

// isObject reports whether a text is one JSON object in UTF-8. Members may be there
// twice, of which the last one counts.
func isObject(text []byte) bool {
	value := jsontext.Value(text)
	return value.IsValid(jsontext.AllowDuplicateNames(true)) && value.Kind() == '{'
}

var errNoObject = errors.New("the payload is no JSON object, so it cannot be patched: give a new one by --body")

func (m *mending) apply(payload []byte) ([]byte, error) {
	switch {
	case m.body != "":
		return []byte(m.body), nil
	case m.patch == "":
		return payload, nil
	case !isObject(payload):
		return nil, errNoObject
	}
	patched, err := jsonpatch.MergePatch(payload, []byte(m.patch))
	if err != nil {
		return nil, errNoObject // Its own text may hold values of the report.
	}
	return patched, nil
}

// again is the report of a dead letter as it is sent again: with the id and the time that
// it had. Compliance-Stored is left out on purpose: what was too early then may be right
// now.
func again(l *deadletter.Letter, m *mending) (publisher.Outgoing, error) {
	key, _, err := compliance.ParseSubject(l.Envelope.Subject)
	if err != nil {
		return publisher.Outgoing{}, errors.New("its subject names no record, so it cannot be sent again; complianced publish sends its payload for a right one")
	}
	if l.Dropped > 0 {
		return publisher.Outgoing{}, fmt.Errorf("%d of its headers were dropped, so its id and time are not known; complianced publish sends its payload anew", l.Dropped)
	}
	e := l.Envelope
	if e.Body, err = m.apply(e.Body); err != nil {
		return publisher.Outgoing{}, err
	}
	e.Header = make(map[string][]string, len(l.Envelope.Header)+3)
	maps.Copy(e.Header, l.Envelope.Header)
	for _, name := range []string{compliance.HeaderStored, compliance.HeaderMsgID, compliance.HeaderRetryOf} {
		without(e.Header, name)
	}
	if id := l.Envelope.IDHeader(); id != "" {
		without(e.Header, compliance.HeaderEventID)
		e.Header[compliance.HeaderEventID] = []string{id}
	}
	if at := eventTime(&e); at != 0 && !holds(e.Header, compliance.HeaderEventTime) {
		e.Header[compliance.HeaderEventTime] = []string{compliance.FormatStored(at.Time())}
	}
	e.Header[compliance.HeaderRetryOf] = []string{l.Report()}
	return publisher.Outgoing{Key: key, Body: e.Body, Header: e.Header, NoEventID: true, NoEventTime: true}, nil
}

// eventTime returns the event time that the law takes; 0 where there is none.
func eventTime(e *compliance.Envelope) compliance.Ticks {
	report, rejection := compliance.Decode(e)
	if rejection != nil {
		return rejection.EventTime
	}
	return report.Version.Time
}

func holds(header map[string][]string, name string) bool {
	for spelling, values := range header {
		if strings.EqualFold(spelling, name) && len(values) > 0 {
			return true
		}
	}
	return false
}

// without takes a header away, in every spelling.
func without(header map[string][]string, name string) {
	maps.DeleteFunc(header, func(spelling string, _ []string) bool { return strings.EqualFold(spelling, name) })
}
