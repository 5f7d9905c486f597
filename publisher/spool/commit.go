package spool

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"github.com/complianced/complianced/publisher"
)

// outcome is what became of a report that is no longer to be sent.
type outcome int

const (
	sent outcome = iota
	dropped
	refusedForGood
	corrupt
)

// add counts what became of reports.
func (s *state) add(what outcome, n uint64) {
	switch what {
	case sent:
		s.Sent += n
	case dropped:
		s.Dropped += n
	case refusedForGood:
		s.Refused += n
	case corrupt:
		s.Corrupt += n
	}
}

// fate is the outcome of an entry that is still in the file.
type fate struct {
	what outcome
	size int64
}

// request asks for a transaction: with a report to accept, or none, only for what
// is settled to be taken out.
type request struct {
	report   *publisher.Outgoing
	accepted Accepted
	done     bool
	err      error
}

// commit makes a transaction with a request and all others that came meanwhile.
// Who is first does the work of those behind.
func (s *Spool) commit(own *request) error {
	s.mu.Lock()
	s.waiters = append(s.waiters, own)
	s.mu.Unlock()
	s.write.Lock()
	defer s.write.Unlock()
	for !own.done {
		s.serve(s.next())
	}
	return own.err
}

// next takes the requests of one transaction out of the queue, the first ones. What
// has to go for their reports goes in the same one, but gives room to the next
// only, so that the file grows by what they take: a small part of MaxBytes.
func (s *Spool) next() (batch []*request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n, bytes := 0, 0
	for ; n < len(s.waiters) && int64(bytes) < s.opts.MaxBytes/16; n++ {
		bytes += s.waiters[n].size()
	}
	batch = slices.Clone(s.waiters[:n])
	s.waiters = slices.Delete(s.waiters, 0, n)
	return batch
}

// size is about how many bytes the report takes.
func (r *request) size() (n int) {
	if r.report == nil {
		return 0
	}
	for name, values := range r.report.Header {
		n += len(name) + len(strings.Join(values, ""))
	}
	return n + len(r.report.Body)
}

// serve makes one transaction for a batch, and answers each request.
func (s *Spool) serve(batch []*request) {
	err := errPanicked
	defer func() {
		for _, r := range batch {
			r.err, r.done = cmp.Or(r.err, err), true
		}
	}()
	err = s.apply(batch)
}

// errPanicked is the error of those whose transaction another caller began, whom
// a panic took out of it.
var errPanicked = errors.New("another caller panicked, in Options.Now perhaps; publish the report again")

func (s *Spool) apply(batch []*request) error {
	if s.closed {
		return ErrClosed
	}
	reports := s.stamp(batch)
	if err := s.ready(); err != nil {
		return err
	}
	s.mu.Lock()
	c := change{in: s.in, settled: maps.Clone(s.settled), doubts: maps.Clone(s.doubts), reports: reports, maxBytes: s.opts.MaxBytes}
	s.mu.Unlock()
	c.in.state.Last = s.stamper.Last()
	if len(c.reports) == 0 && len(c.settled) == 0 && len(c.doubts) == len(c.in.state.Doubtful) {
		return nil
	}
	if err := guard(func() error { return s.update(s.db, c.write) }); err != nil {
		return s.failed(err)
	}
	s.took(c)
	return nil
}

func (s *Spool) stamp(batch []*request) (reports []publisher.Outgoing) {
	for _, r := range batch {
		if r.report == nil {
			continue
		}
		stamped, err := s.stamper.Stamp(*r.report)
		if r.err = err; err == nil {
			r.accepted = Accepted{stamped.EventID, stamped.EventTime}
			reports = append(reports, stamped)
		}
	}
	return reports
}

// took makes a change that is on disk the one that is seen.
func (s *Spool) took(c change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.in, s.dropped = c.in, max(s.dropped, c.dropped)
	gone := func(n uint64) bool {
		_, written := c.settled[n]
		return written || n <= s.dropped
	}
	maps.DeleteFunc(s.settled, func(n uint64, _ fate) bool { return gone(n) })
	maps.DeleteFunc(s.doubts, func(n uint64, _ time.Time) bool { return gone(n) })
	if len(c.reports) > 0 {
		s.wakeUp()
	}
}

// wakeUp tells Run that there may be something new.
func (s *Spool) wakeUp() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// settle notes the outcome of an entry. A later transaction takes it out: the next
// one for a report, or one of its own when a batch is settled.
func (s *Spool) settle(e entry, what outcome) error {
	s.mu.Lock()
	if e.number > s.dropped {
		s.settled[e.number] = fate{what, e.size}
	}
	full := len(s.settled) >= batch
	s.mu.Unlock()
	if full {
		return s.commit(&request{})
	}
	return nil
}

// doubt returns since when a server gives doubtful answers to an entry. The first
// such time is written to the file, because an agent may be started more often than
// Options.GiveUpAfter.
func (s *Spool) doubt(e entry) (since time.Time, err error) {
	now := time.Now()
	s.mu.Lock()
	since, known := s.doubts[e.number]
	if !known || since.After(now) { // The clock was set back.
		since = now
		if e.number > s.dropped {
			s.doubts[e.number] = since
		}
	}
	s.mu.Unlock()
	if !known {
		err = s.commit(&request{})
	}
	return since, err
}

// isDropped reports whether an entry made way for newer ones.
func (s *Spool) isDropped(e entry) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return e.number <= s.dropped
}

// change is one transaction on the file: what is settled goes, reports come, and
// the oldest go where these do not fit.
type change struct {
	in       contents
	settled  map[uint64]fate
	doubts   map[uint64]time.Time
	reports  []publisher.Outgoing
	maxBytes int64
	dropped  uint64 // the greatest number that was dropped, or 0
}

func (c *change) write(tx *bbolt.Tx) error {
	entries := tx.Bucket(entriesBucket)
	entries.FillPercent = 1 // Keys only go up.
	for n, f := range c.settled {
		if err := c.remove(entries, n, f.size, f.what); err != nil {
			return err
		}
	}
	for _, o := range c.reports {
		if err := c.insert(entries, o); err != nil {
			return err
		}
	}
	if err := c.drop(entries); err != nil {
		return err
	}
	c.in.state.Doubtful = c.doubts
	return writeState(tx.Bucket(stateBucket), c.in.state)
}

func (c *change) insert(entries *bbolt.Bucket, o publisher.Outgoing) error {
	n, err := entries.NextSequence()
	if err != nil {
		return err
	}
	key := keyOf(n)
	value, err := encode(key, o)
	if err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	c.in.count++
	c.in.bytes += size(value)
	return entries.Put(key, value)
}

// drop takes out the oldest entries until the rest fits.
func (c *change) drop(entries *bbolt.Bucket) error {
	for c.in.bytes > c.maxBytes {
		key, value := entries.Cursor().First()
		n := number(key)
		if err := c.remove(entries, n, size(value), dropped); err != nil {
			return err
		}
		c.dropped = n
	}
	return nil
}

func (c *change) remove(entries *bbolt.Bucket, n uint64, bytes int64, what outcome) error {
	c.in.count--
	c.in.bytes -= bytes
	c.in.state.add(what, 1)
	delete(c.doubts, n)
	return entries.Delete(keyOf(n))
}
