package graph

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/complianced/complianced/compliance"
)

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
	o.Body, o.EventTime = body, h.ahead.after(key, o.EventTime)
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

// pending is a report that is stored, if there is no problem, and whose result may be
// waited for.
type pending struct {
	outcome

	key    compliance.Key
	result func(context.Context) *compliance.Result // Nil where it is not waited for.
}

// publish stores a report. Its result can be waited for, unless that is not wanted or too
// many wait already.
func (h *handler) publish(ctx context.Context, o report, async bool) pending {
	p := pending{key: o.Key}
	var err error
	if async || !tryEnter(h.waiting) {
		p.receipt, err = h.publisher.Publish(ctx, o.Outgoing)
	} else {
		var result func(context.Context) *compliance.Result
		if p.receipt, result, err = h.publisher.Ask(ctx, o.Outgoing); err != nil {
			<-h.waiting
		} else {
			p.result = func(ctx context.Context) *compliance.Result {
				defer func() { <-h.waiting }()
				return result(ctx)
			}
		}
	}
	if err != nil {
		p.problem = unavailable("the report is not known to be stored; send it again", err)
	}
	return p
}

// patience is how long a request waits: until the first context ends for the results of
// its reports, and until the second to look up what became of those that were not heard.
type patience struct{ hear, settle context.Context } //nolint:containedctx // It is handed on, and not kept.

// settleTimeout bounds what it takes to look up what became of reports.
const settleTimeout = time.Second

func (h *handler) patience(r *request) (patience, context.CancelFunc) {
	hear, cancel := context.WithTimeout(r.Context(), h.Wait)
	// A client that has gone does not end it: the log says what became of its request.
	settle, cancelSettle := context.WithTimeout(context.WithoutCancel(r.Context()), h.Wait+settleTimeout)
	return patience{hear, settle}, func() { cancel(); cancelSettle() }
}

// await waits for the result of a report that is stored. It must be called for each.
func (h *handler) await(until patience, p pending) outcome {
	if p.result == nil {
		return p.outcome
	}
	result := p.result(until.hear)
	switch {
	case result == nil:
		return h.settle(until.settle, p.key, p.receipt)
	case result.Error != nil:
		return outcome{receipt: p.receipt, problem: refusedLater(*result.Error)}
	}
	return outcome{receipt: p.receipt, applied: true, record: result.Record}
}

// refusedLater is the verdict of a worker on a report that was found right here.
func refusedLater(e compliance.Error) *problem {
	if e.Inner.Code != compliance.FutureEventTime {
		return refused(e)
	}
	// The time is that of this service, so it is no fault of the client.
	p := unavailable("the clock of the service is wrong, so that the report was refused", errClock)
	p.err.Inner.Code = compliance.FutureEventTime
	return p
}

var errClock = errors.New("the clock here is more than 10 minutes ahead of that of NATS, so that the reports of the API are refused: set it right")

// settle finds out what became of a report whose result was not heard: a result may be
// lost. What cannot be told is left open.
func (h *handler) settle(ctx context.Context, key compliance.Key, at Receipt) outcome {
	open := outcome{receipt: at}
	if passed, err := h.reader.Passed(ctx, key.Device, at); err != nil || !passed {
		return open
	}
	refusal, err := h.reader.Refusal(ctx, at)
	switch {
	case err != nil:
		return open
	case refusal != nil:
		return outcome{receipt: at, problem: refusedLater(*refusal)}
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

// send stores a report and says what becomes of it.
func (h *handler) send(r *request, o report, async bool) outcome {
	until, cancel := h.patience(r)
	defer cancel()
	if !tryEnter(h.writes) {
		return outcome{problem: tooMany()}
	}
	p := h.publish(until.hear, o, async)
	<-h.writes
	return h.await(until, p)
}

// patchOne stores a report and answers with what becomes of it.
func (h *handler) patchOne(r *request, key compliance.Key, body []byte) (answer, *problem) {
	o, problem := h.stamped(key, body)
	if problem != nil {
		return answer{}, problem
	}
	prefer := parsePreferences(r.Header)
	done := h.send(r, o, prefer.async)
	switch {
	case done.problem != nil:
		return answer{}, done.problem
	case !done.applied:
		return accepted(prefer, done.receipt), nil
	case done.record == nil && o.removed:
		return answer{status: http.StatusNoContent}, nil
	case done.record == nil:
		return answer{}, notFound("the report is stored, and there is no record: a newer report has removed it")
	}
	at := r.route
	at.resource, at.key = entity, o.Key
	return prefer.whole(withContext(done.record, h.base(r.Request)+at.context(""))), nil
}

// accepted is the answer to what is stored, and not known to be applied; it says where.
func accepted(prefer preferences, where any) answer {
	a := answer{status: http.StatusAccepted, body: encode(where)}
	if prefer.async {
		a.header = map[string]string{"Preference-Applied": appliedAsync}
	}
	return a
}

// maxRemovals is how often a deletion is tried on a record that comes back.
const maxRemovals = 3

// remove answers a DELETE: a report like any other, which removes the record. Where a
// device has a clock that is ahead, the deletion is one tick newer than the record.
func (h *handler) remove(r *request) (answer, *problem) {
	if r.ContentLength != 0 {
		return answer{}, badRequest(codeBadRequest, "", "a DELETE has no body")
	}
	if problem := r.held.enter(h.reads); problem != nil {
		return answer{}, problem
	}
	prefer := parsePreferences(r.Header)
	for n := range maxRemovals {
		newest, there, err := h.newest(r)
		if err == nil && !there {
			if n == 0 {
				return answer{}, noRecord()
			}
			return answer{status: http.StatusNoContent}, nil
		}
		// Where the state cannot be read the stream gets the deletion all the same.
		o, problem := h.stamped(r.key, []byte(`{"@removed":{"reason":"deleted"}}`))
		if problem != nil {
			return answer{}, problem
		}
		if after := (newest + 1).Time(); o.EventTime.Before(after) {
			o.EventTime = after
			h.ahead.note(r.key, after, h.Now())
		}
		done := h.send(r, o, prefer.async)
		switch {
		case done.problem != nil:
			return answer{}, done.problem
		case !done.applied:
			return accepted(prefer, done.receipt), nil
		case done.record == nil:
			return answer{status: http.StatusNoContent}, nil
		}
	}
	return answer{}, unavailable("the record is there again: its device has a clock that is ahead, and reports; try again", nil)
}

// newest returns the time of the record's newest event, and whether there is a record.
func (h *handler) newest(r *request) (compliance.Ticks, bool, error) {
	ctx, cancel := context.WithTimeout(r.Context(), settleTimeout)
	defer cancel()
	record, err := h.reader.Get(ctx, r.key)
	return record.Newest().Time, record.Exists(), err
}

func noRecord() *problem { return notFound("there is no record of this device under this policy") }

func encode(v any) []byte {
	text, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		panic("graph: an answer that cannot be written: " + err.Error()) // It is of this package.
	}
	return text
}
