package compliance

import (
	"strings"
	"time"
	"unicode"

	"github.com/go-json-experiment/json"
)

// Violation is one rule that a report breaks.
type Violation struct {
	Code Code
	// Target names the property or header; empty where the whole report is meant.
	Target string
	// Message says what is wrong and what is right. It holds no value of the report.
	Message string
	// Offset is the place in the payload in bytes from 0, or -1 where there is none.
	Offset int
}

// Rejection is the verdict on a report that can never be applied. It lists every
// violation, the leading one first: subject, policy, size, text, members by
// position, event time.
type Rejection struct {
	// Key is the record's; it is zero where the subject cannot be read.
	Key Key
	// Reply is where the result goes, as in [Report].
	Reply string
	// EventID is the id that the report came with, else its hash in hex.
	EventID string
	// EventTime is the event time as far as it can be told; 0 where ce-time is none.
	EventTime  Ticks
	Stored     time.Time
	Violations []Violation
}

// Code returns the leading violation's code.
func (r *Rejection) Code() Code { return r.Violations[0].Code }

// Limits of an error object as a dead letter keeps it.
const (
	maxDetails     = 16
	maxErrorBytes  = 8 << 10
	maxEchoLength  = 64
	maxEventIDEcho = 256
)

// Error is the inner object of an error response in the form of the Microsoft
// REST API guidelines.
type Error struct {
	// Code is badRequest for every refused report.
	Code    string        `json:"code"`
	Message string        `json:"message"`
	Target  string        `json:"target,omitzero"`
	Details []ErrorDetail `json:"details,omitempty"`
	Inner   InnerError    `json:"innerError"`
}

// ErrorDetail is one violation.
type ErrorDetail struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
	Target  string `json:"target,omitzero"`
}

// InnerError carries the leading code and what identifies the report.
type InnerError struct {
	Code            Code   `json:"code"`
	Date            string `json:"date,omitzero"`
	RequestID       string `json:"request-id,omitzero"`
	ClientRequestID string `json:"client-request-id,omitzero"`
}

// ErrorObject returns the rejection as an error object with at most 16 details
// and 8 KiB of JSON. Its date is the store time, its request-id the event id.
func (r *Rejection) ErrorObject() Error {
	first := r.Violations[0]
	e := Error{
		Code:    "badRequest",
		Message: first.Message,
		Target:  first.Target,
		Inner: InnerError{
			Code:      first.Code,
			Date:      FormatStored(r.Stored),
			RequestID: printable(r.EventID, maxEventIDEcho),
		},
	}
	for _, v := range r.Violations[:min(len(r.Violations), maxDetails)] {
		e.Details = append(e.Details, ErrorDetail{Code: v.Code, Message: v.Message, Target: v.Target})
	}
	for len(e.Details) > 1 && len(e.JSON()) > maxErrorBytes {
		e.Details = e.Details[:len(e.Details)-1]
	}
	return e
}

// JSON returns the object as JSON on one line.
func (e Error) JSON() []byte {
	text, err := json.Marshal(e, json.Deterministic(true))
	if err != nil {
		// Only strings that are no UTF-8 cannot be written, and printable makes
		// every string UTF-8.
		panic("compliance: an error object that is no JSON: " + err.Error())
	}
	return text
}

// printable returns s cut to n characters, with a question mark in place of
// what cannot be printed.
func printable(s string, n int) string {
	var b strings.Builder
	for _, r := range s {
		if n--; n < 0 {
			break
		}
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			r = '?'
		}
		b.WriteRune(r)
	}
	return b.String()
}

// nearest returns the candidate with the fewest edits from name, letters of
// either case counting as equal first.
func nearest(name string, candidates []string) string {
	name = printable(name, maxEchoLength)
	best, fewest := "", int(^uint(0)>>1)
	for _, c := range candidates {
		n := 2 * edits(strings.ToLower(name), strings.ToLower(c))
		if name != c {
			n++
		}
		if n < fewest {
			best, fewest = c, n
		}
	}
	return best
}

// edits is the Levenshtein distance in bytes.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substituted := diagonal
			if a[i] != b[j] {
				substituted++
			}
			diagonal = row[j+1]
			row[j+1] = min(substituted, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
