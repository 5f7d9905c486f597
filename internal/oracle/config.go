package oracle

import "time"

// Config is what decides, beside the messages, what the state must be.
type Config struct {
	// Partitions is the number of partitions. Defaults to 1.
	Partitions int
	// Buckets is the number of buckets. Defaults to 16.
	Buckets int
	// Allow are the patterns of the policies whose reports are taken. Defaults to all.
	// Removals are taken of every policy.
	Allow []string
	// InSequence says that no bucket had reports merged again on top of the records
	// that they had made before. That holds also after crashes and where Redis lost
	// its tail or everything: floor and records went back together. It does not
	// hold after a stream was made anew or rolled back, or a bucket repaired. Where
	// it holds, the store times of tombstones are known, and which of them expired.
	InSequence bool
	// Tombstones is how long a tombstone is kept; it counts only where InSequence
	// is set. Defaults to for ever.
	Tombstones time.Duration
	// Gaps are the messages that buckets never got to see, and that Redis must
	// name as gaps. Their dead letters may or may not be there.
	Gaps []Gap
}

func (c Config) partitions() int { return max(c.Partitions, 1) }

func (c Config) buckets() int {
	if c.Buckets == 0 {
		return 16
	}
	return c.Buckets
}
