package ingest

// Ahead returns how many reports were read ahead, and whether one more of this
// size would have to wait.
func (s *JetStream) Ahead(bytes int) (reports int, full bool) {
	q := s.reader.ahead
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.reports, !q.room(bytes)
}

// Ended reports whether the reader came to an error.
func (s *JetStream) Ended() bool {
	q := s.reader.ahead
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.err != nil
}

// Limits for the tests.
const (
	AheadReports    = aheadReports
	AheadBytes      = aheadBytes
	MaxBatchReports = maxBatchReports
	MaxBatchBytes   = maxBatchBytes
	BuryWithin      = buryWithin
)
