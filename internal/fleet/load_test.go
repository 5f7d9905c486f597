package fleet_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/internal/fleet"
)

// stream is a JetStream that answers as answer says.
type stream struct {
	answer func(msg *nats.Msg, n int) (*jetstream.PubAck, error)
	sent   []*nats.Msg
	at     []time.Time
}

// future is a PubAckFuture that is there already.
type future struct {
	ok  chan *jetstream.PubAck
	err chan error
}

func (f *future) Ok() <-chan *jetstream.PubAck { return f.ok }
func (f *future) Err() <-chan error            { return f.err }
func (f *future) Msg() *nats.Msg               { return nil }

func (s *stream) PublishMsgAsync(msg *nats.Msg, _ ...jetstream.PublishOpt) (jetstream.PubAckFuture, error) {
	s.sent, s.at = append(s.sent, msg), append(s.at, time.Now())
	f := &future{ok: make(chan *jetstream.PubAck, 1), err: make(chan error, 1)}
	ack, err := &jetstream.PubAck{Stream: "S", Sequence: uint64(len(s.sent))}, error(nil)
	if s.answer != nil {
		ack, err = s.answer(msg, len(s.sent))
	}
	switch {
	case errors.Is(err, errNotSent):
		return nil, err
	case err != nil:
		f.err <- err
	case ack != nil:
		f.ok <- ack
	}
	return f, nil
}

var errNotSent = errors.New("not sent")

func connected(context.Context) error { return nil }

func id(msg *nats.Msg) string { return msg.Header["ce-id"][0] }

func read(t *testing.T, journal string) []fleet.Entry {
	t.Helper()
	var entries []fleet.Entry
	for e, err := range fleet.ReadJournal(strings.NewReader(journal)) {
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, e)
	}
	return entries
}

func TestALoadKeepsToItsRate(t *testing.T) {
	for _, rate := range []float64{0.5, 100, 5000, 20000} {
		t.Run(fmt.Sprint(rate), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began, s := time.Now(), &stream{}
				summary, err := fleet.Load{Fleet: fleet.Options{Rate: rate}, Duration: 4 * time.Second}.RunOn(t.Context(), connected, s)
				if want := uint64(4*rate) + 1; err != nil || summary.Sent < want-uint64(rate/1000)-1 || summary.Sent > want || summary.Accepted != summary.Sent {
					t.Fatalf("%v: %+v, want %d", err, summary, want)
				}
				pauses := 0
				for i, at := range s.at {
					due := began.Add(time.Duration(float64(i) / rate * float64(time.Second)))
					if late := at.Sub(due); late < 0 || late > time.Millisecond {
						t.Fatalf("report %d is sent %s after it is due", i, late)
					}
					if i > 0 && at != s.at[i-1] {
						pauses++
					}
				}
				if pauses > 4000 {
					t.Errorf("%d pauses in 4 s", pauses)
				}
			})
		})
	}
}

func TestAReportThatFailsIsTriedAgainAsItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stream{answer: func(_ *nats.Msg, n int) (*jetstream.PubAck, error) {
			switch {
			case n > 20 && n <= 30:
				return nil, jetstream.ErrAsyncPublishTimeout
			case n > 30 && n <= 35:
				return nil, errNotSent
			case n > 35 && n <= 38:
				return nil, jetstream.ErrNoStreamResponse
			}
			return &jetstream.PubAck{Stream: "S", Sequence: uint64(n)}, nil
		}}
		var journal, log bytes.Buffer
		summary, err := fleet.Load{
			Fleet:   fleet.Options{Devices: 10, Bad: .1, Partial: .1, Removed: .1, Duplicates: .1, Late: .1, Reorder: .1},
			Reports: 3000, Journal: &journal, Log: slog.New(slog.NewTextHandler(&log, nil)),
		}.RunOn(t.Context(), connected, s)
		if err != nil || summary.Sent != 3000 || summary.Accepted != 3000 || summary.Failed != 0 || summary.Retries != 18 {
			t.Fatalf("%v: %+v", err, summary)
		}
		for name, n := range map[string]uint64{
			"duplicates": summary.Duplicates, "bad": summary.Bad, "partial": summary.Partial,
			"removed": summary.Removed, "late": summary.Late, "reordered": summary.Reordered,
		} {
			if n < 150 || n > 450 {
				t.Errorf("%d are %s, not about 300", n, name)
			}
		}
		tried := map[string]int{}
		for _, msg := range s.sent {
			tried[id(msg)]++
		}
		if len(s.sent) != 3018 || len(tried) != 3000-int(summary.Duplicates) {
			t.Errorf("%d attempts of %d reports", len(s.sent), len(tried))
		}
		entries := read(t, journal.String())
		if len(entries) != 3000 {
			t.Fatalf("%d entries", len(entries))
		}
		for _, e := range entries {
			if msg := s.sent[e.Sequence-1]; id(msg) != e.ID || msg.Subject != e.Subject || msg.Header["ce-time"][0] != e.Time {
				t.Fatalf("%+v is not what was sent", e)
			}
		}
		for _, say := range []string{"reports are not accepted; trying again", "reports are accepted again"} {
			if !strings.Contains(log.String(), say) {
				t.Errorf("the log does not say %q: %s", say, log.String())
			}
		}
	})
}

