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
	s.mu.Lock()
	defer s.mu.Unlock()
	s.created = s.created.Add(time.Hour)
	s.messages, s.first, s.last = map[uint64]compliance.Envelope{}, 1, 0
	s.epoch++
	s.wake()
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
		for n := max(s.next, s.first); n <= s.last && len(batch.Envelopes) < 100; n++ {
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
	s.instance = s.seeks
	return nil
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
	letters map[uint64]ingest.DeadLetter
	replies []ingest.Reply
}

var errDown = errors.New("the outlet is down")

func (o *outlet) Bury(_ context.Context, letters []ingest.DeadLetter) ([]ingest.DeadLetter, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.down {
		return nil, errDown
	}
	var fresh []ingest.DeadLetter
	for _, letter := range letters {
		if _, there := o.letters[letter.Envelope.Sequence]; !there {
			fresh = append(fresh, letter)
		}
		o.letters[letter.Envelope.Sequence] = letter
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
	for n, letter := range o.letters {
		codes[n] = letter.Rejection.Code()
	}
	return codes
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
	outcomes map[compliance.Outcome]int
	rewinds  map[string]int
}

func (o *observer) ObserveBatch(int, time.Duration) {}

func (o *observer) ObserveEffect(e compliance.Effect, _ time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.outcomes[e.Outcome]++
}

func (o *observer) ObserveRejected(compliance.Code) {}

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
