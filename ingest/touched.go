package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/compliance"
)

// Touched tells which records the reports between two floors concern, for a check of
// the sink while reports are merged. It reads no bodies, and goes on from where it is
// where the next question begins there. It is used by one goroutine.
type Touched struct {
	js     jetstream.JetStream
	layout compliance.Layout

	source    *JetStream
	partition int
	// at is the sequence up to which reports were taken from the source, and pending
	// what it has brought beyond it.
	at      uint64
	pending []compliance.Envelope
}

// NewTouched returns one for the streams of a layout.
func NewTouched(js jetstream.JetStream, layout compliance.Layout) *Touched {
	return &Touched{js: js, layout: layout}
}

// touchedTimeout is how long a report that a floor covers may take to come.
const touchedTimeout = 10 * time.Second

// ErrTouched says that the stream does not hold all reports between two floors.
var ErrTouched = errors.New("the stream has lost reports that were merged a moment ago")

// Between returns the records of a bucket that the reports after one floor up to
// another concern, in their order. The error is [ErrTouched] where the stream does not
// hold one of them any more.
func (t *Touched) Between(ctx context.Context, b compliance.Bucket, from, to compliance.Floor) ([]compliance.Key, error) {
	ctx, cancel := context.WithTimeout(ctx, touchedTimeout)
	defer cancel()
	partition := int(b) % t.layout.Partitions
	if t.source == nil || partition != t.partition || t.at != from.Sequence {
		t.Close()
		source := NewJetStream(t.js, StreamName(t.layout, partition))
		source.headersOnly = true
		if err := source.Seek(ctx, from.Sequence+1); err != nil {
			return nil, err
		}
		t.source, t.partition, t.at = source, partition, from.Sequence
	}
	var keys []compliance.Key
	for t.at < to.Sequence {
		e, err := t.next(ctx)
		if err != nil {
			t.Close()
			return nil, fmt.Errorf("read what reports concern: %w", err)
		}
		if key, _, err := compliance.ParseSubject(e.Subject); err == nil && t.layout.BucketOf(key.Device) == b {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

// next returns the report after the last.
func (t *Touched) next(ctx context.Context) (*compliance.Envelope, error) {
	if len(t.pending) == 0 {
		batch, err := t.source.Next(ctx)
		if err != nil {
			return nil, err
		}
		t.pending = batch.Envelopes
	}
	e := &t.pending[0]
	if e.Sequence != t.at+1 {
		return nil, ErrTouched
	}
	t.pending, t.at = t.pending[1:], e.Sequence
	return e, nil
}

// Close stops reading.
func (t *Touched) Close() {
	if t.source != nil {
		t.source.Close()
	}
	t.source, t.pending = nil, nil
}
