package graph

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/go-json-experiment/json/jsontext"
	"golang.org/x/sync/errgroup"

	"github.com/complianced/complianced/compliance"
)

// Limits of a delta.
const (
	// maxMembers is the greatest number of reports in a delta.
	maxMembers = 1000
	// membersAtOnce is how many of them are under way at once.
	membersAtOnce = 64
)

const valueMember = "value"

// bodyID returns the id that a report names, where that is the id of a device.
func bodyID(body []byte) (string, bool) {
	d := jsontext.NewDecoder(bytes.NewReader(body), jsontext.AllowDuplicateNames(true))
	if token, err := d.ReadToken(); err != nil || token.Kind() != '{' {
		return "", false
	}
	for {
		name, err := d.ReadToken()
		if err != nil || name.Kind() != '"' {
			return "", false
		}
		if name.String() == compliance.ID.String() {
			value, err := d.ReadToken()
			if err != nil || value.Kind() != '"' {
				return "", false
			}
			id := value.String()
			return id, compliance.ValidID(id)
		}
		if err := d.SkipValue(); err != nil {
			return "", false
		}
	}
}

// deltaMembers returns the reports of a delta: of a JSON object whose member value is an
// array. Anything else is none, and its faults are those of a report.
func deltaMembers(body []byte) (members []jsontext.Value, isDelta bool, p *problem) {
	d := jsontext.NewDecoder(bytes.NewReader(body), jsontext.AllowDuplicateNames(true))
	if token, err := d.ReadToken(); err != nil || token.Kind() != '{' {
		return nil, false, nil
	}
	others := false
	for d.PeekKind() == '"' {
		token, err := d.ReadToken()
		if err != nil {
			break
		}
		name := token.String()
		switch {
		case name != valueMember || d.PeekKind() != '[':
			if d.SkipValue() != nil {
				return nil, isDelta, malformed(isDelta)
			}
			others = others || !strings.Contains(name, "@")
		case isDelta:
			return nil, true, badRequest(string(compliance.DuplicateProperty), valueMember, "value is there twice")
		default:
			isDelta = true
			if members, p = readMembers(d); p != nil {
				return nil, true, p
			}
		}
	}
	switch {
	case !isDelta:
		return nil, false, nil
	case !ended(d):
		return nil, true, malformed(true)
	case others:
		return nil, true, badRequest(string(compliance.UnknownProperty), "", "a delta has no member beside value")
	}
	return members, true, nil
}

// ended reports whether an object ends here, and the text with it.
func ended(d *jsontext.Decoder) bool {
	token, err := d.ReadToken()
	if err != nil || token.Kind() != '}' {
		return false
	}
	_, err = d.ReadToken()
	return errors.Is(err, io.EOF)
}

func malformed(isDelta bool) *problem {
	if !isDelta {
		return nil // It is read as a report, which says where it is wrong.
	}
	return badRequest(string(compliance.MalformedJSON), "", "the body is not one JSON text in UTF-8")
}

func readMembers(d *jsontext.Decoder) (members []jsontext.Value, p *problem) {
	if _, err := d.ReadToken(); err != nil {
		return nil, malformed(true)
	}
	for d.PeekKind() != ']' {
		value, err := d.ReadValue()
		switch {
		case err != nil:
			return nil, malformed(true)
		case len(members) == maxMembers:
			return nil, badRequest(string(compliance.TooLarge), valueMember, "a delta has at most %d members", maxMembers)
		}
		members = append(members, value.Clone())
	}
	_, err := d.ReadToken()
	if err != nil {
		return nil, malformed(true)
	}
	return members, nil
}

// patchDelta stores the reports of a delta, if all are right, and waits for what becomes
// of them. Their order is that of their times, so those of one device are applied in it.
func (h *handler) patchDelta(r *request, members []jsontext.Value) (answer, *problem) {
	reports, problem := h.stampedAll(r, members)
	if problem != nil {
		return answer{}, problem
	}
	if problem := r.held.enter(h.writes); problem != nil {
		return answer{}, problem
	}
	prefer := parsePreferences(r.Header)
	until, cancel := h.patience(r)
	defer cancel()
	done, lost := h.publishAll(until, reports, prefer.async)
	if lost != nil {
		return answer{}, lost
	}
	if problem := refusals(done); problem != nil {
		return answer{}, problem
	}
	if slices.ContainsFunc(done, func(d outcome) bool { return !d.applied }) {
		return accepted(prefer, receipts(reports, done)), nil
	}
	return prefer.whole(h.deltaBody(r, reports, done)), nil
}

