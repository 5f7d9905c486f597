package publisher

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/complianced/complianced/compliance"
)

// PublishAndWait sends a report and returns what became of it. Where the report
// is accepted and no result comes before the context ends, the error is a
// [*NoResultError].
func (p *Publisher) PublishAndWait(ctx context.Context, report Outgoing) (compliance.Result, error) {
	if err := p.listen(); err != nil {
		return compliance.Result{}, err
	}
	token := strings.ReplaceAll(uuid.NewString(), "-", "")
	// A report that is sent again is stored twice, and each has its result.
	heard := make(chan compliance.Result, 16)
	p.mu.Lock()
	p.waiters[token] = heard
	p.mu.Unlock()
	defer func() {
		p.mu.Lock()
		delete(p.waiters, token)
		p.mu.Unlock()
	}()
	ack, err := p.publish(ctx, report, p.id+"."+token)
	if err != nil {
		return compliance.Result{}, err
	}
	for {
		select {
		case result := <-heard:
			if result.Stream == ack.Stream && result.Sequence == ack.Sequence {
				return result, nil
			}
		case <-ctx.Done():
			return compliance.Result{}, &NoResultError{Ack: ack, Err: ctx.Err()}
		}
	}
}

// listen subscribes once to the results of all this publisher's reports.
func (p *Publisher) listen() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.results != nil {
		return nil
	}
	results, err := p.nc.Subscribe(compliance.ResultSubject("*", p.id+".*"), p.hear)
	if err != nil {
		return fmt.Errorf("listen for results: %w", err)
	}
	p.results = results
	return nil
}

func (p *Publisher) hear(m *nats.Msg) {
	result, err := compliance.ParseResult(m.Data)
	if err != nil {
		return // Not from a worker; the one that waits will say that it heard nothing.
	}
	p.mu.Lock()
	waiter := p.waiters[m.Subject[strings.LastIndexByte(m.Subject, '.')+1:]]
	p.mu.Unlock()
	if waiter == nil {
		return
	}
	select {
	case waiter <- result:
	default:
	}
}
