package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/ingest"
)

// stream is a source in memory to which anything can happen that can happen to a
// stream.
type stream struct {
	mu       sync.Mutex
	created  time.Time
	messages map[uint64]compliance.Envelope
	first    uint64
	last     uint64
	clock    time.Time
	epoch    int // of the consumers: they are made anew when the stream is
	seeks    int
	sought   []uint64
	readers  int
	paused   bool
	grown    chan struct{}
}

// view is a reader of the stream.
type view struct {
	*stream
	instance int
	next     uint64
}

func newStream() *stream {
	return &stream{
		created: time.Unix(1_700_000_000, 0).UTC(), clock: time.Unix(1_800_000_000, 0).UTC(),
		messages: map[uint64]compliance.Envelope{}, first: 1, grown: make(chan struct{}),
	}
}

func (s *stream) wake() {
	close(s.grown)
	s.grown = make(chan struct{})
}

func (s *stream) publish(key compliance.Key, body string, headers ...string) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	s.clock = s.clock.Add(time.Millisecond)
	e := compliance.Envelope{Subject: key.Subject(), Body: []byte(body), Sequence: s.last, Stored: s.clock, Header: map[string][]string{}}
	for i := 0; i+1 < len(headers); i += 2 {
		e.Header[headers[i]] = []string{headers[i+1]}
	}
	s.messages[s.last] = e
	s.wake()
	return s.last
}

// recreate deletes the stream and makes it anew, empty.
func (s *stream) recreate() {
	s.recreateUnderReaders()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch++
	s.wake()
}

// recreateUnderReaders is recreate without a sign of it: the consumers keep
// their names and their places.
func (s *stream) recreateUnderReaders() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.created = s.created.Add(time.Hour)
	s.messages, s.first, s.last = map[uint64]compliance.Envelope{}, 1, 0
}

// pause holds back the reports from all readers until resume.
func (s *stream) pause() { s.setPaused(true) }

func (s *stream) resume() { s.setPaused(false) }

func (s *stream) setPaused(paused bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paused = paused
	s.wake()
}

// advance lets time go by.
func (s *stream) advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clock = s.clock.Add(d)
}

func (s *stream) seekCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seeks
}

// rollBack forgets all after a sequence, as a server with an older copy.
func (s *stream) rollBack(to uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.messages, func(n uint64, _ compliance.Envelope) bool { return n > to })
	s.last = to
	s.clock = s.clock.Add(time.Minute)
}

// ageOut forgets all before a sequence.
func (s *stream) ageOut(before uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.messages, func(n uint64, _ compliance.Envelope) bool { return n < before })
	s.first = before
}

// remove takes one message away.
func (s *stream) remove(n uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.messages, n)
}

func (s *view) Next(ctx context.Context) (ingest.Batch, error) {
	for {
		s.mu.Lock()
		batch := ingest.Batch{Instance: fmt.Sprint("consumer", s.instance, "-", s.epoch)}
		for n := max(s.next, s.first); !s.paused && n <= s.last && len(batch.Envelopes) < 100; n++ {
			if e, ok := s.messages[n]; ok {
				batch.Envelopes = append(batch.Envelopes, e)
			}
			s.next = n + 1
		}
		grown := s.grown
		s.mu.Unlock()
		if len(batch.Envelopes) > 0 {
			return batch, nil
		}
		select {
		case <-ctx.Done():
			return ingest.Batch{}, ctx.Err()
		case <-grown:
		}
	}
}

func (s *view) Seek(_ context.Context, sequence uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = sequence
	s.seeks++
	s.sought = append(s.sought, sequence)
	s.readers++
	s.instance = s.readers
	return nil
}

// reset makes the consumer anew where it stands, as an ordered consumer does by
// itself. The server does not let it begin past the end.
func (s *view) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next = min(s.next, s.last+1)
	s.readers++
	s.instance = s.readers
	s.wake()
}

