package oracle

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"
)

const (
	// pause is how long a copy waits where there is nothing new, or after an error.
	pause = 20 * time.Millisecond
	// patience is how long a copy waits for one answer of the server.
	patience = 2 * time.Second
)

// Copy keeps every message that its streams ever held. It goes on after the
// server was away, after a stream was deleted and made anew, and after a rollback:
// the messages of before are kept beside the new ones. It reads by direct gets and
// leaves nothing on the server. It is safe for concurrent use.
type Copy struct {
	followers []*follower
}

// NewCopy returns an empty copy of streams. The connection must reconnect for
// ever (nats.MaxReconnects(-1)), so that the copy outlives the server.
func NewCopy(nc *nats.Conn, streams ...string) (*Copy, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("copy: %w", err)
	}
	c := &Copy{}
	for _, stream := range streams {
		c.followers = append(c.followers, &follower{
			reader: reader{nc: nc, js: js, stream: stream},
			seen:   map[place]bool{},
		})
	}
	return c, nil
}

// Run follows the streams until ctx is done, and then returns nil. The only error
// is that the connection was closed.
func (c *Copy) Run(ctx context.Context) error {
	var group errgroup.Group
	for _, f := range c.followers {
		group.Go(func() error { return f.follow(ctx, func(bool) bool { return false }) })
	}
	if err := group.Wait(); !errors.Is(err, ctx.Err()) {
		return err
	}
	return nil
}

// CatchUp returns when the copy holds all that the streams hold now, whether or
// not Run runs. It waits for a server or stream that is away.
func (c *Copy) CatchUp(ctx context.Context) error {
	for _, f := range c.followers {
		if err := f.follow(ctx, func(level bool) bool { return level }); err != nil {
			return fmt.Errorf("catch up with %s: %w", f.stream, err)
		}
	}
	return nil
}

// History returns what the copy holds.
func (c *Copy) History() History {
	var h History
	for _, f := range c.followers {
		f.mu.Lock()
		h.Messages = append(h.Messages, f.messages...)
		if f.end.Stream != "" {
			h.Ends = append(h.Ends, f.end)
		}
		f.mu.Unlock()
	}
	return h
}

// follower copies one stream.
type follower struct {
	reader

	// turn is held during a step.
	turn sync.Mutex
	// at is the last message that was read, or what stands for it.
	at   End
	seen map[place]bool

	mu       sync.Mutex
	messages []Message
	end      End
}

// follow takes steps until one comes to the answer that it should.
func (f *follower) follow(ctx context.Context, done func(level bool) bool) error {
	var last error
	for {
		level, err := f.step(ctx)
		switch {
		case ctx.Err() != nil:
			return errors.Join(ctx.Err(), last)
		case errors.Is(err, nats.ErrConnectionClosed):
			return err
		case err == nil && done(level):
			return nil
		}
		last = err
		if err != nil || level {
			wait(ctx, pause)
		}
	}
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// step reads a batch and reports whether the copy is level with the end of the
// stream as it was before. What it read counts only if the stream is still the
// same one afterwards.
func (f *follower) step(ctx context.Context) (bool, error) {
	f.turn.Lock()
	defer f.turn.Unlock()
	before, err := f.readEnd(ctx)
	if err != nil {
		return false, err
	}
	if f.isAnother(before) {
		f.at = End{Stream: f.stream, Created: before.Created}
	}
	if f.at.Sequence == before.Sequence {
		f.keep(nil, before)
		return true, nil
	}
	messages, err := f.readFrom(ctx, f.at)
	if err != nil {
		return false, err
	}
	after, err := f.readEnd(ctx)
	if err != nil || !after.Created.Equal(before.Created) {
		return false, err
	}
	return f.advance(messages, before), nil
}

// isAnother reports whether the stream is not the one that was read so far: made
// anew or rolled back. Everything in it is then read again.
func (f *follower) isAnother(end End) bool {
	return !end.Created.Equal(f.at.Created) || end.Sequence < f.at.Sequence ||
		end.Sequence == f.at.Sequence && !end.Stored.Equal(f.at.Stored)
}

// advance takes the messages that were read over. The first may be the last one
// of before, which shows that the stream was not rolled back; with another store
// time it shows that it was.
func (f *follower) advance(messages []Message, before End) bool {
	if len(messages) > 0 && messages[0].Sequence == f.at.Sequence && !messages[0].Stored.Equal(f.at.Stored) {
		f.at = End{Stream: f.stream, Created: before.Created}
		return false
	}
	for i := range messages {
		messages[i].Created = before.Created
	}
	if n := len(messages); n > 0 && messages[n-1].Sequence > f.at.Sequence {
		f.at.Sequence, f.at.Stored = messages[n-1].Sequence, messages[n-1].Stored
	} else {
		f.at = before // What is missing up to the end is not in the stream any more.
	}
	f.keep(messages, before)
	return f.at.Sequence >= before.Sequence
}

// keep adds the messages that are not there yet.
func (f *follower) keep(messages []Message, end End) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.end = end
	if f.at.Sequence > end.Sequence {
		f.end = f.at
	}
	for _, m := range messages {
		if at := placeOf(m); !f.seen[at] {
			f.seen[at] = true
			f.messages = append(f.messages, m)
		}
	}
}
