package replay

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/publisher"
)

// results hears what became of reports.
type results struct {
	timeout time.Duration
	// token and the number of a report are what it asks its result to be sent under.
	token string
	sub   *nats.Subscription
	ended func(n uint64, o Outcome)

	mu      sync.Mutex // guards what follows
	waiting map[uint64]*question
	// asked are those whose report is accepted, in the order of their ends.
	asked []deadline
}

// question is a report whose result is not heard yet.
type question struct {
	acked bool
	ack   publisher.Ack
	// answers came before the PubAck.
	answers []compliance.Result
}

type deadline struct {
	n  uint64
	at time.Time
}

// newResults subscribes to results.
func newResults(nc *nats.Conn, timeout time.Duration, ended func(uint64, Outcome)) (*results, error) {
	r := &results{timeout: timeout, token: uuid.NewString(), ended: ended, waiting: map[uint64]*question{}}
	sub, err := nc.Subscribe(compliance.ResultSubject("*", r.token+".*"), r.hear)
	if err != nil {
		return nil, fmt.Errorf("subscribe to results: %w", err)
	}
	r.sub = sub
	return r, nil
}

// ask returns the token of a report.
func (r *results) ask(n uint64) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting[n] = &question{}
	return r.token + "." + strconv.FormatUint(n, 36)
}

// hear takes a result.
func (r *results) hear(msg *nats.Msg) {
	n, err := strconv.ParseUint(msg.Subject[strings.LastIndexByte(msg.Subject, '.')+1:], 36, 64)
	if err != nil {
		return
	}
	result, err := compliance.ParseResult(msg.Data)
	if err != nil {
		return
	}
	r.mu.Lock()
	q := r.waiting[n]
	match := q != nil && q.acked && q.is(result)
	switch {
	case match:
		delete(r.waiting, n)
	case q != nil && !q.acked:
		q.answers = append(q.answers, result)
	}
	r.mu.Unlock()
	if match {
		r.ended(n, outcomeOf(result.Outcome))
	}
}

// is reports whether a result is of the very copy that the PubAck is of: an earlier
// attempt has a result of its own.
func (q *question) is(result compliance.Result) bool {
	return result.Stream == q.ack.Stream && result.Sequence == q.ack.Sequence
}

// accepted takes the PubAck of a report.
func (r *results) accepted(n uint64, ack publisher.Ack) {
	outcome, heard := NoResult, false
	r.mu.Lock()
	q := r.waiting[n]
	q.acked, q.ack = true, ack
	for _, result := range q.answers {
		if q.is(result) {
			outcome, heard = outcomeOf(result.Outcome), true
			delete(r.waiting, n)
		}
	}
	if !heard {
		r.asked = append(r.asked, deadline{n, time.Now().Add(r.timeout)})
	}
	r.mu.Unlock()
	if heard {
		r.ended(n, outcome)
	}
}

// forget ends the wait for a report that was not accepted.
func (r *results) forget(n uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.waiting, n)
}

// run gives up results that do not come, until ctx ends.
func (r *results) run(ctx context.Context) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			for _, n := range r.overdue(now) {
				r.ended(n, NoResult)
			}
		}
	}
}

func (r *results) overdue(now time.Time) (late []uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.asked) > 0 {
		d := r.asked[0]
		if _, open := r.waiting[d.n]; open {
			if d.at.After(now) {
				break
			}
			late = append(late, d.n)
			delete(r.waiting, d.n)
		}
		r.asked = r.asked[1:]
	}
	return late
}
