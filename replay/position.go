package replay

// positionVersion is the version of the form of a position.
const positionVersion = 1

// Position says how far a replay is. Every report before it is passed.
type Position struct {
	Version int `json:"complianceReplay"`
	// Of says which replay it is of, in words of the caller's.
	Of string `json:"of"`
	// Passed is how many reports of the replay are passed, in its order, and Digest a hash of
	// them in that order.
	Passed uint64 `json:"passed"`
	Digest string `json:"digest,omitempty"`
	// Reached is of each stream the last sequence that is passed, where reports are
	// replayed in sequence. Bounds are those of the whole replay.
	Reached map[string]uint64 `json:"reached,omitempty"`
	Bounds  map[string]Bounds `json:"bounds,omitempty"`
	// Table counts what became of those that are passed.
	Table Table `json:"table"`
}

// ByNumber reports whether the reports that are passed have to be read again and left
// out, because no place in a stream says where the replay is.
func (p *Position) ByNumber() bool { return p.Passed > 0 && len(p.Reached) == 0 }
