package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/compliance"
)

// Load sends the reports of a fleet.
type Load struct {
	// Fleet is who reports. Its Start defaults to now, its Rate is kept to: where
	// the load was held up it catches up.
	Fleet Options
	// Duration is how long to go on. Reports that then wait for their turn are not
	// sent. Defaults to 0: until the context ends.
	Duration time.Duration
	// Reports is how many to send, duplicates included; whichever of Duration and
	// Reports ends first counts. Defaults to 0: no limit.
	Reports uint64
	// Journal takes a line for every report that is accepted, in the form that
	// [ReadJournal] reads. It is written to as PubAcks arrive, once a second at
	// least. Defaults to none.
	Journal io.Writer
	// Log is told when reports are not accepted, and when they are again. Defaults
	// to none.
	Log *slog.Logger
	// MaxPending is how many reports wait for their PubAck at once. Defaults to 2,000.
	MaxPending int
}

// Summary is what a load did.
type Summary struct {
	// Sent is how many reports were sent, each counted once however often it was
	// tried. Every one of them is either Accepted or Failed.
	Sent uint64 `json:"sent"`
	// Accepted is how many have a PubAck that is not marked duplicate.
	Accepted uint64 `json:"accepted"`
	// Failed is how many have none. They may be stored or not.
	Failed uint64 `json:"failed"`
	// Of those sent, Duplicates were so for the second time, Bad break a rule, and
	// so on.
	Duplicates uint64 `json:"duplicates"`
	Bad        uint64 `json:"bad"`
	Partial    uint64 `json:"partial"`
	Removed    uint64 `json:"removed"`
	Late       uint64 `json:"late"`
	Reordered  uint64 `json:"reordered"`
	// Retries is how many attempts there were beyond the first.
	Retries uint64 `json:"retries"`
	// Seconds is how long it took, Rate how many reports were accepted a second.
	Seconds float64 `json:"seconds"`
	Rate    float64 `json:"rate"`
}

func (s *Summary) count(r *Report) {
	s.Sent++
	for _, c := range []struct {
		is bool
		n  *uint64
	}{
		{r.Duplicate, &s.Duplicates},
		{r.Kind == Bad, &s.Bad},
		{r.Kind == Partial, &s.Partial},
		{r.Kind == Removal, &s.Removed},
		{r.Late, &s.Late},
		{r.Reordered, &s.Reordered},
	} {
		if c.is {
			*c.n++
		}
	}
}

// ErrUnsent says that reports are not accepted at the end of a load.
var ErrUnsent = errors.New("reports were not accepted")

// Message returns the report as it is published.
func (r *Report) Message() *nats.Msg {
	return &nats.Msg{
		Subject: r.Subject,
		Header: nats.Header{
			compliance.HeaderEventID:   {r.EventID},
			compliance.HeaderEventTime: {compliance.FormatStored(r.Time)},
		},
		Data: r.Body,
	}
}

const (
	// ackTimeout is how long an attempt waits for its PubAck.
	ackTimeout = 3 * time.Second
	// settleTime is how long the end of a load waits for what is under way.
	settleTime = 5 * time.Second
	// minPause keeps the number of timers low where reports are less far apart.
	minPause = time.Millisecond
)

// Run sends reports until the duration is over, all are sent, or ctx ends, and then
// waits for those under way. A report that is not accepted is tried again, the same
// with the same id, for as long as the load lasts, and goes before new ones. At most
// MaxPending reports are under way, those that are tried again included.
// The first report waits for nc to be connected, and the duration with it.
//
// The error is [ErrUnsent] where reports are not accepted at the end, or what makes
// going on impossible: options that are wrong, a journal that cannot be written, a
// connection that is closed. The end of ctx is none. The summary is right with an
// error, too.
func (l Load) Run(ctx context.Context, nc *nats.Conn) (Summary, error) {
	if err := l.Fleet.Validate(); err != nil {
		return Summary{}, err
	}
	l = l.withDefaults()
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(l.MaxPending+1),
		jetstream.WithPublishAsyncTimeout(ackTimeout))
	if err != nil {
		return Summary{}, err
	}
	connected := func(ctx context.Context) error { return waitConnected(ctx, nc) }
	if err := connected(ctx); err != nil {
		return Summary{}, ended(ctx, err)
	}
	return l.run(ctx, connected, js)
}

func (l Load) withDefaults() Load {
	if l.MaxPending == 0 {
		l.MaxPending = 2000
	}
	if l.Log == nil {
		l.Log = slog.New(slog.DiscardHandler)
	}
	return l
}

// run is Run on whatever publishes.
func (l Load) run(ctx context.Context, connected func(context.Context) error, js publisher) (Summary, error) {
	began := time.Now()
	if l.Fleet.Start.IsZero() {
		l.Fleet.Start = began
	}
	s := newSender(l, connected, js)
	making, stop := context.WithCancel(ctx)
	defer stop()
	if l.Duration > 0 {
		timed, cancel := context.WithDeadline(making, began.Add(l.Duration))
		defer cancel()
		making = timed
	}
	collecting, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	collected := make(chan error, 1)
	go func() {
		err := s.collect(collecting)
		stop() // Where the journal cannot be written there is no sense in going on.
		giveUp()
		collected <- err
	}()
	err := ended(making, s.produce(making, New(l.Fleet), began))
	if err == nil {
		settling, cancel := context.WithTimeout(collecting, settleTime)
		defer cancel()
		err = ended(settling, s.settle(settling))
	}
	giveUp()
	close(s.pending)
	err = errors.Join(err, <-collected)
	summary := s.summary
	summary.Accepted = s.accepted
	summary.Failed = summary.Sent - summary.Accepted
	took := time.Since(began).Seconds()
	summary.Seconds, summary.Rate = took, float64(summary.Accepted)/took
	if summary.Failed > 0 && err == nil {
		err = s.unsent(summary.Failed)
	}
	return summary, err
}

func waitConnected(ctx context.Context, nc *nats.Conn) error {
	if nc.IsConnected() {
		return nil
	}
	changed := nc.StatusChanged(nats.CONNECTED, nats.CLOSED)
	defer nc.RemoveStatusListener(changed)
	for !nc.IsConnected() {
		if nc.IsClosed() {
			return nats.ErrConnectionClosed
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// ended returns nil where err is only that the context has ended.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// unsent is the error for reports that are not accepted, with the last reason.
func (s *sender) unsent(n uint64) error {
	if s.last == nil {
		return fmt.Errorf("%d %w", n, ErrUnsent)
	}
	return fmt.Errorf("%d %w: %w", n, ErrUnsent, s.last)
}
