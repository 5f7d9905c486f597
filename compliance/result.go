package compliance

import (
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Effect is what merging one report did.
type Effect struct {
	Outcome Outcome
	// Before and After are the record's standing.
	Before Standing
	After  Standing
	// Record is the record after the merge as the documented object, where the
	// report asks for a result and there is a record; otherwise nil.
	Record []byte
}

// Result is what an agent hears of its report, if it asks.
type Result struct {
	Outcome  Outcome `json:"outcome"`
	Stream   string  `json:"stream"`
	Sequence uint64  `json:"sequence"`
	// Record is the documented object after the merge; absent where the report
	// was rejected, and where there is no record, because this report or a newer one
	// removed it.
	Record jsontext.Value `json:"record,omitzero"`
	// Error says why the report was rejected.
	Error *Error `json:"error,omitzero"`
}

// JSON returns the result as JSON on one line.
func (r Result) JSON() ([]byte, error) {
	text, err := json.Marshal(r, json.Deterministic(true))
	if err != nil {
		return nil, fmt.Errorf("write result: %w", err)
	}
	return text, nil
}

// ParseResult is the inverse of [Result.JSON].
func ParseResult(text []byte) (Result, error) {
	var r Result
	if err := json.Unmarshal(text, &r); err != nil {
		return Result{}, fmt.Errorf("read result: %w", err)
	}
	return r, nil
}

// ResultSubject returns the subject that the result for a device is sent to.
func ResultSubject(device, token string) string { return ResultPrefix + device + "." + token }
