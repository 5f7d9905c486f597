package replay

import (
	"encoding/hex"
	"maps"
	"sync"
)

// maxUnpassed is how many reports may be sent behind one that is not passed.
const maxUnpassed = 200_000

// tracker knows which reports are passed.
type tracker struct {
	// slots has one for each report that is not passed.
	slots chan struct{}
	// passed, where not nil, hears of each report that is passed.
	passed func()

	mu       sync.Mutex // guards what follows
	position Position
	// open are the reports from the first that is not passed on; the first has this
	// number.
	open   []tracked
	first  uint64
	digest digest
	table  Table
}

type tracked struct {
	place   place
	digest  digest
	ended   bool
	outcome Outcome
}

func newTracker(from Position, passed func()) *tracker {
	from.Reached = maps.Clone(from.Reached)
	if from.Reached == nil {
		from.Reached = map[string]uint64{}
	}
	t := &tracker{slots: make(chan struct{}, maxUnpassed), passed: passed, position: from, table: from.Table}
	if sum, err := hex.DecodeString(from.Digest); err == nil { // Any other fits no report.
		copy(t.digest[:], sum)
	}
	return t
}

// begin notes a report that is to be sent, in the order of the replay. A slot was
// taken for it.
func (t *tracker) begin(r *Report) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open = append(t.open, tracked{place: r.place, digest: digestOf(r)})
	return t.first + uint64(len(t.open)) - 1
}

// end notes what became of a report.
func (t *tracker) end(n uint64, o Outcome) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.table.count(o)
	t.open[n-t.first].ended, t.open[n-t.first].outcome = true, o
	for len(t.open) > 0 && t.open[0].ended {
		head := t.open[0]
		t.open, t.first = t.open[1:], t.first+1
		t.position.Passed++
		t.digest = t.digest.with(head.digest)
		t.position.Table.count(head.outcome)
		if head.place != (place{}) {
			t.position.Reached[head.place.stream] = head.place.sequence
		}
		<-t.slots
		if t.passed != nil {
			t.passed()
		}
	}
}

// now returns the position, and what became of all reports that have ended.
func (t *tracker) now() (Position, Table) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.position
	p.Reached = maps.Clone(p.Reached)
	p.Digest = t.digest.String()
	return p, t.table
}
