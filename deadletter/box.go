package deadletter

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
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
	// patience is how long a list waits for the next letter.
	patience time.Duration
}

// Open finds the stream. The error is [ErrNoStream] where there is none.
func Open(ctx context.Context, js jetstream.JetStream) (*Box, error) {
	stream, err := js.Stream(ctx, compliance.DeadStream)
	if err != nil {
		return nil, told("open", err)
	}
	return &Box{js: js, stream: stream, patience: patience}, nil
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
	// fetchLetters is how many letters are under way at a time: at most 64 MiB.
	fetchLetters = 256
	// forgotten is when the server forgets the consumer of a reader that is gone.
	forgotten = 30 * time.Second
	// patience is for a slow link, which a letter of 256 KiB passes at 10 KiB/s.
	patience = 30 * time.Second
)

// errSilent says that a list broke off.
var errSilent = errors.New("the server has more letters, and sends none; is the network slow? The list is not whole")

// Each hands over the letters that match, in the order of the stream. A message that
// cannot be read as a letter is handed over as an [*UnreadableError] with nothing but
// the sequence in the letter, unless its subject has another code. An error of fn ends
// the list and is returned as it is. A list that ends without an error is whole.
func (b *Box) Each(ctx context.Context, f Filter, fn func(Letter, error) error) error {
	consumer, err := b.js.OrderedConsumer(ctx, compliance.DeadStream, jetstream.OrderedConsumerConfig{
		FilterSubjects: f.subjects(), InactiveThreshold: forgotten,
	})
	if err != nil {
		return told("read", err)
	}
	left, last := consumer.CachedInfo().NumPending, uint64(0)
	messages, err := consumer.Messages(jetstream.PullMaxMessages(fetchLetters))
	if err != nil {
		return told("read", err)
	}
	defer messages.Stop()
	for left > 0 {
		message, err := b.next(ctx, messages, f, last)
		if err != nil || message == nil {
			return err
		}
		at, err := message.Metadata()
		if err != nil {
			return told("read", err)
		}
		left, last = at.NumPending, at.Sequence.Stream
		if err := errors.Join(hand(f, message, at, fn), ctx.Err()); err != nil {
			return err
		}
	}
	return nil
}

// askEvery is how many times in its patience a list asks whether anything is left.
const askEvery = 10

// next returns the next message; nil where there is none any more after the last one,
// because others deleted them.
func (b *Box) next(ctx context.Context, messages jetstream.MessagesContext, f Filter, last uint64) (jetstream.Msg, error) {
	for range askEvery {
		message, err := await(ctx, messages, b.patience/askEvery)
		switch {
		case err == nil:
			return message, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, nats.ErrTimeout):
			return nil, told("read", err)
		}
		if more, err := b.more(ctx, f, last); err != nil || !more {
			return nil, err
		}
	}
	return nil, told("read", errSilent)
}

func await(ctx context.Context, messages jetstream.MessagesContext, within time.Duration) (jetstream.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return messages.Next(jetstream.NextContext(ctx))
}

// more asks the server whether it has a message after a sequence.
func (b *Box) more(ctx context.Context, f Filter, last uint64) (bool, error) {
	subjects := f.subjects()
	if len(subjects) == 0 {
		subjects = []string{compliance.DeadPrefix + ">"}
	}
	for _, subject := range subjects {
		_, err := b.stream.GetMsg(ctx, last+1, jetstream.WithGetMsgSubject(subject))
		if !errors.Is(err, jetstream.ErrMsgNotFound) {
			if err != nil {
				return false, told("read", err)
			}
			return true, nil
		}
	}
	return false, nil
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

// Of returns the letter of a report. The error is [ErrNotFound] where it has none, or not
// any more.
func (b *Box) Of(ctx context.Context, stream string, sequence uint64) (Letter, error) {
	subject := compliance.DeadPrefix + "*." + compliance.RetryOf(stream, sequence) + ".*"
	raw, err := b.stream.GetMsg(ctx, 1, jetstream.WithGetMsgSubject(subject))
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
