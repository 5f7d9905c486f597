package graph

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/complianced/complianced/compliance"
)

// maxDelta is the greatest body of a delta in bytes.
const maxDelta = 4 << 20

// patch answers a PATCH. Its place among the requests that are answered is taken when its
// body is there: a client that sends slowly takes none from the others.
func (h *handler) patch(r *request) (answer, *problem) {
	body, leave, problem := h.readBody(r)
	if problem != nil {
		return answer{}, problem
	}
	defer leave()
	work, problem := enter(h.slots)
	if problem != nil {
		return answer{}, problem
	}
	defer work()
	if r.resource == entity {
		return h.patchOne(r, r.key, body)
	}
	members, isDelta, problem := deltaMembers(body)
	switch {
	case problem != nil:
		return answer{}, problem
	case isDelta:
		return h.patchDelta(r, members)
	}
	key, problem := h.keyOf(r, body)
	if problem != nil {
		return answer{}, problem
	}
	return h.patchOne(r, key, body)
}

// readBody reads the body of a PATCH. Leave gives back what a large one has taken.
func (h *handler) readBody(r *request) (body []byte, leave func(), p *problem) {
	media, parameters, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset := parameters["charset"]
	switch {
	case err != nil, media != "application/json", charset != "" && !strings.EqualFold(charset, "utf-8"):
		return nil, nil, newProblem(http.StatusUnsupportedMediaType, codeMediaType, "the body is application/json in UTF-8, and the header Content-Type says so")
	case !identity(r.Header.Get("Content-Encoding")):
		return nil, nil, newProblem(http.StatusUnsupportedMediaType, codeMediaType, "Content-Encoding is not supported: send the body as it is")
	case r.ContentLength < 0:
		return nil, nil, newProblem(http.StatusLengthRequired, codeLengthRequired, "the header Content-Length is required; a chunked body is not taken")
	case r.resource == entity && r.ContentLength > compliance.MaxBody:
		return nil, nil, tooLarge("the payload is larger than 16 KiB")
	case r.ContentLength > maxDelta:
		return nil, nil, tooLarge("the payload is larger than 4 MiB")
	}
	leave = func() {}
	if r.ContentLength > compliance.MaxBody {
		if leave, p = enter(h.deltas); p != nil {
			return nil, nil, p
		}
	}
	body = make([]byte, r.ContentLength)
	if _, err := io.ReadFull(r.Body, body); err != nil {
		leave()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, nil, newProblem(http.StatusRequestTimeout, codeRequestTimeout, "the body did not come in time").with("Connection", "close")
		}
		return nil, nil, badRequest(codeBadRequest, "", "the body ended before its Content-Length")
	}
	return body, leave, nil
}

func identity(encoding string) bool { return encoding == "" || strings.EqualFold(encoding, "identity") }

func tooLarge(message string) *problem {
	p := newProblem(http.StatusRequestEntityTooLarge, codeTooLarge, message)
	p.err.Inner.Code = compliance.TooLarge
	p.err.Details = []compliance.ErrorDetail{{Code: compliance.TooLarge, Message: message}}
	return p.with("Connection", "close") // What is left of the body is not waited for.
}

// keyOf returns the key of a record that the body of a PATCH on the collection names. A
// token that is for one device names it as well.
func (h *handler) keyOf(r *request, body []byte) (compliance.Key, *problem) {
	device, named := bodyID(body)
	key := compliance.Key{Policy: r.key.Policy, Device: device}
	switch {
	case named && r.grant.Device != "" && device != r.grant.Device:
		return key, denied("the token is for another device")
	case named:
		return key, nil
	case r.grant.Device != "":
		key.Device = r.grant.Device
		return key, nil
	}
	return key, h.nameless(key.Policy, body)
}

// unnamed stands for the device of a report that does not name one, so that whatever else
// is wrong with it is found.
const unnamed = "unnamed"

// nameless says what is wrong with a report that does not name its device by a right id.
// That it does not is the first violation, as the subject is on NATS, unless the body is
// no JSON object.
func (h *handler) nameless(policy string, body []byte) *problem {
	var e compliance.Error
	_, rejection := h.Rules.Decode(&compliance.Envelope{
		Subject: compliance.Key{Policy: policy, Device: unnamed}.Subject(), Body: body, Stored: h.Now(), Sequence: 1,
	})
	if rejection != nil {
		e = rejection.ErrorObject()
		if code := rejection.Code(); e.Target == "" || code == compliance.TooLarge || code == compliance.MalformedJSON {
			return refused(e) // It is the policy, or the body as a whole.
		}
		for i, detail := range e.Details {
			switch {
			case detail.Target != compliance.ID.String():
			case detail.Code == compliance.IDMismatch:
				e.Details[i].Code, e.Details[i].Message = compliance.InvalidSubject, messageInvalidID
				return lead(e, e.Details[i])
			default:
				return lead(e, detail)
			}
		}
	}
	missing := compliance.ErrorDetail{
		Code: codeIDRequired, Target: compliance.ID.String(), Message: "id is required: it names the device that the report is about.",
	}
	e.Code, e.Details = codeBadRequest, append([]compliance.ErrorDetail{missing}, e.Details...)
	return lead(e, missing)
}

const messageInvalidID = "id is not the id of a device: 1 to 128 characters of A-Z a-z 0-9 _ -."

// lead makes a violation the leading one.
func lead(e compliance.Error, first compliance.ErrorDetail) *problem {
	e.Message, e.Target, e.Inner.Code = first.Message, first.Target, first.Code
	return refused(e)
}

// patchOne stores a report and waits for what becomes of it.
func (h *handler) patchOne(r *request, key compliance.Key, body []byte) (answer, *problem) {
	report, problem := h.stamped(key, body)
	if problem != nil {
		return answer{}, problem
	}
	return h.store(r, report)
}