func (s *stream) Info(context.Context) (ingest.StreamInfo, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return ingest.StreamInfo{Stream: "COMPLIANCE_STATUS", Created: s.created, First: s.first, Last: s.last}, nil
}

func (s *stream) StoredAt(_ context.Context, sequence uint64) (time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.messages[sequence].Stored, nil
}

// outlet keeps what the loop publishes.
type outlet struct {
	mu      sync.Mutex
	down    bool
	letters map[letterID]ingest.DeadLetter
	// buried counts how often each was to be buried.
	buried  map[letterID]int
	replies []ingest.Reply
	// before is called before anything is buried.
	before func(context.Context) error
	// atMost is how many letters a call keeps before it fails; 0 is all.
	atMost int
}

// letterID is what tells dead letters apart, as the subject does.
type letterID struct {
	sequence uint64
	stored   int64
}

func letterIDOf(e compliance.Envelope) letterID { return letterID{e.Sequence, e.Stored.UnixNano()} }

func newOutlet() *outlet {
	return &outlet{letters: map[letterID]ingest.DeadLetter{}, buried: map[letterID]int{}}
}

var errDown = errors.New("the outlet is down")

func (o *outlet) Bury(ctx context.Context, letters []ingest.DeadLetter) (fresh []ingest.DeadLetter, err error) {
	if o.before != nil {
		if err := o.before(ctx); err != nil {
			return nil, err
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.down {
		return nil, errDown
	}
	for n, letter := range letters {
		if o.atMost > 0 && n == o.atMost {
			return fresh, errDown
		}
		id := letterIDOf(letter.Envelope)
		if _, there := o.letters[id]; !there {
			fresh = append(fresh, letter)
		}
		o.letters[id] = letter
		o.buried[id]++
	}
	return fresh, nil
}

func (o *outlet) Reply(_ context.Context, replies []ingest.Reply) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.replies = append(o.replies, replies...)
	return nil
}

func (o *outlet) setDown(down bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.down = down
}

func (o *outlet) codes() map[uint64]compliance.Code {
	o.mu.Lock()
	defer o.mu.Unlock()
	codes := map[uint64]compliance.Code{}
	for id, letter := range o.letters {
		codes[id.sequence] = letter.Rejection.Code()
	}
	return codes
}

// answered returns the sequences of the reports whose results were sent.
func (o *outlet) answered() []uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	var sequences []uint64
	for _, reply := range o.replies {
		sequences = append(sequences, reply.Result.Sequence)
	}
	return slices.Sorted(slices.Values(sequences))
}

func (o *outlet) outcomes() []compliance.Outcome {
	o.mu.Lock()
	defer o.mu.Unlock()
	var outcomes []compliance.Outcome
	for _, reply := range o.replies {
		outcomes = append(outcomes, reply.Result.Outcome)
	}
	return outcomes
}

// observer counts.
type observer struct {
	mu       sync.Mutex
	reports  int
	outcomes map[compliance.Outcome]int
	rejected map[compliance.Code]int
	rewinds  map[string]int
}

func newObserver() *observer {
	return &observer{outcomes: map[compliance.Outcome]int{}, rejected: map[compliance.Code]int{}, rewinds: map[string]int{}}
}

func (o *observer) ObserveBatch(reports int, _ time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.reports += reports
}

func (o *observer) ObserveEffect(e compliance.Effect, _ time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.outcomes[e.Outcome]++
}

func (o *observer) ObserveRejected(code compliance.Code) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.rejected != nil {
		o.rejected[code]++
	}
}

func (o *observer) ObserveRewind(cause string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.rewinds[cause]++
}

func (o *observer) rewound(cause ingest.Cause) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.rewinds[string(cause)]
}

// read returns how many reports the batches had.
func (o *observer) read() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.reports
}

func (o *observer) refused(code compliance.Code) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.rejected[code]
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never came: %s", what)
		}
		<-tick.C
	}
}

func sortedKeys[K ~uint64, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