// stampedAll decodes and stamps all reports. Its problem has the violations of all.
func (h *handler) stampedAll(r *request, members []jsontext.Value) ([]report, *problem) {
	reports := make([]report, 0, len(members))
	var wrong *problem
	for i, member := range members {
		key, problem := h.keyOf(r, member)
		if problem == nil {
			var one report
			if one, problem = h.stamped(key, member); problem == nil {
				reports = append(reports, one)
				continue
			}
		}
		if problem.status != http.StatusBadRequest && problem.status != http.StatusRequestEntityTooLarge {
			return nil, problem // It is not about this member alone.
		}
		wrong = gather(wrong, i, problem)
	}
	return reports, wrong
}

// gather adds the violations of a member to those of the members before it.
func gather(to *problem, member int, p *problem) *problem {
	at := valueMember + "[" + strconv.Itoa(member) + "]"
	target := func(of string) string {
		if of == "" {
			return at
		}
		return at + "." + of
	}
	if to == nil {
		e := p.err
		e.Code, e.Target, e.Details = codeBadRequest, target(e.Target), nil
		to = &problem{status: http.StatusBadRequest, err: e}
	}
	details := p.err.Details
	if len(details) == 0 {
		details = []compliance.ErrorDetail{{Code: p.err.Inner.Code, Message: p.err.Message, Target: p.err.Target}}
	}
	for _, d := range details {
		if len(to.err.Details) < maxMembers {
			d.Target = target(d.Target)
			to.err.Details = append(to.err.Details, d)
		}
	}
	return to
}

// publishAll stores reports, several at once, and then waits for what becomes of all of
// them. After the first that is not known to be stored no further one is begun, and none
// is waited for.
func (h *handler) publishAll(until patience, reports []report, async bool) ([]outcome, *problem) {
	stored := make([]pending, len(reports))
	var failed atomic.Pointer[problem]
	var group errgroup.Group
	group.SetLimit(membersAtOnce)
	begun := 0
	for i, o := range reports {
		if failed.Load() != nil {
			break
		}
		begun++
		group.Go(func() error {
			if stored[i] = h.publish(until.hear, o, async); stored[i].problem != nil {
				failed.CompareAndSwap(nil, stored[i].problem)
			}
			return nil
		})
	}
	_ = group.Wait() // Each report has its own outcome.
	if lost := failed.Load(); lost != nil {
		now, cancel := context.WithCancel(until.hear)
		cancel()
		there := 0
		for _, p := range stored[:begun] {
			if p.problem == nil {
				there++
			}
			if p.result != nil {
				p.result(now)
			}
		}
		return nil, unavailable(fmt.Sprintf("of %d reports %d are stored, and %d more may be; send all of them again",
			len(reports), there, begun-there), lost.cause)
	}
	done := make([]outcome, len(reports))
	for i, p := range stored {
		done[i] = h.await(until, p)
	}
	return done, nil
}

// refusals returns what is wrong where workers have refused some reports.
func refusals(done []outcome) (wrong *problem) {
	for i, d := range done {
		switch {
		case d.problem == nil:
		case d.problem.status != http.StatusBadRequest:
			return d.problem // It is not about this member alone.
		default:
			wrong = gather(wrong, i, d.problem)
		}
	}
	if wrong != nil {
		wrong.err.Message += "; the members that are not named here are stored"
	}
	return wrong
}

// storedMember says where the stream has a report of a delta.
type storedMember struct {
	Receipt

	ID string `json:"id"`
}

// receipts says where the reports of a delta are.
func receipts(reports []report, done []outcome) any {
	list := make([]storedMember, len(done))
	for i, d := range done {
		list[i] = storedMember{ID: reports[i].Key.Device, Receipt: d.receipt}
	}
	return map[string][]storedMember{valueMember: list}
}

// deltaBody returns the records after a delta, in its order. What is removed is told as
// OData tells it.
func (h *handler) deltaBody(r *request, reports []report, done []outcome) []byte {
	var body bytes.Buffer
	fmt.Fprintf(&body, `{"@odata.context":%s,"value":[`, encode(h.base(r.Request)+r.context("")+"/$delta"))
	for i, d := range done {
		if i > 0 {
			body.WriteByte(',')
		}
		if d.record == nil {
			fmt.Fprintf(&body, `{"@removed":{"reason":"deleted"},"id":%s}`, encode(reports[i].Key.Device))
			continue
		}
		body.Write(d.record)
	}
	body.WriteString("]}")
	return body.Bytes()
}