// store stores a report and answers with what becomes of it.
func (h *handler) store(r *request, o report) (answer, *problem) {
	prefer := parsePreferences(r.Header)
	waiting, cancel := context.WithTimeout(r.Context(), h.Wait)
	defer cancel()
	done := h.publish(waiting, o, prefer.async)
	switch {
	case done.problem != nil:
		return answer{}, done.problem
	case !done.applied:
		return accepted(prefer, done.receipt), nil
	}
	return h.written(r, prefer, o, done.record)
}

// report is one that was found right.
type report struct {
	Outgoing

	removed bool
}

// stamped gives a report its id and time, and finds out whether it is right.
func (h *handler) stamped(key compliance.Key, body []byte) (report, *problem) {
	o, err := h.publisher.Stamp(key)
	if err != nil {
		return report{}, unavailable("the report cannot be stamped; try again", err)
	}
	o.Body = body
	decoded, rejection := h.Rules.Decode(&compliance.Envelope{
		Subject: key.Subject(),
		Header: map[string][]string{
			compliance.HeaderEventID:   {o.EventID},
			compliance.HeaderEventTime: {compliance.FormatStored(o.EventTime)},
		},
		Body: body, Stored: o.EventTime, Sequence: 1,
	})
	if rejection != nil {
		return report{}, refused(rejection.ErrorObject())
	}
	return report{Outgoing: o, removed: decoded.Removed}, nil
}

// outcome is what became of a report.
type outcome struct {
	receipt Receipt
	// applied tells whether that is known; record is then the record as the documented
	// object, nil where there is none any more.
	applied bool
	record  []byte
	problem *problem
}

// settleTimeout bounds what it takes to look up what became of a report.
const settleTimeout = time.Second

// publish stores a report and, unless that is not wanted, waits until it is applied.
func (h *handler) publish(ctx context.Context, o report, async bool) outcome {
	if async {
		receipt, err := h.publisher.Publish(ctx, o.Outgoing)
		return outcome{receipt: receipt, problem: notStored(err)}
	}
	receipt, result, err := h.publisher.PublishAndWait(ctx, o.Outgoing)
	switch {
	case err != nil:
		return outcome{problem: notStored(err)}
	case result == nil:
		return h.settle(ctx, o.Key, receipt)
	case result.Error != nil:
		return outcome{receipt: receipt, problem: refused(*result.Error)}
	}
	return outcome{receipt: receipt, applied: true, record: result.Record}
}

func notStored(err error) *problem {
	if err == nil {
		return nil
	}
	return unavailable("the report is not known to be stored; send it again", err)
}

// settle finds out what became of a report whose result was not heard: a result may be
// lost. What cannot be told is left open.
func (h *handler) settle(ctx context.Context, key compliance.Key, at Receipt) outcome {
	// The time to wait is over, and the client may have gone.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	open := outcome{receipt: at}
	if passed, err := h.reader.Passed(ctx, key.Device, at); err != nil || !passed {
		return open
	}
	refusal, err := h.reader.Refusal(ctx, at)
	switch {
	case err != nil:
		return open
	case refusal != nil:
		return outcome{receipt: at, problem: refused(*refusal)}
	}
	record, err := h.reader.Get(ctx, key)
	switch {
	case err != nil:
		return open
	case !record.Exists():
		return outcome{receipt: at, applied: true}
	}
	return outcome{receipt: at, applied: true, record: record.JSON(key.Device)}
}

// accepted is the answer to what is stored, and not known to be applied; it says where.
func accepted(prefer preferences, where any) answer {
	a := answer{status: http.StatusAccepted, body: encode(where)}
	if prefer.async {
		a.header = map[string]string{"Preference-Applied": appliedAsync}
	}
	return a
}

// written is the answer to a report that is applied.
func (h *handler) written(r *request, prefer preferences, o report, record []byte) (answer, *problem) {
	switch {
	case o.removed:
		return answer{status: http.StatusNoContent}, nil
	case record == nil:
		return answer{}, notFound("the report is stored, and there is no record: a newer report has removed it")
	case prefer.minimal:
		return answer{status: http.StatusNoContent, header: map[string]string{"Preference-Applied": appliedMinimal}}, nil
	}
	at := r.route
	at.resource, at.key = entity, o.Key
	a := answer{status: http.StatusOK, body: withContext(record, h.base(r.Request)+at.context(""))}
	if prefer.whole {
		a.header = map[string]string{"Preference-Applied": appliedWhole}
	}
	return a, nil
}

// remove answers a DELETE: a report like any other, which removes the record.
func (h *handler) remove(r *request) (answer, *problem) {
	if r.ContentLength != 0 {
		return answer{}, badRequest(codeBadRequest, "", "a DELETE has no body")
	}
	ctx, cancel := context.WithTimeout(r.Context(), settleTimeout)
	record, err := h.reader.Get(ctx, r.key)
	cancel()
	if err == nil && !record.Exists() {
		return answer{}, noRecord()
	}
	// Where the state cannot be read the stream gets the deletion all the same.
	report, problem := h.stamped(r.key, []byte(`{"@removed":{"reason":"deleted"}}`))
	if problem != nil {
		return answer{}, problem
	}
	// A record whose device has a clock that is ahead does not outlive it.
	if after := (record.Newest().Time + 1).Time(); err == nil && report.EventTime.Before(after) {
		report.EventTime = after
	}
	return h.store(r, report)
}

func noRecord() *problem { return notFound("there is no record of this device under this policy") }

func encode(v any) []byte {
	text, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		panic("graph: an answer that cannot be written: " + err.Error()) // It is of this package.
	}
	return text
}
