package compliance

import "time"

// Floor says how far a bucket is: every report of its partition up to Sequence
// that concerns the bucket is merged in it, or has its dead letter. It lies in
// the sink and moves in the same transaction as the data. The zero Floor is an
// absent one.
type Floor struct {
	// Stream and Created identify the stream.
	Stream  string
	Created time.Time
	// Sequence is the last report covered; 0 before the first.
	Sequence uint64
	// Stored is the store time of that report; zero before the first.
	Stored time.Time
	Layout Layout
	// Write is new in each transaction of the bucket.
	Write string
	// Repair marks a floor that was set back on purpose, so that the bucket is
	// merged again. What the stream has lost below it is no gap.
	Repair bool
}

// Absent reports whether there is no floor at all.
func (f Floor) Absent() bool { return f.Stream == "" }

// SameStream reports whether both floors speak of the same stream.
func (f Floor) SameStream(g Floor) bool {
	return f.Stream == g.Stream && f.Created.Equal(g.Created)
}

// Equal reports whether both are the same floor, left by the same transaction.
func (f Floor) Equal(g Floor) bool {
	return f.SameStream(g) && f.Sequence == g.Sequence && f.Stored.Equal(g.Stored) &&
		f.Layout == g.Layout && f.Write == g.Write && f.Repair == g.Repair
}

// FloorError says that a bucket's floor is not the expected one: another worker
// wrote to the bucket, or the sink lost its tail.
type FloorError struct {
	Bucket Bucket
	Want   Floor
	Have   Floor
}

// Error names the bucket and how its floor differs.
func (e *FloorError) Error() string {
	return "the floor of a bucket is not the expected one"
}

// Gap is a range of sequences that the stream lost before they were merged.
type Gap struct {
	First uint64
	Last  uint64
	// Seen is when the loss was noticed.
	Seen time.Time
}
