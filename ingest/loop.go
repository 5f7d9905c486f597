package ingest

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/complianced/complianced/compliance"
)

// Options of a loop. The zero value reads the only partition of an unprovisioned
// layout and is refused; Layout must be set.
type Options struct {
	Layout compliance.Layout
	// Partition is the one to read, from 0.
	Partition int
	// Allow are the policies to take. Defaults to all.
	Allow compliance.Patterns
	// Concurrency is how many buckets are under way at once. Defaults to 4.
	Concurrency int
	// LookEvery is how often floors and stream are compared with what is expected.
	// Defaults to one second.
	LookEvery time.Duration
	// StopWithin is how long the batch in hand and the last floors may take once
	// the loop is to stop. Defaults to 10 s.
	StopWithin time.Duration
	// Backoff is the wait after the first error in a row; it doubles up to 20
	// times that. A stream that seems to be rolled back is looked at again after 10
	// times that. Defaults to 100 ms.
	Backoff time.Duration
	// Now is the clock, which decides nothing but whether a result is still worth
	// sending, what a latency is, and when a gap was seen. Defaults to time.Now.
	Now func() time.Time
	// Logger gets alarms and errors. Defaults to none.
	Logger *slog.Logger
	// Observer hears what happens. Defaults to nobody.
	Observer Observer
}

