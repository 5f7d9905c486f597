package spool

import "go.etcd.io/bbolt"

// FailNext has the next change of the file made by fail.
func FailNext(s *Spool, fail func(db *bbolt.DB, change func(*bbolt.Tx) error) error) {
	s.write.Lock()
	defer s.write.Unlock()
	s.update = func(db *bbolt.DB, change func(*bbolt.Tx) error) error {
		s.update = (*bbolt.DB).Update
		return fail(db, change)
	}
}
