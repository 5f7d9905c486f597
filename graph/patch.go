package graph

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"

	"github.com/complianced/complianced/compliance"
)

// maxDelta is the greatest body of a delta in bytes.
const maxDelta = 4 << 20

// patch answers a PATCH. It takes a place among those that are stored when its body is
// there: a client that sends slowly takes none from the others.
func (h *handler) patch(r *request) (answer, *problem) {
	body, problem := h.readBody(r)
	if problem != nil {
		return answer{}, problem
	}
	if r.resource == entity {
		return h.patchOne(r, r.key, body)
	}
	members, isDelta, problem := deltaMembers(body)
	switch {
	case problem != nil:
		return answer{}, problem
	case isDelta:
		if len(body) <= compliance.MaxBody { // A large one has its place already.
			problem = r.held.enter(h.deltas)
		}
		if problem != nil {
			return answer{}, problem
		}
		return h.patchDelta(r, members)
	}
	key, problem := h.keyOf(r, body)
	if problem != nil {
		return answer{}, problem
	}
	return h.patchOne(r, key, body)
}

// readBody reads the body of a PATCH. A large one takes a place among the deltas.
func (h *handler) readBody(r *request) ([]byte, *problem) {
	media, parameters, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	charset := parameters["charset"]
	switch {
	case err != nil, media != "application/json", charset != "" && !strings.EqualFold(charset, "utf-8"):
		return nil, newProblem(http.StatusUnsupportedMediaType, codeMediaType, "the body is application/json in UTF-8, and the header Content-Type says so")
	case !identity(r.Header.Get("Content-Encoding")):
		return nil, newProblem(http.StatusUnsupportedMediaType, codeMediaType, "Content-Encoding is not supported: send the body as it is")
	case r.ContentLength < 0:
		return nil, newProblem(http.StatusLengthRequired, codeLengthRequired, "the header Content-Length is required; a chunked body is not taken")
	case r.resource == entity && r.ContentLength > compliance.MaxBody:
		return nil, tooLarge("the payload is larger than 16 KiB")
	case r.ContentLength > maxDelta:
		return nil, tooLarge("the payload is larger than 4 MiB")
	case r.ContentLength > compliance.MaxBody:
		if problem := r.held.enter(h.deltas); problem != nil {
			return nil, problem
		}
	}
	body := make([]byte, r.ContentLength)
	if _, err := io.ReadFull(r.Body, body); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, newProblem(http.StatusRequestTimeout, codeRequestTimeout, "the body did not come in time").with("Connection", "close")
		}
		return nil, badRequest(codeBadRequest, "", "the body ended before its Content-Length")
	}
	return body, nil
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
		Code: codeIDRequired, Target: compliance.ID.String(), Message: "id is required: it names the device that the report is about",
	}
	e.Code, e.Details = codeBadRequest, append([]compliance.ErrorDetail{missing}, e.Details...)
	return lead(e, missing)
}

const messageInvalidID = "id is not the id of a device: 1 to 128 characters of A-Z a-z 0-9 _ -"

// lead makes a violation the leading one.
func lead(e compliance.Error, first compliance.ErrorDetail) *problem {
	e.Message, e.Target, e.Inner.Code = first.Message, first.Target, first.Code
	return refused(e)
}
