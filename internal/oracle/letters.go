package oracle

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"
)

const deadStream = "COMPLIANCE_DEAD"

// The limits of the error object of a dead letter.
const (
	maxDetails    = 16
	maxErrorBytes = 8 * 1024
	// maxDetailBytes is more than one detail takes: a target of 64 characters, and
	// a message.
	maxDetailBytes = 1024
)

// ReadDeadLetters returns all dead letters.
func ReadDeadLetters(ctx context.Context, nc *nats.Conn) ([]Message, error) {
	letters, err := NewCopy(nc, deadStream)
	if err != nil {
		return nil, err
	}
	if err := letters.CatchUp(ctx); err != nil {
		return nil, err
	}
	return letters.History().Messages, nil
}

// CompareDeadLetters returns in words where the dead letters are not what the
// state demands: one of each rejected message, with its body and all headers, and
// no others.
func CompareDeadLetters(state State, letters []Message) []string {
	have := map[string][]Message{}
	for _, letter := range letters {
		have[letter.Subject] = append(have[letter.Subject], letter)
	}
	var found []string
	for subject, rejected := range state.letters() {
		of := have[subject]
		delete(have, subject)
		switch {
		case len(of) > 1:
			found = append(found, fmt.Sprintf("%s is there %d times", subject, len(of)))
		case len(of) == 1:
			for _, what := range rejected.differences(of[0]) {
				found = append(found, subject+" "+what)
			}
		case !rejected.Optional:
			found = append(found, subject+" is missing")
		}
	}
	for subject := range have {
		found = append(found, subject+" is too many")
	}
	slices.Sort(found)
	return found
}

// letters returns the rejected messages by the subjects of their dead letters. A
// message that a server kept for a stream made anew has one for both.
func (s *State) letters() map[string]Rejected {
	all := map[string]Rejected{}
	for _, rejected := range s.Rejected {
		subject := rejected.letter()
		if before, there := all[subject]; !there || before.Optional {
			all[subject] = rejected
		}
	}
	return all
}

// letter returns the subject of the dead letter.
func (r Rejected) letter() string {
	return fmt.Sprintf("compliance.dead.%s.%s.%d.%d",
		r.Verdict.Violations[0].Code, r.Message.Stream, r.Message.Sequence, r.Message.Stored.UnixNano())
}

func (r Rejected) differences(letter Message) []string {
	var found []string
	if !bytes.Equal(letter.Body, r.Message.Body) {
		found = append(found, fmt.Sprintf("has another body: %q, want %q", letter.Body, r.Message.Body))
	}
	have, want := maps.Clone(letter.Header), r.header()
	delete(have, "Nats-Expected-Last-Subject-Sequence")
	text := strings.Join(have["Compliance-Error"], "\n")
	delete(have, "Compliance-Error")
	for _, name := range slices.Sorted(maps.Keys(union(want, have))) {
		if !slices.EqualFunc(want[name], have[name], sameButForSpace) {
			found = append(found, fmt.Sprintf("has header %s %q, want %q", name, have[name], want[name]))
		}
	}
	return append(found, r.errorDifferences(text)...)
}

// sameButForSpace compares header values. The driver cuts white space off the
// values that it sends, and makes spaces of carriage returns.
func sameButForSpace(a, b string) bool { return slices.Equal(strings.Fields(a), strings.Fields(b)) }

// header returns what the dead letter's headers must be, but for the error object.
func (r Rejected) header() map[string][]string {
	want := map[string][]string{}
	for name, values := range r.Message.Header {
		if kept(name) {
			want[name] = values
		}
	}
	id, _ := headerOf(r.Message.Header, "ce-id")
	if other, _ := headerOf(r.Message.Header, "nats-msg-id"); id == "" && other != "" {
		want["Compliance-Report-Nats-Msg-Id"] = []string{other}
	}
	if stored, there := headerOf(r.Message.Header, "compliance-stored"); there {
		want["Compliance-Report-Compliance-Stored"] = []string{stored}
	}
	want["Compliance-Code"] = []string{r.Verdict.Violations[0].Code}
	if target := r.Verdict.Violations[0].Target; target != "" {
		want["Compliance-Property"] = []string{target}
	}
	want["Compliance-Subject"] = []string{published(r.Message.Subject)}
	want["Compliance-Stream"] = []string{r.Message.Stream}
	want["Compliance-Sequence"] = []string{strconv.FormatUint(r.Message.Sequence, 10)}
	want["Compliance-Stored"] = []string{r.Message.Stored.UTC().Format("2006-01-02T15:04:05.000000000Z")}
	return want
}

// errorDifferences compares the error object. The wording of its messages is
// left open.
func (r Rejected) errorDifferences(text string) []string {
	object, ok := parseJSON([]byte(text))
	if !ok || object.kind != jsonObject || len(object.repeated()) > 0 || len(text) > maxErrorBytes {
		return []string{fmt.Sprintf("has an error object that is none or too large: %q", text)}
	}
	first := r.Verdict.Violations[0]
	inner := object.member("innerError")
	var found []string
	check := func(what, have, want string) {
		if have != want {
			found = append(found, fmt.Sprintf("has an error with %s %q, want %q", what, have, want))
		}
	}
	check("code", object.member("code").text, "badRequest")
	check("target", object.member("target").text, first.Target)
	check("inner code", inner.member("code").text, first.Code)
	if at, ok := parseDateTime(inner.member("date").text); !ok || at != instantOf(r.Message.Stored) {
		found = append(found, fmt.Sprintf("has an error of %q, want the store time", inner.member("date").text))
	}
	if !r.sameDetails(object.member("details").values, len(text)) {
		found = append(found, fmt.Sprintf("has other details: %q, want %q", text, r.Verdict.Violations))
	}
	return found
}

// sameDetails reports whether the details are the violations in order, at most 16
// of them, or fewer where one more would not fit.
func (r Rejected) sameDetails(details []node, size int) bool {
	want := r.Verdict.Violations[:min(len(r.Verdict.Violations), maxDetails)]
	if len(details) < len(want) && size > maxErrorBytes-maxDetailBytes && len(details) > 0 {
		want = want[:len(details)]
	}
	return slices.EqualFunc(details, want, func(have node, want Violation) bool {
		return have.member("code").text == want.Code && have.member("target").text == want.Target
	})
}