func (o Options) withDefaults() Options {
	if o.Concurrency <= 0 {
		o.Concurrency = 4
	}
	if o.LookEvery <= 0 {
		o.LookEvery = time.Second
	}
	if o.StopWithin <= 0 {
		o.StopWithin = 10 * time.Second
	}
	if o.Backoff <= 0 {
		o.Backoff = 100 * time.Millisecond
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Observer == nil {
		o.Observer = nobody{}
	}
	return o
}

// nobody is the observer that does not look.
type nobody struct{}

func (nobody) ObserveBatch(int, time.Duration)                {}
func (nobody) ObserveEffect(compliance.Effect, time.Duration) {}
func (nobody) ObserveRejected(compliance.Code)                {}
func (nobody) ObserveRewind(string)                           {}

// Loop merges the reports of one partition. It owns the expected floors of its
// buckets. Any number of loops may run for a partition, in any process: the
// floors fence them off from each other.
type Loop struct {
	source  Source
	store   Store
	outlet  Outlet
	options Options
	rules   compliance.Rules
	buckets []compliance.Bucket

	// stream is what the loop takes the stream to be; zero before the first look.
	stream StreamInfo
	// floors are the expected floors, one for each of buckets, once settled.
	floors  []compliance.Floor
	settled bool
	// whole has, for each of buckets, the last report whose transaction writes values
	// also where they are there; see writesWhole.
	whole []uint64
	// connections is how many the store had made when whole was set for them.
	connections uint64
	// corrupt are the buckets in which a key was found corrupt.
	corrupt map[compliance.Bucket]bool
	// next is the sequence that the reader has to bring next.
	next uint64
	// done is the end of the last batch up to which all is merged or buried.
	done position
	// buried and replied are up to where dead letters are kept and results sent.
	buried  uint64
	replied position
	// instance is the consumer whose continuity was looked at.
	instance string
	// lost says that the reader does not stand where the floors are.
	lost bool
	// idle says that the reader had nothing in hand before this look.
	idle   bool
	looked time.Time

	writer string
	writes uint64

	decoded []decoded
	groups  [][]*compliance.Report
}

// position is a report's place in the stream.
type position struct {
	sequence uint64
	stored   time.Time
}

// NewLoop returns a loop. The error is [compliance.ErrLayout] or one of a
// malformed policy pattern.
func NewLoop(source Source, store Store, outlet Outlet, options Options) (*Loop, error) {
	if err := options.Layout.Validate(); err != nil {
		return nil, err
	}
	if options.Partition < 0 || options.Partition >= options.Layout.Partitions {
		return nil, compliance.ErrLayout
	}
	if err := options.Allow.Validate(); err != nil {
		return nil, err
	}
	buckets := options.Layout.BucketsOf(options.Partition)
	return &Loop{
		source:  source,
		store:   store,
		outlet:  outlet,
		options: options.withDefaults(),
		rules: compliance.Rules{
			Partitions: options.Layout.Partitions,
			Partition:  options.Partition,
			Allow:      options.Allow,
		},
		buckets: buckets,
		corrupt: map[compliance.Bucket]bool{},
		writer:  uuid.NewString()[:8],
		lost:    true,
		floors:  make([]compliance.Floor, len(buckets)),
		whole:   make([]uint64, len(buckets)),
		groups:  make([][]*compliance.Report, len(buckets)),
	}, nil
}

// Run merges reports until the context ends, and then finishes the batch in
// hand. It waits for servers that are away; its error is never that of one. A
// source that has a method Close is closed at the end.
func (l *Loop) Run(ctx context.Context) error {
	if source, ok := l.source.(interface{ Close() }); ok {
		defer source.Close()
	}
	work, cancel := l.finishing(ctx)
	defer cancel()
	for failures := 0; ctx.Err() == nil; {
		if err := l.step(ctx); err == nil {
			failures = 0
		} else if ctx.Err() == nil {
			failures++
			l.holdUp(ctx, err, failures)
		}
	}
	// The floors of buckets without traffic too: what the stream loses while
	// nobody reads it is no gap where it is merged.
	if err := l.moveUp(work); err != nil {
		l.options.Logger.LogAttrs(ctx, slog.LevelWarn, "some floors stay behind what is merged",
			slog.Int("partition", l.options.Partition), slog.Any("error", err))
	}
	return nil
}

// holdUp waits after an error, longer each time in a row. Wherever it broke off,
// the floors say from where to go on.
func (l *Loop) holdUp(ctx context.Context, err error, failures int) {
	l.lost = true
	wait := min(l.options.Backoff<<min(failures-1, 10), 20*l.options.Backoff)
	l.options.Logger.LogAttrs(ctx, slog.LevelWarn, "ingest is held up and tries again",
		slog.Int("partition", l.options.Partition), slog.Any("error", err), slog.Duration("wait", wait))
	sleep(ctx, wait)
}

func sleep(ctx context.Context, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// step looks at floors and stream where that is due, and merges one batch.
func (l *Loop) step(ctx context.Context) error {
	if l.lost || time.Since(l.looked) >= l.options.LookEvery {
		if err := l.look(ctx); err != nil {
			return err
		}
	}
	if l.lost {
		if err := l.seek(ctx); err != nil {
			return err
		}
	}
	batch, err := l.wait(ctx)
	if l.idle = err == nil && len(batch.Envelopes) == 0; l.idle || err != nil {
		return err
	}
	if batch.Instance != l.instance {
		if err := l.look(ctx); err != nil || l.lost {
			return err
		}
		l.instance = batch.Instance
	}
	return l.take(ctx, batch.Envelopes)
}

// wait returns the next batch, or an empty one when it is time to look.
func (l *Loop) wait(ctx context.Context) (Batch, error) {
	until, cancel := context.WithDeadline(ctx, l.looked.Add(l.options.LookEvery))
	defer cancel()
	batch, err := l.source.Next(until)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil && until.Err() != nil {
		return Batch{}, nil
	}
	return batch, err
}

// covers tells whether a report at q was there when the stream had come to p. One
// that was made anew or rolled back gives its sequences out again, and later.
func (p position) covers(q position) bool {
	return q.sequence <= p.sequence && !q.stored.After(p.stored)
}

func positionOf(e *compliance.Envelope) position { return position{e.Sequence, e.Stored} }

// lowest returns where the lowest floor is.
func (l *Loop) lowest() position {
	floor := slices.MinFunc(l.floors, func(a, b compliance.Floor) int { return cmp.Compare(a.Sequence, b.Sequence) })
	return position{floor.Sequence, floor.Stored}
}

// seek puts the reader where the lowest floor is.
func (l *Loop) seek(ctx context.Context) error {
	next := max(l.lowest().sequence+1, l.stream.First)
	if err := l.source.Seek(ctx, next); err != nil {
		return err
	}
	l.next, l.instance, l.lost = next, "", false
	return nil
}

// take merges reports that follow each other, and passes the gaps between them.
func (l *Loop) take(ctx context.Context, envelopes []compliance.Envelope) error {
	for len(envelopes) > 0 && !l.lost {
		if envelopes[0].Sequence < l.next {
			envelopes = envelopes[1:]
			continue
		}
		n := 0
		for n < len(envelopes) && envelopes[n].Sequence == l.next+uint64(n) {
			n++
		}
		if n == 0 {
			// Reports are missing. Before this counts as a gap, the stream must
			// still be the one that was read.
			if err := l.look(ctx); err != nil || l.lost {
				return err
			}
			if err := l.pass(ctx, envelopes[0].Sequence-1); err != nil {
				return err
			}
			continue
		}
		if err := l.process(ctx, envelopes[:n]); err != nil {
			return err
		}
		l.next += uint64(n)
		envelopes = envelopes[n:]
	}
	return nil
}

// floor returns the floor that a transaction is to leave behind.
func (l *Loop) floor(at position) compliance.Floor {
	l.writes++
	return compliance.Floor{
		Stream:   l.stream.Stream,
		Created:  l.stream.Created,
		Sequence: at.sequence,
		Stored:   at.stored,
		Layout:   l.options.Layout,
		Write:    l.writer + "-" + strconv.FormatUint(l.writes, 36),
	}
}

// wrote tells whether a transaction of this loop left the floor.
func (l *Loop) wrote(floor compliance.Floor) bool {
	return strings.HasPrefix(floor.Write, l.writer+"-")
}
