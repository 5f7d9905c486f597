package fleet

const (
	// queueLength bounds how many reports wait, and for how many others.
	queueLength = 1024
	// maxAgain is after how many reports a duplicate is sent at most.
	maxAgain = 64
)

// queue keeps the reports that are sent later than they were made: a ring with a
// place for each of the next reports to send.
type queue struct {
	places   []Report
	taken    []bool
	position int
	n        int
}

// due takes the report whose turn it is, and moves on to the next place.
func (q *queue) due() (Report, bool) {
	if q.n == 0 || !q.taken[q.position] {
		return Report{}, false
	}
	r := q.places[q.position]
	q.places[q.position], q.taken[q.position] = Report{}, false
	q.n--
	q.pass()
	return r, true
}

// pass moves on to the next place, unless the present one is taken by a report that
// found no other.
func (q *queue) pass() {
	if q.n > 0 && q.taken[q.position] {
		return
	}
	q.position = (q.position + 1) % queueLength
}

// put keeps a report until after further ones, or the next number for which there
// is room, and is false where there is none.
func (q *queue) put(r Report, after int) bool {
	if q.n == queueLength {
		return false
	}
	if q.places == nil {
		q.places, q.taken = make([]Report, queueLength), make([]bool, queueLength)
	}
	at := (q.position + after) % queueLength
	for q.taken[at] {
		at = (at + 1) % queueLength
	}
	q.places[at], q.taken[at] = r, true
	q.n++
	return true
}
