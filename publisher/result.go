package publisher

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/complianced/complianced/compliance"
)

// PublishAndWait is Publish, and then waits for what the report did to its
// record. That a report was rejected is a result, not an error.
//
// A result comes by core NATS, at most once, and may be lost: when it is not
// heard until ctx ends or Options.ResultTimeout is over, the error is a
// [*NoResultError], which holds the Ack of the accepted report. All other errors
// are those of Publish.
func (p *Publisher) PublishAndWait(ctx context.Context, o Outgoing) (compliance.Result, error) {
	asked, err := p.Ask(ctx, o)
	if err != nil {
		return compliance.Result{}, err
	}
	return asked.Result(ctx)
}

// Ask is the first half of PublishAndWait: it returns when the report is accepted. So
// many can wait for their results at once while few are being published.
func (p *Publisher) Ask(ctx context.Context, o Outgoing) (*Asked, error) {
	if !p.gate.enter() {
		return nil, fmt.Errorf("publish report: %w", ErrClosed)
	}
	asked, err := p.ask(ctx, o)
	if err != nil {
		p.gate.leave()
	}
	return asked, err
}

func (p *Publisher) ask(ctx context.Context, o Outgoing) (*Asked, error) {
	q, err := p.results.ask()
	if err != nil {
		return nil, fmt.Errorf("subscribe to results: %w", attemptError(err))
	}
	ack, err := p.publish(ctx, o, q.token)
	if err != nil {
		p.results.forget(q)
		return nil, err
	}
	return &Asked{Ack: ack, publisher: p, question: q}, nil
}

// Asked is a report that is accepted and whose result is awaited.
type Asked struct {
	// Ack is the acceptance.
	Ack Ack

	publisher *Publisher
	question  *question
}

// Result is the second half of PublishAndWait. It must be called, once: Close waits for
// it.
func (a *Asked) Result(ctx context.Context) (compliance.Result, error) {
	defer a.publisher.gate.leave()
	defer a.publisher.results.forget(a.question)
	return a.publisher.await(ctx, a.Ack, a.question)
}

// await returns the result of the very report that ack is of: an earlier attempt
// has a result of its own.
func (p *Publisher) await(ctx context.Context, ack Ack, asked *question) (compliance.Result, error) {
	// The server handled the subscription before the report.
	if refusedSubject(p.nc.LastError(), "Subscription", p.results.subject+`"`) {
		return compliance.Result{}, &NoResultError{Ack: ack, Why: ErrNotAllowed}
	}
	ctx, cancel := context.WithTimeout(ctx, p.opts.ResultTimeout)
	defer cancel()
	for {
		select {
		case text := <-asked.answers:
			result, err := compliance.ParseResult(text)
			if err == nil && result.Stream == ack.Stream && result.Sequence == ack.Sequence {
				return result, nil
			}
		case <-ctx.Done():
			return compliance.Result{}, &NoResultError{Ack: ack, Why: ctx.Err()}
		case <-p.gate.closing:
			return compliance.Result{}, &NoResultError{Ack: ack, Why: ErrClosed}
		}
	}
}

// results hears the results of all questions of a publisher by one subscription,
// which the first question makes.
type results struct {
	nc *nats.Conn
	// subject is compliance.result.<device or *>.<publisher>.*; a token is
	// <publisher>.<number of the question>.
	subject   string
	publisher string

	mu    sync.Mutex // guards what follows
	sub   *nats.Subscription
	ended chan struct{}
	n     uint64
	asked map[string]*question
}

// question is one call that waits for a result.
type question struct {
	token string
	// answers has room for those of earlier attempts, which come before the
	// PubAck and are read after it.
	answers chan []byte
}

const maxAnswers = 64

func newResults(nc *nats.Conn, device string) *results {
	if device == "" {
		device = "*"
	}
	publisher := uuid.NewString()
	return &results{
		nc: nc, publisher: publisher,
		subject: compliance.ResultSubject(device, publisher+".*"),
		asked:   make(map[string]*question),
	}
}

func (r *results) ask() (*question, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.subscribe(); err != nil {
		return nil, err
	}
	r.n++
	q := &question{
		token:   r.publisher + "." + strconv.FormatUint(r.n, 36),
		answers: make(chan []byte, maxAnswers),
	}
	r.asked[q.token] = q
	return q, nil
}

// subscribe makes the subscription where there is none; mu is held.
func (r *results) subscribe() error {
	if r.sub != nil {
		return nil
	}
	sub, err := r.nc.Subscribe(r.subject, r.hear)
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	sub.SetClosedHandler(func(string) { close(ended) })
	if !sub.IsValid() { // The connection was closed meanwhile, perhaps too early for the handler.
		return nats.ErrConnectionClosed
	}
	r.sub, r.ended = sub, ended
	return nil
}

// hear hands an answer to its question; what nobody waits for any more is let go.
func (r *results) hear(msg *nats.Msg) {
	_, token, _ := strings.Cut(strings.TrimPrefix(msg.Subject, compliance.ResultPrefix), ".")
	r.mu.Lock()
	q := r.asked[token]
	r.mu.Unlock()
	if q == nil {
		return
	}
	select {
	case q.answers <- msg.Data:
	default:
	}
}

func (r *results) forget(q *question) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.asked, q.token)
}

// close ends the subscription and waits for its goroutine. It may be called more
// than once, when no question is open or will be.
func (r *results) close() {
	if r.sub == nil {
		return
	}
	// An error means that the connection is closed, which ends the subscription too.
	_ = r.sub.Unsubscribe()
	<-r.ended
}
