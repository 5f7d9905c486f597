package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/compliance"
)

// What the server is asked for at a time.
const (
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
	// taken are the reports of the last batch.
	taken []compliance.Envelope
}

// NewJetStream returns a source on the stream with this name.
func NewJetStream(js jetstream.JetStream, stream string) *JetStream {
	return &JetStream{js: js, stream: stream}
}

// resetAttempts is how often an ordered consumer tries to be made anew before its
// reader reports the error, so that the loop decides what to do. Each attempt
// waits ten seconds for a server that is silent.
const resetAttempts = 1

// reader is a goroutine that does nothing but read one ordered consumer into a
// bounded queue. Next has no time limit there: with one, the timer that
// notices a silent server never fires. The same goroutine stops the consumer,
// since stopping waits while the consumer is made anew.
type reader struct {
	messages jetstream.MessagesContext
	ahead    *queue
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
	s.reader = &reader{messages: messages, ahead: newQueue(), stop: stop}
	go s.reader.run(background)
	return nil
}

// Close stops reading. It does not wait for the reader. Seek begins anew.
func (s *JetStream) Close() {
	if s.reader != nil {
		s.reader.stop()
	}
	s.reader, s.taken = nil, nil
}

func (r *reader) run(ctx context.Context) {
	defer r.messages.Stop()
	until := []jetstream.NextOpt{jetstream.NextContext(ctx)}
	for {
		instance, envelope, err := r.read(until)
		if err != nil {
			r.ahead.fail(fmt.Errorf("read reports: %w", err))
			return
		}
		if err := r.ahead.put(ctx, instance, &envelope); err != nil {
			return
		}
	}
}

func (r *reader) read(until []jetstream.NextOpt) (instance string, e compliance.Envelope, err error) {
	msg, err := r.messages.Next(until...)
	if err != nil {
		return "", e, err
	}
	meta, err := msg.Metadata()
	if err != nil {
		return "", e, err
	}
	return meta.Consumer, compliance.Envelope{
		Subject:  msg.Subject(),
		Header:   msg.Headers(),
		Body:     msg.Data(),
		Sequence: meta.Sequence.Stream,
		Stored:   meta.Timestamp.UTC(),
	}, nil
}

// errNotSeeked says that Next was called before Seek.
var errNotSeeked = errors.New("the source stands nowhere")

// Next has the contract of [Source]. A batch ends at 8,000 reports, at 8 MiB,
// where the consumer was made anew, or when nothing more waits.
func (s *JetStream) Next(ctx context.Context) (Batch, error) {
	if s.reader == nil {
		return Batch{}, errNotSeeked
	}
	if s.taken != nil {
		s.reader.ahead.giveBack(s.taken)
		s.taken = nil
	}
	batch, err := s.reader.ahead.take(ctx)
	s.taken = batch.Envelopes
	return batch, err
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
