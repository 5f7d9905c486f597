package ingest

// Ahead returns how many reports were read ahead, and whether one more of this
// size would have to wait.
func (s *JetStream) Ahead(bytes int) (reports int, full bool) {
	if s.reader.bytes.TryAcquire(int64(bytes)) {
		s.reader.bytes.Release(int64(bytes))
		return len(s.reader.channel), false
	}
	return len(s.reader.channel), true
}

// Limits for the tests.
const (
	AheadBytes    = aheadBytes
	MaxBatchBytes = maxBatchBytes
	BuryWithin    = buryWithin
)
