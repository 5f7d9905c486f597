package replay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/compliance"
)

// Times of an ordered consumer, as those of the workers.
const (
	heartbeat = time.Second
	expiry    = 5 * time.Second
	inactive  = 30 * time.Second
	// silence is after how long without a report the stream is asked whether there can
	// still be one.
	silence = 5 * time.Second
)

// What the server is asked for at a time.
const (
	pullReports = 2000
	pullBytes   = 4 << 20
	// ahead is how many reports are read before they are asked for.
	ahead = 256
)

// Selection says which reports of the streams are replayed. The zero value takes all
// that they hold at the beginning: what comes later, the replayed ones too, is not.
type Selection struct {
	// Since and Until bound the store time, both included. Default to no bound.
	Since, Until time.Time
	// From is the first sequence. Defaults to the first that the stream holds.
	From uint64
	// Continued is where an earlier run came to. Defaults to a run from the beginning.
	Continued Position
}

// Bounds are where the replay of a stream begins and ends.
type Bounds struct {
	// Created is when the stream was made: another one of the same name is another.
	Created time.Time `json:"created"`
	// First and Last are sequences, both included.
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
}

// Streams is a source on the streams of a deployment. Reports come in the order of
// their store times, those of one stream in sequence.
type Streams struct {
	js        jetstream.JetStream
	selection Selection
	readers   []*reader
	bounds    map[string]Bounds
	total     uint64
}

// OpenStreams opens the streams of a deployment, one for each partition in their order.
// The caller closes it. ctx is that of opening alone.
func OpenStreams(ctx context.Context, js jetstream.JetStream, names []string, of Selection) (*Streams, error) {
	s := &Streams{js: js, selection: of, bounds: map[string]Bounds{}}
	for _, name := range names {
		r, err := s.open(ctx, name, len(names))
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("stream %s: %w", name, err)
		}
		s.readers = append(s.readers, r)
	}
	return s, nil
}

// open finds out the bounds of a stream and begins to read it.
func (s *Streams) open(ctx context.Context, name string, partitions int) (*reader, error) {
	stream, err := s.js.Stream(ctx, name)
	if err != nil {
		return nil, err
	}
	info := stream.CachedInfo()
	b, first, err := boundsOf(info, s.selection.From, s.selection.Continued)
	if err != nil {
		return nil, err
	}
	s.bounds[name] = b
	r := &reader{name: name, partitions: partitions, last: b.Last, until: s.selection.Until, since: s.selection.Since}
	if first > b.Last {
		return r, nil
	}
	config := jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: first, InactiveThreshold: inactive,
	}
	if since := s.selection.Since; !since.IsZero() && first == b.First && s.selection.From == 0 {
		config.DeliverPolicy, config.OptStartSeq, config.OptStartTime = jetstream.DeliverByStartTimePolicy, 0, &since
	}
	consumer, err := s.js.OrderedConsumer(ctx, name, config)
	if err != nil {
		return nil, err
	}
	pending := consumer.CachedInfo().NumPending
	if pending == 0 {
		return r, nil
	}
	s.total += min(pending, b.Last-first+1)
	messages, err := consumer.Messages(
		jetstream.PullMaxMessagesWithBytesLimit(pullReports, pullBytes),
		jetstream.PullHeartbeat(heartbeat), jetstream.PullExpiry(expiry),
	)
	if err != nil {
		return nil, err
	}
	r.start(ctx, messages)
	return r, nil
}

var (
	errMadeAnew = errors.New("it was made anew since the replay began, so that this cannot be continued; begin again without --resume")
	errAgedOut  = errors.New("it has lost reports since the replay began, by which the order is another one; begin again without --resume")
)

