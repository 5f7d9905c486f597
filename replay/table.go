package replay

import "github.com/complianced/complianced/compliance"

// Outcome is what became of a report in a replay.
type Outcome uint8

// The outcomes.
const (
	// Accepted has a PubAck; its result was not asked for.
	Accepted Outcome = iota
	// Applied, Unchanged, Stale and Rejected are those of compliance. A report that
	// was refused before and cannot be sent again is rejected too.
	Applied
	Unchanged
	Stale
	Rejected
	// NoResult is accepted, and its result was asked for and not heard.
	NoResult
	// Failed was not accepted and cannot be.
	Failed
)

// outcomeOf is what a worker says.
func outcomeOf(o compliance.Outcome) Outcome {
	switch o {
	case compliance.Applied:
		return Applied
	case compliance.Unchanged:
		return Unchanged
	case compliance.Stale:
		return Stale
	case compliance.Rejected:
		return Rejected
	}
	return NoResult
}

// String returns the outcome as the table names it.
func (o Outcome) String() string {
	switch o {
	case Accepted:
		return "accepted"
	case Applied:
		return "applied"
	case Unchanged:
		return "unchanged"
	case Stale:
		return "stale"
	case Rejected:
		return "rejected"
	case NoResult:
		return "noResult"
	case Failed:
		return "failed"
	}
	return "unknown"
}

// Table counts what became of the reports of a replay.
type Table struct {
	// Reports is how many there were.
	Reports   uint64 `json:"reports"`
	Accepted  uint64 `json:"accepted"`
	Applied   uint64 `json:"applied"`
	Unchanged uint64 `json:"unchanged"`
	Stale     uint64 `json:"stale"`
	Rejected  uint64 `json:"rejected"`
	NoResult  uint64 `json:"noResult"`
	Failed    uint64 `json:"failed"`
}

func (t *Table) count(o Outcome) {
	t.Reports++
	switch o {
	case Accepted:
		t.Accepted++
	case Applied:
		t.Applied++
	case Unchanged:
		t.Unchanged++
	case Stale:
		t.Stale++
	case Rejected:
		t.Rejected++
	case NoResult:
		t.NoResult++
	case Failed:
		t.Failed++
	}
}
