package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"sync"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/metrics"
	"github.com/complianced/complianced/store"
)

// watched tells the metrics whether Redis answers.
type watched struct {
	*store.Redis
	pipeline *metrics.Pipeline
}

// Floors is called about once a second.
func (w watched) Floors(ctx context.Context, buckets []compliance.Bucket) ([]compliance.Floor, error) {
	floors, err := w.Redis.Floors(ctx, buckets)
	w.pipeline.SetRedisConnected(err == nil)
	return floors, err
}

// watchedRead tells the metrics whether Redis answers, and the log why the state
// cannot be read: when that begins, changes and ends, not at each scrape.
type watchedRead struct {
	read     func(context.Context) (metrics.Snapshot, error)
	log      *slog.Logger
	address  string
	pipeline *metrics.Pipeline
	// stopped, where not nil, is closed when the serve ends: from then on a read may
	// fail.
	stopped <-chan struct{}

	mu   sync.Mutex // Guards last.
	last string
}

func (w *watchedRead) call(ctx context.Context) (metrics.Snapshot, error) {
	snapshot, err := w.read(ctx)
	if err == nil && ctx.Err() != nil {
		err = fmt.Errorf("it takes longer than a scrape waits: %w", ctx.Err())
	}
	_, corrupt := errors.AsType[*compliance.CorruptError](err)
	select {
	case <-w.stopped:
		return snapshot, err
	default:
	}
	w.pipeline.SetRedisConnected(err == nil || corrupt)
	w.mu.Lock()
	defer w.mu.Unlock()
	cause := causeOf(err)
	switch {
	case cause == w.last:
	case err != nil:
		w.log.WarnContext(ctx, "the state cannot be read; compliance_state_up is 0", slog.String("address", w.address), slog.Any("error", advise(err)))
	default:
		w.log.InfoContext(ctx, "the state can be read again", slog.String("address", w.address))
	}
	w.last = cause
	return snapshot, err
}

// numbers are what differs between errors with one cause: the port of a connection,
// the bucket that was asked first.
var numbers = regexp.MustCompile(`[0-9]+|bucket [0-9a-f]{2}`)

// causeOf is empty without an error.
func causeOf(err error) string {
	if err == nil {
		return ""
	}
	return numbers.ReplaceAllString(err.Error(), "#")
}