// boundsOf returns the bounds of the replay of a stream, and where this run begins.
func boundsOf(info *jetstream.StreamInfo, from uint64, continued Position) (b Bounds, first uint64, err error) {
	b = Bounds{Created: info.Created.UTC(), First: max(from, info.State.FirstSeq, 1), Last: info.State.LastSeq}
	before, ok := continued.Bounds[info.Config.Name]
	if !ok {
		return b, b.First, nil
	}
	reached := continued.Reached[info.Config.Name]
	switch {
	case !before.Created.Equal(b.Created):
		return b, 0, errMadeAnew
	case continued.ByNumber() && b.First > before.First:
		return b, 0, errAgedOut
	}
	return before, max(before.First, reached+1), nil
}

// Bounds are where the replay of each stream begins and ends, by the stream's name.
func (s *Streams) Bounds() map[string]Bounds { return s.bounds }

// Total is how many reports there are at most.
func (s *Streams) Total() uint64 { return s.total }

// Close stops reading. It does not wait for it: a consumer whose server is away stops when
// that is back, or the connection is closed.
func (s *Streams) Close() {
	for _, r := range s.readers {
		if r.stop != nil {
			r.stop()
		}
	}
}

// Next has the contract of [Source].
func (s *Streams) Next(ctx context.Context) (Report, error) {
	var first *reader
	for _, r := range s.readers {
		if err := s.fill(ctx, r); err != nil {
			return Report{}, fmt.Errorf("read stream %s: %w", r.name, err)
		}
		if r.head != nil && (first == nil || r.head.Stored.Before(first.head.Stored)) {
			first = r
		}
	}
	if first == nil {
		return Report{}, io.EOF
	}
	e := *first.head
	first.head = nil
	return newReport(e, first.name, first.partitions), nil
}

// fill waits for the next report of a stream, unless there is none.
func (s *Streams) fill(ctx context.Context, r *reader) error {
	for r.head == nil && r.messages != nil {
		timer := time.NewTimer(silence)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case m := <-r.messages:
			timer.Stop()
			if err := r.take(m); err != nil {
				return err
			}
		case <-timer.C: // All that was to come may be too old by now.
			stream, err := s.js.Stream(ctx, r.name)
			if err == nil && stream.CachedInfo().State.FirstSeq > r.last {
				r.end()
			}
		}
	}
	return nil
}

// reader reads the stream of one partition in a goroutine of its own.
type reader struct {
	name         string
	partitions   int
	last         uint64
	since, until time.Time
	stop         context.CancelFunc
	// messages is nil where nothing more comes.
	messages chan message
	head     *compliance.Envelope
}

type message struct {
	envelope compliance.Envelope
	pending  uint64
	err      error
}

func (r *reader) start(ctx context.Context, from jetstream.MessagesContext) {
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	r.stop, r.messages = stop, make(chan message, ahead)
	go read(background, from, r.messages)
}

// read hands on what comes. Next has no time limit there: with one, the timer that
// notices a silent server never fires.
func read(ctx context.Context, from jetstream.MessagesContext, to chan<- message) {
	defer from.Stop()
	for {
		msg, err := from.Next(jetstream.NextContext(ctx))
		var m message
		if err == nil {
			m, err = messageOf(msg)
		}
		m.err = err
		select {
		case to <- m:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

func messageOf(msg jetstream.Msg) (message, error) {
	at, err := msg.Metadata()
	if err != nil {
		return message{}, err
	}
	return message{pending: at.NumPending, envelope: compliance.Envelope{
		Subject: msg.Subject(), Header: msg.Headers(), Body: msg.Data(), Sequence: at.Sequence.Stream, Stored: at.Timestamp.UTC(),
	}}, nil
}

// take takes a message, or finds that it comes after the last one.
func (r *reader) take(m message) error {
	e := &m.envelope
	if m.err != nil {
		return m.err
	}
	beyond := e.Sequence > r.last || !r.until.IsZero() && e.Stored.After(r.until)
	if beyond || e.Sequence == r.last || m.pending == 0 {
		r.end()
	}
	if !beyond && !e.Stored.Before(r.since) {
		r.head = e
	}
	return nil
}

func (r *reader) end() {
	r.stop()
	r.messages = nil
}
