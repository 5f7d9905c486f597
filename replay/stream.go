package replay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/compliance"
)

const (
	// fetchReports is how many reports are asked for at a time; as many are read before
	// they are asked for. They are few, because what is live waits behind them.
	fetchReports = 300
	// fetchWait is how long the server may take for them.
	fetchWait = 5 * time.Second
	// inactive is when the server forgets a consumer that nobody reads.
	inactive = 30 * time.Second
	// pauseWait is the pause before the server is asked again that did not answer, and
	// maxFailures how often it may answer with an error.
	pauseWait   = time.Second
	maxFailures = 5
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
	r := &reader{
		js: s.js, name: name, partitions: partitions, next: first, last: b.Last, created: info.Created,
		until: s.selection.Until, since: s.selection.Since,
	}
	if first > b.Last {
		return r, nil
	}
	if since := s.selection.Since; !since.IsZero() && first == b.First && s.selection.From == 0 {
		r.next = 0
	}
	if err := r.consume(ctx); err != nil {
		return nil, err
	}
	s.total += min(r.consumer.CachedInfo().NumPending, b.Last-first+1)
	if r.next > 0 || !info.State.LastTime.Before(r.since) {
		r.fetch(ctx)
	}
	return r, nil
}

var (
	errMadeAnew = errors.New("it was made anew or set back since the replay began, so that this cannot be continued; begin again without --resume")
	errSilent   = fmt.Errorf("the server has more reports, and sends none in %d tries of %s; is the network slow?", maxFailures, fetchWait)
)

// boundsOf returns the bounds of the replay of a stream, and where this run begins.
func boundsOf(info *jetstream.StreamInfo, from uint64, continued Position) (b Bounds, first uint64, err error) {
	b = Bounds{Created: info.Created.UTC(), First: max(from, info.State.FirstSeq, 1), Last: info.State.LastSeq}
	before, ok := continued.Bounds[info.Config.Name]
	if !ok {
		return b, b.First, nil
	}
	reached := continued.Reached[info.Config.Name]
	if !before.Created.Equal(b.Created) || b.Last < before.Last {
		return b, 0, errMadeAnew
	}
	return before, max(before.First, reached+1), nil
}

// Bounds are where the replay of each stream begins and ends, by the stream's name.
func (s *Streams) Bounds() map[string]Bounds { return s.bounds }

// Total is how many reports there are at most.
func (s *Streams) Total() uint64 { return s.total }

// Gone is how many reports the streams have lost, by their age for example, since the
// replay began and before they were read.
func (s *Streams) Gone() (n uint64) {
	for _, r := range s.readers {
		n += r.gone
	}
	return n
}

// Close waits until nothing is read any more.
func (s *Streams) Close() {
	for _, r := range s.readers {
		r.end()
	}
}

// Next has the contract of [Source].
func (s *Streams) Next(ctx context.Context) (Report, error) {
	var first *reader
	for _, r := range s.readers {
		if err := s.fill(ctx, r); err != nil {
			return Report{}, fmt.Errorf("read stream %s: %w", r.name, err)
		}
		if len(r.queue) > 0 && (first == nil || r.queue[0].Stored.Before(first.queue[0].Stored)) {
			first = r
		}
	}
	if first == nil {
		return Report{}, io.EOF
	}
	e := first.queue[0]
	first.queue = first.queue[1:]
	return newReport(e, first.name, first.partitions), nil
}

// fill waits for the next report of a stream, unless there is none.
func (s *Streams) fill(ctx context.Context, r *reader) error {
	for len(r.queue) == 0 && r.coming != nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case f := <-r.coming:
			r.coming = nil
			if err := r.take(ctx, f); err != nil {
				return err
			}
		}
	}
	return nil
}

// reader reads the stream of one partition, and what comes next while the others are
// asked for.
type reader struct {
	js           jetstream.JetStream
	name         string
	partitions   int
	since, until time.Time
	// next is the first sequence that was not read; 0 is the first one since. The last
	// one is that of the replay.
	next, last uint64
	// created is when the stream was made, gone how many of its reports it has lost before
	// they were read.
	created time.Time
	gone    uint64
	// consumer is nil where it has to be made anew.
	consumer jetstream.Consumer
	// coming is what is being read; nil where nothing more comes.
	coming   chan fetched
	stop     context.CancelFunc
	queue    []compliance.Envelope
	failures int
}

// fetched are messages that follow each other.
type fetched struct {
	messages []compliance.Envelope
	// ended says that none follows, broken that the consumer has not sent what follows, or
	// that it did not come.
	ended, broken bool
	err           error
}

