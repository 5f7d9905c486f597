package spool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"go.etcd.io/bbolt"

	"github.com/complianced/complianced/publisher"
)

// Spool keeps reports on disk until they are accepted. Its methods may be called
// from many goroutines.
type Spool struct {
	dir     string
	opts    Options
	stamper *publisher.Stamper
	lock    *flock.Flock // held from Open to Close

	write  sync.Mutex // guards what follows; held by whoever makes a transaction
	db     *bbolt.DB  // nil after a change that failed, when the file could not be opened again
	update func(*bbolt.DB, func(*bbolt.Tx) error) error
	broken bool // the file was found damaged since Open
	closed bool

	mu      sync.Mutex // guards what follows
	waiters []*request
	settled map[uint64]fate
	doubts  map[uint64]time.Time // since when a server refuses, for a reason that may be its own
	dropped uint64               // the greatest number that was dropped
	in      contents
	damaged string // where a file that cannot be read has gone

	running sync.Mutex // held by Run, and for good by Close
	closing chan struct{}
	once    sync.Once
	// wake holds a token when there may be something new to send.
	wake chan struct{}
}

// Open opens the spool in a folder, and makes it where there is none. A file that
// was cut off by kill -9 or a power failure is as its last transaction left it;
// one that was damaged otherwise and cannot be read is set aside, see
// Stats.Damaged.
func Open(dir string, opts Options) (*Spool, error) {
	if err := opts.validate(); err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	dir = filepath.Clean(dir)
	lock, err := lockFolder(dir)
	if err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	s, err := openLocked(dir, opts.withDefaults(), lock)
	if err != nil {
		return nil, fmt.Errorf("open spool: %w", errors.Join(err, lock.Close()))
	}
	return s, nil
}

func openLocked(dir string, opts Options, lock *flock.Flock) (*Spool, error) {
	db, in, damaged, err := openFile(dir, opts.NoSync)
	if err != nil {
		return nil, err
	}
	stamper, err := publisher.NewStamper(opts.Device, opts.Now, in.state.Last)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	doubts := maps.Clone(in.state.Doubtful)
	if doubts == nil {
		doubts = make(map[uint64]time.Time)
	}
	return &Spool{
		dir: dir, opts: opts, stamper: stamper, lock: lock, damaged: damaged, db: db, update: (*bbolt.DB).Update, in: in,
		settled: make(map[uint64]fate), doubts: doubts,
		closing: make(chan struct{}), wake: make(chan struct{}, 1),
	}, nil
}

// Accepted is what a report was given when it was accepted.
type Accepted struct {
	// EventID and EventTime are what the report is sent with, the time cut to
	// 100 ns and in UTC. They are zero where Outgoing asked for none.
	EventID   string
	EventTime time.Time
}

// Publish accepts a report into the spool: it gets its event id and event time,
// and is on disk when Publish returns without an error (see Options.NoSync). From
// then on it waits until a server takes it, with the same id and time, also after
// any restart. Reports that many goroutines bring at once share one fsync.
//
// After the error of ctx, which is looked at before alone, ErrClosed, or an error
// of the report ([publisher.ErrInvalidKey] and its like) it is not in the spool.
// After an error of the disk it may be: where fsync fails, nobody knows what the
// disk has. Accepted then holds the id and the time: to publish the report again
// with both is safe, because the merge law makes a copy harmless.
func (s *Spool) Publish(ctx context.Context, o publisher.Outgoing) (Accepted, error) {
	own := request{report: &o}
	err := cmp.Or(ctx.Err(), check(o))
	if err == nil {
		err = s.commit(&own)
	}
	if err != nil {
		return own.accepted, fmt.Errorf("spool report: %w", err)
	}
	return own.accepted, nil
}

// Stats are the numbers of a spool. Those of what became of reports count from
// when the file was made. Of all reports that were accepted, each is in exactly
// one of Waiting, Sent, Dropped, Refused and Corrupt.
type Stats struct {
	// Waiting is how many reports are to be sent, and Bytes what they take.
	Waiting int
	Bytes   int64
	// Sent is how many reports a server accepted.
	Sent uint64
	// Dropped is how many reports, the oldest, made way for newer ones.
	Dropped uint64
	// Refused is how many reports a server refused for good.
	Refused uint64
	// Corrupt is how many reports could not be read back.
	Corrupt uint64
	// Damaged is where a file was put that Open, Publish or Run could not read,
	// with all reports that waited in it, and these numbers up to then. It is left
	// to the operator, also to delete it. Empty where there was none.
	Damaged string
}

// Stats returns the numbers, also of a closed spool.
func (s *Spool) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.in
	for _, f := range s.settled { // Those that are still in the file.
		now.count--
		now.bytes -= f.size
		now.state.add(f.what, 1)
	}
	return Stats{
		Waiting: now.count, Bytes: now.bytes, Damaged: s.damaged,
		Sent: now.state.Sent, Dropped: now.state.Dropped, Refused: now.state.Refused, Corrupt: now.state.Corrupt,
	}
}

// Close ends Run and closes the file. What was under way may have been stored;
// it is sent again, with the same id and time, when the spool is opened again.
// Close may be called more than once, and waits each time.
func (s *Spool) Close() error {
	s.once.Do(func() { close(s.closing) })
	s.running.Lock()
	defer s.running.Unlock()
	err := s.commit(&request{})
	s.write.Lock()
	defer s.write.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	if err = errors.Join(err, closeFile(s.db), s.lock.Close()); err != nil {
		return fmt.Errorf("close spool: %w", err)
	}
	return nil
}

// isClosing reports whether Close was called.
func (s *Spool) isClosing() bool {
	select {
	case <-s.closing:
		return true
	default:
		return false
	}
}
