package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/semaphore"

	"github.com/complianced/complianced/compliance"
)

// Limits of what is read ahead.
const (
	aheadReports = 8000
	aheadBytes   = 16 << 20
	// pullReports and pullBytes are what the server is asked for at a time.
	pullReports = 8000
	pullBytes   = 8 << 20
)

// Times of an ordered consumer: a server that is silent for two heartbeats is
// given up, and the consumer made anew.
const (
	heartbeat = time.Second
	expiry    = 5 * time.Second
	// inactive is when the server forgets a consumer that nobody reads.
	inactive = 30 * time.Second
)

// JetStream is a source on a stream of NATS JetStream, read by an ordered
// consumer. It is used by one goroutine.
type JetStream struct {
	js     jetstream.JetStream
	stream string
	// headersOnly leaves the bodies with the server.
	headersOnly bool
	reader      *reader
	// peeked is a report that was taken from the reader and belongs to the next
	// batch.
	peeked *message
	// batch is the memory of the last batch.
	batch []compliance.Envelope
}

// NewJetStream returns a source on the stream with this name.
func NewJetStream(js jetstream.JetStream, stream string) *JetStream {
	return &JetStream{js: js, stream: stream}
}

// message is a report on its way from the reader.
type message struct {
	envelope compliance.Envelope
	instance string
	// bytes is about what it takes in memory.
	bytes int
	err   error
}

func sizeOf(e *compliance.Envelope) int {
	n := len(e.Subject) + len(e.Body) + 64
	for name, values := range e.Header {
		n += len(name)
		for _, value := range values {
			n += len(value)
		}
	}
	return n
}

// resetAttempts is how often an ordered consumer tries to be made anew before its
// reader reports the error, so that the loop decides what to do. Each attempt
// waits ten seconds for a server that is silent.
const resetAttempts = 1

// reader is a goroutine that does nothing but read one ordered consumer into a
// bounded channel. Next has no time limit there: with one, the timer that
// notices a silent server never fires. The same goroutine stops the consumer,
// since stopping waits while the consumer is made anew.
type reader struct {
	messages jetstream.MessagesContext
	channel  chan message
	bytes    *semaphore.Weighted
	stop     context.CancelFunc
}

// Seek has the contract of [Source]. It leaves the reader before to itself.
func (s *JetStream) Seek(ctx context.Context, sequence uint64) error {
	s.Close()
	consumer, err := s.js.OrderedConsumer(ctx, s.stream, jetstream.OrderedConsumerConfig{
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       sequence,
		HeadersOnly:       s.headersOnly,
		InactiveThreshold: inactive,
		MaxResetAttempts:  resetAttempts,
	})
	if err != nil {
		return s.explain(err)
	}
	messages, err := consumer.Messages(
		jetstream.PullMaxMessagesWithBytesLimit(pullReports, pullBytes),
		jetstream.PullHeartbeat(heartbeat),
		jetstream.PullExpiry(expiry),
	)
	if err != nil {
		return s.explain(err)
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.reader = &reader{
		messages: messages,
		channel:  make(chan message, aheadReports),
		bytes:    semaphore.NewWeighted(aheadBytes),
		stop:     stop,
	}
	go s.reader.run(background)
	return nil
}

// Close stops reading. It does not wait for the reader. Seek begins anew.
func (s *JetStream) Close() {
	if s.reader != nil {
		s.reader.stop()
	}
	s.reader, s.peeked = nil, nil
}

func (r *reader) run(ctx context.Context) {
	defer r.messages.Stop()
	until := []jetstream.NextOpt{jetstream.NextContext(ctx)}
	for {
		m := r.read(until)
		if err := r.bytes.Acquire(ctx, int64(m.bytes)); err != nil {
			return
		}
		select {
		case r.channel <- m:
		case <-ctx.Done():
			return
		}
		if m.err != nil {
			return
		}
	}
}

func (r *reader) read(until []jetstream.NextOpt) message {
	msg, err := r.messages.Next(until...)
	if err != nil {
		return message{err: fmt.Errorf("read reports: %w", err)}
	}
	meta, err := msg.Metadata()
	if err != nil {
		return message{err: fmt.Errorf("read reports: %w", err)}
	}
	m := message{
		instance: meta.Consumer,
		envelope: compliance.Envelope{
			Subject:  msg.Subject(),
			Header:   msg.Headers(),
			Body:     msg.Data(),
			Sequence: meta.Sequence.Stream,
			Stored:   meta.Timestamp.UTC(),
		},
	}
	m.bytes = sizeOf(&m.envelope)
	return m
}

// errNotSeeked says that Next was called before Seek.
var errNotSeeked = errors.New("the source stands nowhere")

// Next has the contract of [Source]. A batch ends at 4,000 reports, at 8 MiB,
// where the consumer was made anew, or when nothing more waits.
func (s *JetStream) Next(ctx context.Context) (Batch, error) {
	r := s.reader
	if r == nil {
		return Batch{}, errNotSeeked
	}
	var first message
	if s.peeked != nil {
		first, s.peeked = *s.peeked, nil
	} else {
		select {
		case <-ctx.Done():
			return Batch{}, ctx.Err()
		case first = <-r.channel:
			r.bytes.Release(int64(first.bytes))
		}
	}
	if first.err != nil {
		return Batch{}, first.err
	}
	clear(s.batch)
	batch := Batch{Instance: first.instance, Envelopes: append(s.batch[:0], first.envelope)}
	defer func() { s.batch = batch.Envelopes }()
	for bytes := first.bytes; len(batch.Envelopes) < maxBatchReports && bytes < maxBatchBytes; {
		var m message
		select {
		case m = <-r.channel:
		default:
			return batch, nil
		}
		r.bytes.Release(int64(m.bytes))
		if m.instance != batch.Instance { // So has an error.
			s.peeked = &m
			break
		}
		batch.Envelopes = append(batch.Envelopes, m.envelope)
		bytes += m.bytes
	}
	return batch, nil
}

// Info has the contract of [Source].
func (s *JetStream) Info(ctx context.Context) (StreamInfo, error) {
	stream, err := s.js.Stream(ctx, s.stream)
	if err != nil {
		return StreamInfo{}, s.explain(err)
	}
	info := stream.CachedInfo()
	first, last := info.State.FirstSeq, info.State.LastSeq
	if info.State.Msgs == 0 {
		first = last + 1
	}
	return StreamInfo{Stream: info.Config.Name, Created: info.Created.UTC(), First: max(first, 1), Last: last}, nil
}

// StoredAt has the contract of [Source].
func (s *JetStream) StoredAt(ctx context.Context, sequence uint64) (time.Time, error) {
	stream, err := s.js.Stream(ctx, s.stream)
	if err != nil {
		return time.Time{}, s.explain(err)
	}
	msg, err := stream.GetMsg(ctx, sequence)
	switch {
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return time.Time{}, nil
	case err != nil:
		return time.Time{}, s.explain(err)
	}
	return msg.Time.UTC(), nil
}

// explain says what to do about an error.
func (s *JetStream) explain(err error) error {
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("stream %s: %w; run complianced provision", s.stream, err)
	}
	return fmt.Errorf("stream %s: %w", s.stream, err)
}
