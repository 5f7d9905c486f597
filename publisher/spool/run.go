package spool

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sync/errgroup"

	"github.com/complianced/complianced/publisher"
	"github.com/complianced/complianced/publisher/internal/backoff"
)

const (
	// batch is how many reports are read at once, and how many are settled at most
	// before they are taken out of the file.
	batch = 256
	// settleDelay is how long what is settled may wait to be taken out of the
	// file with the next report.
	settleDelay = 200 * time.Millisecond
	// retryWait and retryWaitMax bound the pauses of reports that a server
	// refuses; those of all others are the publisher's.
	retryWait    = 100 * time.Millisecond
	retryWaitMax = 5 * time.Second
)

// entry is a report that waits.
type entry struct {
	number  uint64
	size    int64
	report  publisher.Outgoing
	corrupt bool // it cannot be read back
}

// Run sends what is in the spool and what comes into it, the oldest first, until
// ctx ends or the spool is closed, and then returns the error of ctx or
// ErrClosed. While no server takes reports it waits. It also ends with
// [publisher.ErrClosed] when p is closed, with ErrOtherDevice when p is not for the
// device of a report, and with an error of the disk. What was not sent stays. Only
// one Run at a time.
func (s *Spool) Run(ctx context.Context, p *publisher.Publisher) error {
	if s.isClosing() {
		return fmt.Errorf("send spool: %w", ErrClosed)
	}
	if !s.running.TryLock() {
		return fmt.Errorf("send spool: %w", ErrRunning)
	}
	defer s.running.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-s.closing:
			cancel()
		case <-stop:
		}
	}()
	err := s.run(ctx, p)
	close(stop)
	<-ended
	return fmt.Errorf("send spool: %w", errors.Join(err, s.commit(&request{})))
}

func (s *Spool) run(ctx context.Context, p *publisher.Publisher) error {
	var last uint64
	for {
		entries, err := s.read(last)
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			if err := s.idle(ctx); err != nil {
				return err
			}
			continue
		}
		if err := s.send(ctx, p, entries); err != nil {
			return err
		}
		last = entries[len(entries)-1].number
	}
}

// ended says why ctx of Run ended; nil where it did not.
func (s *Spool) ended(ctx context.Context) error {
	err := ctx.Err()
	if err != nil && s.isClosing() {
		return ErrClosed
	}
	return err
}

// idle waits for a report to come. What is settled is taken out meanwhile.
func (s *Spool) idle(ctx context.Context) error {
	timer := time.NewTimer(settleDelay)
	defer timer.Stop()
	select {
	case <-s.wake:
		return nil
	case <-ctx.Done():
		return s.ended(ctx)
	case <-timer.C:
	}
	if err := s.commit(&request{}); err != nil {
		return err
	}
	select {
	case <-s.wake:
		return nil
	case <-ctx.Done():
		return s.ended(ctx)
	}
}

// read returns the oldest entries after a number, at most batch of them.
func (s *Spool) read(last uint64) (entries []entry, err error) {
	s.write.Lock()
	defer s.write.Unlock()
	if err := s.ready(); err != nil {
		return nil, err
	}
	err = guard(func() error {
		return s.db.View(func(tx *bbolt.Tx) error {
			cursor := tx.Bucket(entriesBucket).Cursor()
			for key, value := cursor.Seek(keyOf(last + 1)); key != nil && len(entries) < batch; key, value = cursor.Next() {
				report, err := decode(key, value)
				entries = append(entries, entry{number(key), size(value), report, err != nil})
			}
			return nil
		})
	})
	if err != nil {
		return nil, s.failed(err)
	}
	return entries, nil
}

func (s *Spool) send(ctx context.Context, p *publisher.Publisher, entries []entry) error {
	group, one := errgroup.WithContext(ctx)
	group.SetLimit(s.opts.InFlight)
	for _, e := range entries {
		if one.Err() != nil {
			break
		}
		group.Go(func() error { return s.deliver(one, p, e) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return s.ended(ctx)
}

// deliver tries until the entry is settled. An error is one of ctx, the publisher
// or the disk.
func (s *Spool) deliver(ctx context.Context, p *publisher.Publisher, e entry) error {
	if e.corrupt {
		return s.settle(e, corrupt)
	}
	for n := 1; ; n++ {
		_, err := p.Publish(ctx, e.report)
		switch {
		case err == nil:
			return s.settle(e, sent)
		case ctx.Err() != nil:
			return s.ended(ctx)
		case errors.Is(err, publisher.ErrClosed):
			return err
		case errors.Is(err, publisher.ErrInvalidKey): // It was right when it was accepted.
			return ErrOtherDevice
		}
		over, failed := s.isOver(e, err)
		if over || failed != nil {
			return failed
		}
		if err := s.pause(ctx, n); err != nil {
			return err
		}
	}
}

// isOver reports whether an entry is not to be tried again after an error. It
// settles one that is refused for good.
func (s *Spool) isOver(e entry, err error) (bool, error) {
	finding := judge(err)
	if finding == doubtful {
		since, err := s.doubt(e)
		if err != nil {
			return false, err
		}
		if time.Since(since) >= s.opts.GiveUpAfter {
			finding = refused
		}
	}
	if s.isDropped(e) {
		return true, nil
	}
	if finding == refused {
		s.opts.OnRefused(e.report, err)
		return true, s.settle(e, refusedForGood)
	}
	return false, nil
}

func (s *Spool) pause(ctx context.Context, n int) error {
	timer := time.NewTimer(backoff.Pause(n, retryWait, retryWaitMax))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return s.ended(ctx)
	}
}
