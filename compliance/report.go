package compliance

import "time"

// Report is one event: a patch of one record, decoded and found right.
type Report struct {
	Key      Key
	Sequence uint64
	// Stored is the store time.
	Stored time.Time
	// Version is what each property that the report sets is compared by.
	Version Version
	// EventID is the id that the report came with, else its hash in hex.
	EventID string
	// Reply is the token that the report asks its result to be sent under;
	// empty where it asks for none, or with a token that is none.
	Reply string
	// Removed says that the report deletes the record.
	Removed bool
	// Values holds what the report sets. ID is always set; a removal sets all
	// nine to cleared.
	Values [NumProperties]Value
}

// Outcome is what became of a report.
type Outcome string

// The outcomes.
const (
	// Applied: a version or a value of the record moved.
	Applied Outcome = "applied"
	// Unchanged: nothing moved, and at least one property has this report's
	// version and value. The report was there already.
	Unchanged Outcome = "unchanged"
	// Stale: nothing moved, and newer reports have set all that it sets.
	Stale Outcome = "stale"
	// Rejected: the report can never be applied; it is a dead letter.
	Rejected Outcome = "rejected"
)

// Outcomes returns all outcomes.
func Outcomes() []Outcome { return []Outcome{Applied, Unchanged, Stale, Rejected} }
