package graph

import (
	"context"
	"errors"
	"time"

	"github.com/complianced/complianced/compliance"
)

// Reader reads the state, which lags behind the stream. An error means that it cannot be
// read now, which is answered with 503.
type Reader interface {
	// Get returns a record; Exists of it is false where there is none.
	Get(ctx context.Context, key compliance.Key) (compliance.Record, error)
	// List returns a page. The work that it takes is bounded, so a page may have fewer
	// records than there is room for, also none, and still have a next one. The error is
	// [ErrCursor] where the cursor is not one of this list any more.
	List(ctx context.Context, q Query) (Page, error)
	// Counts returns the numbers of a policy; all 0 where it has no record.
	Counts(ctx context.Context, policy string) (Counts, error)
	// Passed reports whether the state is known to be past a report of a device: it is
	// merged, or has its dead letter.
	Passed(ctx context.Context, device string, at Receipt) (bool, error)
	// Refusal returns the error object of the dead letter of a report; nil where it has
	// none.
	Refusal(ctx context.Context, at Receipt) (*compliance.Error, error)
}

// Query says which page of the records of a policy is meant.
type Query struct {
	Policy string
	// Statuses are the only ones of the records. Defaults to all.
	Statuses []compliance.Status
	// Match, where not nil, leaves the records for which it is true.
	Match func(*Item) bool
	// Cursor is that of the page before; empty for the first.
	Cursor string
	// Limit is the greatest number of records in the page, from 1 to [MaxTop].
	Limit int
}

// Page is a part of a list.
type Page struct {
	Items []Item
	// Next is the cursor of the page after this one; empty where there is none.
	Next string
	// Unreadable is how many records are left out because they cannot be read.
	Unreadable int
}

// Item is a record in a list.
type Item struct {
	Device string
	Record compliance.Record
}

// Counts are the numbers of the records of a policy.
type Counts struct {
	Statuses [compliance.NumStatuses]int
	// Until is when the newest report was stored that the state has merged, of whatever
	// policy; zero where it has merged none.
	Until time.Time
}

// ErrCursor says that a list does not have a cursor any more.
var ErrCursor = errors.New("the list has no such place any more")

// Outgoing is a report that is to be stored.
type Outgoing struct {
	Key  compliance.Key
	Body []byte
	// EventID and EventTime are what the report is stamped with.
	EventID   string
	EventTime time.Time
}

// Receipt says where the stream has a report.
type Receipt struct {
	Stream   string `json:"stream"`
	Sequence uint64 `json:"sequence"`
}

// Publisher stores reports in the stream. Its methods are called from many goroutines.
type Publisher interface {
	// Stamp returns a report of a record with an id and a time, which is later than that
	// of every report that was stamped before.
	Stamp(key compliance.Key) (Outgoing, error)
	// Publish stores a report and tries again, with the same id and time, until the
	// context ends. An error means that it is not known to be stored.
	Publish(ctx context.Context, o Outgoing) (Receipt, error)
	// Ask is Publish for a report whose result is wanted. Result waits for what becomes of
	// the report, and is nil where that was not heard until its context ended. It must be
	// called, once, unless Ask has failed.
	Ask(ctx context.Context, o Outgoing) (at Receipt, result func(context.Context) *compliance.Result, err error)
}

// Grant is what a token allows.
type Grant struct {
	// Read and Write allow to read records and to write them. Who may write may read.
	Read, Write bool
	// Device, where not empty, is the only one whose records the token is for.
	Device string
}

// Authorizer says what a bearer token allows.
type Authorizer interface {
	// Authorize returns the grant of a token. The error is [ErrToken] where the token is
	// not valid; any other error means that this cannot be told now.
	Authorize(ctx context.Context, token string) (Grant, error)
}

// ErrToken says that a token is not valid.
var ErrToken = errors.New("the token is not valid")
