package compliance

import (
	"fmt"
	"time"
)

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
	// Torn says that the bucket has a part of a transaction beside those that led to
	// the floor. Its next transaction must be a recount. It is read, never written.
	Torn bool
}

// Absent reports whether there is no floor at all.
func (f Floor) Absent() bool { return f.Stream == "" }

// unreadable is the stream of a floor that is none; no stream has this name.
const unreadable = "?"

// UnreadableFloor stands for a text in the place of a floor that is none. It is
// that of no stream, so that its bucket is merged again.
func UnreadableFloor(text string) Floor { return Floor{Stream: unreadable, Write: text} }

// Unreadable reports whether what lies in the sink is no floor.
func (f Floor) Unreadable() bool { return f.Stream == unreadable }

// SameStream reports whether both floors speak of the same stream.
func (f Floor) SameStream(g Floor) bool {
	return f.Stream == g.Stream && f.Created.Equal(g.Created)
}

// Equal reports whether both are the same floor, left by the same transaction.
func (f Floor) Equal(g Floor) bool {
	return f.SameStream(g) && f.Sequence == g.Sequence && f.Stored.Equal(g.Stored) &&
		f.Layout == g.Layout && f.Write == g.Write && f.Repair == g.Repair && f.Torn == g.Torn
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
	return fmt.Sprintf("bucket %02x: the floor is at %d, not at %d as expected", int(e.Bucket), e.Have.Sequence, e.Want.Sequence)
}

// Gap is a range of sequences that the stream lost before they were merged.
type Gap struct {
	First uint64
	Last  uint64
	// Seen is when the loss was noticed.
	Seen time.Time
}

// Transaction is one atomic step of a bucket: what it reads, merges and writes
// happens as a whole or not at all, and only where the bucket's floor is From.
type Transaction struct {
	Bucket Bucket
	// From is the expected floor; To is the one that is left. Their Write differ.
	From Floor
	To   Floor
	// Reports are merged in this order. All concern the bucket.
	Reports []*Report
	// Gaps are losses that To passes.
	Gaps []Gap
	// Accept forgets the gaps that were noticed before.
	Accept bool
	// Whole writes every field of the records that change, also what is there. The next
	// reports of a bucket need it, as far as one batch reaches, where a transaction can
	// have been lost: a part of it may still come back. See seal.go in package store.
	Whole bool
	// Recount makes all that follows from the records anew, and deletes what cannot be
	// read. Where From is torn, it makes the torn records whole first.
	Recount bool
}

// CorruptError says that a key of a bucket cannot be read or written as what it
// must be. The bucket has to be recounted and merged again.
type CorruptError struct {
	Bucket Bucket
	// What says which kind of key; never whose.
	What string
}

// Error names the bucket and the kind of key.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("bucket %02x: %s is corrupt", int(e.Bucket), e.What)
}