func TestWhatIsNotAcceptedIsNotInTheJournal(t *testing.T) {
	refused := &jetstream.APIError{Code: 400, ErrorCode: jetstream.JSErrCodeStreamMessageExceedsMaximum, Description: "too large"}
	for name, answer := range map[string]func(n int) (*jetstream.PubAck, error){
		"refused for good": func(int) (*jetstream.PubAck, error) { return nil, refused },
		"taken for a duplicate": func(n int) (*jetstream.PubAck, error) {
			return &jetstream.PubAck{Stream: "S", Sequence: uint64(n), Duplicate: true}, nil
		},
		"never answered":          func(int) (*jetstream.PubAck, error) { return nil, nil },
		"not accepted to the end": func(int) (*jetstream.PubAck, error) { return nil, jetstream.ErrAsyncPublishTimeout },
		"not sent":                func(int) (*jetstream.PubAck, error) { return nil, errNotSent },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var journal bytes.Buffer
				s := &stream{answer: func(_ *nats.Msg, n int) (*jetstream.PubAck, error) {
					if n%3 == 0 {
						return answer(n)
					}
					return &jetstream.PubAck{Stream: "S", Sequence: uint64(n)}, nil
				}}
				if strings.HasPrefix(name, "not ") {
					s.answer = func(_ *nats.Msg, n int) (*jetstream.PubAck, error) { return answer(n) }
				}
				summary, err := fleet.Load{Reports: 90, Duration: time.Minute, Journal: &journal}.RunOn(t.Context(), connected, s)
				if !errors.Is(err, fleet.ErrUnsent) || summary.Failed == 0 || summary.Accepted+summary.Failed != summary.Sent {
					t.Fatalf("%v: %+v", err, summary)
				}
				if entries := read(t, journal.String()); len(entries) != int(summary.Accepted) {
					t.Errorf("%d entries: %+v", len(entries), summary)
				}
			})
		})
	}
}

func TestTheEndOfTheContextIsNoError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
		defer cancel()
		var journal bytes.Buffer
		s := &stream{}
		summary, err := fleet.Load{Fleet: fleet.Options{Rate: 100}, Journal: &journal}.RunOn(ctx, connected, s)
		if err != nil || summary.Sent < 149 || summary.Accepted != summary.Sent || len(read(t, journal.String())) != int(summary.Sent) {
			t.Errorf("%v: %+v", err, summary)
		}
	})
}

func TestALoadThatIsNotConnectedSendsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stream{}
		back := time.Now().Add(10 * time.Second)
		away := func(ctx context.Context) error {
			select {
			case <-time.NewTimer(time.Until(back)).C:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		summary, err := fleet.Load{Fleet: fleet.Options{Rate: 100}, Duration: 20 * time.Second}.RunOn(t.Context(), away, s)
		if err != nil || s.at[0].Before(back) || summary.Accepted != summary.Sent || summary.Sent < 1999 {
			t.Errorf("%v: %+v, first at %s of %s", err, summary, s.at[0], back)
		}
		closed := func(context.Context) error { return nats.ErrConnectionClosed }
		if _, err := (fleet.Load{}).RunOn(t.Context(), closed, s); !errors.Is(err, nats.ErrConnectionClosed) {
			t.Errorf("a closed connection: %v", err)
		}
	})
}

// full takes some bytes and then no more.
type full struct{ room int }

var errFull = errors.New("no space left")

func (f *full) Write(p []byte) (int, error) {
	if f.room -= len(p); f.room < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestAJournalThatCannotBeWrittenEndsTheLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		_, err := fleet.Load{Fleet: fleet.Options{Rate: 10000}, Journal: &full{room: 100_000}}.RunOn(t.Context(), connected, &stream{})
		if !errors.Is(err, errFull) || time.Since(began) > 2*time.Second {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
	})
}

func TestTheJournalIsFlushedOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var journal bytes.Buffer
		done := make(chan error)
		// The last report is never answered, so that there is always one to wait for.
		s := &stream{answer: func(_ *nats.Msg, n int) (*jetstream.PubAck, error) {
			if n > 50 {
				return nil, nil
			}
			return &jetstream.PubAck{Stream: "S", Sequence: uint64(n)}, nil
		}}
		go func() {
			_, err := fleet.Load{Fleet: fleet.Options{Rate: 100}, Journal: &journal}.RunOn(ctx, connected, s)
			done <- err
		}()
		<-time.NewTimer(1100 * time.Millisecond).C
		synctest.Wait()
		if n := len(read(t, journal.String())); n != 50 {
			t.Errorf("%d entries after 1.1 s", n)
		}
		cancel()
		if err := <-done; !errors.Is(err, fleet.ErrUnsent) {
			t.Error(err)
		}
	})
}

func TestACutLastLineOfAJournalIsLeftOut(t *testing.T) {
	const line = `{"stream":"S","sequence":7,"id":"i","time":"2026-01-01T00:00:00.000000000Z","subject":"compliance.status.p.d"}` + "\n"
	want := fleet.Entry{Stream: "S", Sequence: 7, ID: "i", Time: "2026-01-01T00:00:00.000000000Z", Subject: "compliance.status.p.d"}
	for cut := range len(line) {
		if have := read(t, line+line[:cut]); len(have) != 1 || have[0] != want {
			t.Fatalf("%+v", have)
		}
	}
	for _, wrong := range []string{"{}\n", "x\n", "\n", `{"stream":"S","sequence":7,"id":"i","extra":1}` + "\n"} {
		var err error
		for _, err = range fleet.ReadJournal(strings.NewReader(line + wrong + line)) {
			if err != nil {
				break
			}
		}
		if err == nil || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("%q: %v", wrong, err)
		}
	}
}
