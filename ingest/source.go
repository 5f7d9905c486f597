package ingest

import (
	"context"
	"time"

	"github.com/complianced/complianced/compliance"
)

// Limits of a batch. A batch also ends where nothing more waits.
const (
	maxBatchReports = 8000
	maxBatchBytes   = 8 << 20
)

// Batch is what the source has at hand: reports in sequence.
type Batch struct {
	// Instance names the consumer that read them. Within an instance every
	// sequence is the last plus one; in a new one anything may have happened.
	Instance  string
	Envelopes []compliance.Envelope
}

// StreamInfo is what a stream says of itself.
type StreamInfo struct {
	Stream  string
	Created time.Time
	// First and Last are the sequences of the reports that it holds. Where it
	// holds none, First is Last + 1.
	First uint64
	Last  uint64
}

// Source reads the stream of a partition.
type Source interface {
	// Next waits for reports. Its error is the context's where that ends first. The
	// envelopes are valid until the next call.
	Next(ctx context.Context) (Batch, error)
	// Seek makes the next report that Next returns the first one from this
	// sequence on.
	Seek(ctx context.Context, sequence uint64) error
	Info(ctx context.Context) (StreamInfo, error)
	// StoredAt returns the store time of a report; the zero time where the stream
	// does not hold it.
	StoredAt(ctx context.Context, sequence uint64) (time.Time, error)
}

// Store is the sink. The contract of Apply is that of store.Redis.Apply.
type Store interface {
	Floors(ctx context.Context, buckets []compliance.Bucket) ([]compliance.Floor, error)
	Apply(ctx context.Context, tx compliance.Transaction) ([]compliance.Effect, error)
}

// DeadLetter is a report that can never be applied, with the verdict.
type DeadLetter struct {
	Stream    string
	Envelope  compliance.Envelope
	Rejection *compliance.Rejection
}

// Reply is a result for the agent that asked for it.
type Reply struct {
	Device string
	Token  string
	Result compliance.Result
}

// Outlet is where the loop publishes.
type Outlet interface {
	// Bury returns when every dead letter is kept. A report that is buried twice
	// has one dead letter: fresh are those that were not there before, also where
	// the error says that not all are kept.
	Bury(ctx context.Context, letters []DeadLetter) (fresh []DeadLetter, err error)
	// Reply sends results as well as it can.
	Reply(ctx context.Context, replies []Reply) error
}

// Cause says why the loop went back or took over a floor.
type Cause string

// The causes.
const (
	StoreBehind      Cause = "store_behind"
	StoreEmpty       Cause = "store_empty"
	StreamRecreated  Cause = "stream_recreated"
	StreamRolledBack Cause = "stream_rolled_back"
	OwnerChanged     Cause = "owner_changed"
)

// Observer hears what the loop does, for metrics. It must not block.
type Observer interface {
	ObserveBatch(reports int, took time.Duration)
	ObserveEffect(effect compliance.Effect, latency time.Duration)
	ObserveRejected(code compliance.Code)
	ObserveRewind(cause string)
}

// Causes returns all causes.
func Causes() []Cause {
	return []Cause{StoreBehind, StoreEmpty, StreamRecreated, StreamRolledBack, OwnerChanged}
}
