package spool

import (
	"errors"
	"maps"
	"path/filepath"
	"time"

	"go.etcd.io/bbolt"
)

// ready opens the file where it is not; write is held.
func (s *Spool) ready() error {
	switch {
	case s.broken:
		return ErrDamaged
	case s.db == nil:
		return s.reopen()
	}
	return nil
}

// failed is for a transaction that failed, whose error it returns; write is held.
// Whether a change is in the file, the file alone knows: where the last fsync
// failed, it may be. And where the file could not be mapped, bbolt does not use it
// any more. So it is opened and read again; where that fails, the next transaction
// tries it.
func (s *Spool) failed(err error) error {
	if errors.Is(err, ErrDamaged) {
		return s.breakOff(err)
	}
	_ = s.db.Close() // What is wrong with the file, err says.
	s.db = nil
	return errors.Join(err, s.reopen())
}

func (s *Spool) reopen() error {
	db, in, err := tryFile(filepath.Join(s.dir, fileName), s.opts.NoSync)
	if err == nil {
		s.db = db
		err = guard(func() error {
			return db.View(func(tx *bbolt.Tx) error { s.saw(in, tx.Bucket(entriesBucket)); return nil })
		})
	}
	if errors.Is(err, ErrDamaged) {
		return s.breakOff(err)
	}
	return err
}

// saw takes over what a file holds that was opened again.
func (s *Spool) saw(in contents, entries *bbolt.Bucket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.in = in
	maps.DeleteFunc(s.settled, func(n uint64, _ fate) bool { return entries.Get(keyOf(n)) == nil })
	maps.DeleteFunc(s.doubts, func(n uint64, _ time.Time) bool { return entries.Get(keyOf(n)) == nil })
	gone := entries.Sequence()
	if oldest, _ := entries.Cursor().First(); oldest != nil {
		gone = number(oldest) - 1
	}
	s.dropped = max(s.dropped, gone)
	s.wakeUp()
}

// breakOff sets a damaged file aside for the next Open: this spool makes no
// transaction any more.
func (s *Spool) breakOff(err error) error {
	damaged, failed := setAside(s.dir) // Where that fails, the next process meets the same page.
	s.broken = true
	s.mu.Lock()
	s.damaged = damaged
	s.mu.Unlock()
	return errors.Join(err, failed)
}

// closeFile closes the file where it is open.
func closeFile(db *bbolt.DB) (err error) {
	if db == nil {
		return nil
	}
	if db.NoSync {
		err = db.Sync()
	}
	return errors.Join(err, db.Close())
}
