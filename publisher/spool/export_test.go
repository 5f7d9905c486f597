package spool

import "go.etcd.io/bbolt"

// Waiters is how many reports wait for the next change of the file.
func Waiters(s *Spool) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.waiters)
}

// Doubts is how many reports a server refuses for a reason that may be its own.
func Doubts(s *Spool) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.doubts)
}

// FailNext has the next change of the file made by fail.
func FailNext(s *Spool, fail func(db *bbolt.DB, change func(*bbolt.Tx) error) error) {
	s.write.Lock()
	defer s.write.Unlock()
	s.update = func(db *bbolt.DB, change func(*bbolt.Tx) error) error {
		s.update = (*bbolt.DB).Update
		return fail(db, change)
	}
}