// consume makes the consumer.
func (r *reader) consume(ctx context.Context) (err error) {
	config := jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: r.next, InactiveThreshold: inactive, MaxResetAttempts: 1,
	}
	if r.next == 0 {
		config.DeliverPolicy, config.OptStartTime = jetstream.DeliverByStartTimePolicy, &r.since
	}
	r.consumer, err = r.js.OrderedConsumer(ctx, r.name, config)
	return err
}

// fetch begins to read what comes next. It outlives ctx, so that what was read is not
// lost, and ends with the reader.
func (r *reader) fetch(ctx context.Context) {
	ctx, r.stop = context.WithTimeout(context.WithoutCancel(ctx), fetchWait)
	coming, consumer, last, stop := make(chan fetched, 1), r.consumer, r.last, r.stop
	r.coming = coming
	go func() {
		defer stop()
		coming <- fetch(ctx, consumer, last)
	}()
}

func fetch(ctx context.Context, consumer jetstream.Consumer, last uint64) (f fetched) {
	batch, err := consumer.Fetch(fetchReports, jetstream.FetchContext(ctx))
	if err != nil {
		return fetched{err: err}
	}
	for msg := range batch.Messages() {
		at, err := msg.Metadata()
		if err != nil {
			return fetched{err: err}
		}
		// Each fetch has a server's consumer of its own, which numbers what it sends: what is
		// missing was lost on its way, over a connection that broke for example.
		if f.broken = at.Sequence.Consumer != uint64(len(f.messages))+1; f.broken {
			return f
		}
		f.messages = append(f.messages, compliance.Envelope{
			Subject: msg.Subject(), Header: msg.Headers(), Body: msg.Data(), Sequence: at.Sequence.Stream, Stored: at.Timestamp.UTC(),
		})
		f.ended = at.Sequence.Stream >= last
		f.broken = at.NumPending == 0 && !f.ended
		if f.ended || f.broken {
			return f
		}
	}
	if f.err = batch.Error(); errors.Is(f.err, context.DeadlineExceeded) {
		f.err = nil // That they are not as many as were asked for is none.
	}
	return f
}

// take takes what was read, and has more read where there is more.
func (r *reader) take(ctx context.Context, f fetched) error {
	for _, e := range f.messages {
		r.miss(min(e.Sequence, r.last+1))
		if e.Sequence > r.last || !r.until.IsZero() && e.Stored.After(r.until) {
			f.ended = true
			break
		}
		r.next = e.Sequence + 1
		if !e.Stored.Before(r.since) {
			r.queue = append(r.queue, e)
		}
	}
	if len(f.messages) > 0 {
		r.failures = 0
	}
	switch {
	case f.ended:
		return nil
	case f.err != nil || f.broken || len(f.messages) == 0:
		return r.recover(ctx, f.err)
	}
	r.fetch(ctx)
	return nil
}

// miss notes that the next report which is there, or the end, is at this sequence.
func (r *reader) miss(at uint64) {
	if r.next > 0 && at > r.next {
		r.gone += at - r.next
		r.next = at
	}
}

// recover goes on after nothing came: for as long as the server is away, and where the
// stream still has what is to come.
func (r *reader) recover(ctx context.Context, failed error) error {
	for {
		look, cancel := context.WithTimeout(ctx, fetchWait)
		stream, err := r.js.Stream(look, r.name)
		if err == nil {
			r.failures++
			err = r.again(look, stream)
		}
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errGone):
			r.miss(r.last + 1)
			return nil
		case err == nil && r.failures < maxFailures:
			r.fetch(ctx)
			return nil
		case errors.Is(err, jetstream.ErrStreamNotFound), errors.Is(err, errMadeAnew), errors.Is(err, nats.ErrConnectionClosed):
			return err
		case r.failures >= maxFailures:
			return errors.Join(cmp.Or(failed, errSilent), err)
		}
		timer := time.NewTimer(pauseWait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// errGone says that all that was to come is gone.
var errGone = errors.New("all is gone")

// again makes the consumer anew. The error is errGone where nothing comes any more.
func (r *reader) again(ctx context.Context, stream jetstream.Stream) error {
	info := stream.CachedInfo()
	if !info.Created.Equal(r.created) || info.State.LastSeq < r.last {
		return errMadeAnew
	}
	if err := r.consume(ctx); err != nil || r.consumer.CachedInfo().NumPending > 0 {
		return err
	}
	// Its replica may be behind.
	_, err := stream.GetMsg(ctx, max(r.next, 1), jetstream.WithGetMsgSubject(">"))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return errGone
	}
	return err
}

// end stops what is being read, and lets it go.
func (r *reader) end() {
	if r.coming != nil {
		r.stop()
		<-r.coming
	}
	r.coming, r.queue = nil, nil
}
