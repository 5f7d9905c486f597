package deadletter

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/compliance"
)

// ErrNotFound says that the stream holds no dead letter of this sequence, or not any
// more.
var ErrNotFound = errors.New("there is no such dead letter, or not any more")

// ErrNoStream says that the stream is not there.
var ErrNoStream = errors.New("the stream " + compliance.DeadStream + " is not there; run complianced provision")

// Box is the stream of the dead letters. Its methods may be called from many
// goroutines.
type Box struct {
	js     jetstream.JetStream
	stream jetstream.Stream
}

// Open finds the stream. The error is [ErrNoStream] where there is none.
func Open(ctx context.Context, js jetstream.JetStream) (*Box, error) {
	stream, err := js.Stream(ctx, compliance.DeadStream)
	if err != nil {
		return nil, told("open", err)
	}
	return &Box{js: js, stream: stream}, nil
}

// told says of an error what was to be done, and makes it one of this package where it
// can.
func told(what string, err error) error {
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return ErrNoStream
	case errors.Is(err, jetstream.ErrMsgNotFound):
		return ErrNotFound
	}
	return fmt.Errorf("%s %s: %w", what, compliance.DeadStream, err)
}

const (
	// fetchLetters is how many letters are asked for at a time: at most 64 MiB.
	fetchLetters = 256
	// forgotten is when the server forgets the consumer of a reader that is gone.
	forgotten = 30 * time.Second
)

// Each hands over the letters that match, in the order of the stream. A message that
// cannot be read as a letter is handed over as an [*UnreadableError] with nothing but
// the sequence in the letter, unless its subject has another code. An error of fn ends
// the list and is returned as it is.
func (b *Box) Each(ctx context.Context, f Filter, fn func(Letter, error) error) error {
	consumer, err := b.js.OrderedConsumer(ctx, compliance.DeadStream, jetstream.OrderedConsumerConfig{
		FilterSubjects: f.subjects(), InactiveThreshold: forgotten,
	})
	if err != nil {
		return told("read", err)
	}
	for left := consumer.CachedInfo().NumPending; left > 0; {
		batch, err := consumer.FetchNoWait(fetchLetters)
		if err != nil {
			return told("read", err)
		}
		n := 0
		for message := range batch.Messages() {
			at, err := message.Metadata()
			if err != nil {
				return told("read", err)
			}
			n, left = n+1, at.NumPending
			if err := hand(f, message, at, fn); err != nil {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		if err := errors.Join(batch.Error(), ctx.Err()); err != nil {
			return told("read", err)
		}
		if n == 0 {
			return nil // The others are gone meanwhile.
		}
	}
	return nil
}

// hand hands a message over, if it is meant.
func hand(f Filter, message jetstream.Msg, at *jetstream.MsgMetadata, fn func(Letter, error) error) error {
	letter, err := Parse(Message{
		Subject: message.Subject(), Header: message.Headers(), Body: message.Data(),
		Sequence: at.Sequence.Stream, Stored: at.Timestamp,
	})
	switch {
	case err != nil:
		return fn(Letter{Sequence: at.Sequence.Stream}, err)
	case f.Match(&letter):
		return fn(letter, nil)
	}
	return nil
}

// Get returns one letter. The error is [ErrNotFound] where there is none.
func (b *Box) Get(ctx context.Context, sequence uint64) (Letter, error) {
	raw, err := b.stream.GetMsg(ctx, sequence)
	if err != nil {
		return Letter{}, told("read", err)
	}
	return parseRaw(raw)
}

// Of returns the newest letter of a report. The error is [ErrNotFound] where there is
// none.
func (b *Box) Of(ctx context.Context, stream string, report uint64) (Letter, error) {
	raw, err := b.stream.GetLastMsgForSubject(ctx, fmt.Sprintf("%s*.%s.%d.*", compliance.DeadPrefix, stream, report))
	if err != nil {
		return Letter{}, told("read", err)
	}
	return parseRaw(raw)
}

func parseRaw(raw *jetstream.RawStreamMsg) (Letter, error) {
	return Parse(Message{Subject: raw.Subject, Header: raw.Header, Body: raw.Data, Sequence: raw.Sequence, Stored: raw.Time})
}

// Delete takes a letter out of the stream. That it is gone already is no error.
func (b *Box) Delete(ctx context.Context, sequence uint64) error {
	err := b.stream.DeleteMsg(ctx, sequence)
	if err == nil || errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil
	}
	// The server refuses to delete what is not there with an error of no kind of its own.
	if _, gone := b.stream.GetMsg(ctx, sequence); errors.Is(gone, jetstream.ErrMsgNotFound) {
		return nil
	}
	return told("delete from", err)
}
