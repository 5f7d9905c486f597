package replay_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/deadletter"
	"github.com/complianced/complianced/ingest"
	"github.com/complianced/complianced/replay"
)

// bury makes dead letters of reports as a worker does.
func (b *broker) bury(rules compliance.Rules, envelopes ...compliance.Envelope) {
	b.Helper()
	var letters []ingest.DeadLetter
	for i := range envelopes {
		_, rejection := rules.Decode(&envelopes[i])
		if rejection == nil {
			b.Fatalf("report %d is right", i)
		}
		letters = append(letters, ingest.DeadLetter{Stream: "COMPLIANCE_STATUS", Envelope: envelopes[i], Rejection: rejection})
	}
	outlet := ingest.NewPublisher(b.js)
	if fresh, err := outlet.Bury(b.Context(), letters); err != nil || len(fresh) != len(letters) {
		b.Fatal(err, len(fresh))
	}
}

func refusedReports(from, n int) (list []compliance.Envelope) {
	for i := range n {
		list = append(list, compliance.Envelope{
			Subject: "compliance.status.p.d", Sequence: uint64(from + i), Stored: stored, Body: fmt.Appendf(nil, `{"x":%d}`, from+i),
		})
	}
	return list
}

func (b *broker) openDead(f deadletter.Filter, continued replay.Position) *replay.Dead {
	b.Helper()
	dead, err := replay.OpenDead(b.Context(), b.js, f, continued, func(err error) { b.Error(err) })
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(dead.Close)
	return dead
}

func TestDeadLettersThatComeLaterAreNotReplayed(t *testing.T) {
	b := startBroker(t, 1)
	b.bury(compliance.Rules{}, refusedReports(1, 300)...)
	dead := b.openDead(deadletter.Filter{}, replay.Position{})
	if _, err := dead.Next(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.bury(compliance.Rules{}, refusedReports(301, 300)...)
	if have := bodies(t, dead); len(have) != 299 || have[298] != `{"x":300}` {
		t.Errorf("%d reports after the first", len(have))
	}
	continued := replay.Position{Passed: 290, Bounds: dead.Bounds(), Reached: map[string]uint64{compliance.DeadStream: 290}}
	if have := bodies(t, b.openDead(deadletter.Filter{}, continued)); len(have) != 10 || have[0] != `{"x":291}` {
		t.Errorf("continued: %q", have)
	}
}

func TestADeadLetterIsTheReportThatItWas(t *testing.T) {
	b := startBroker(t, 1)
	future := compliance.FormatStored(stored.Add(1000e9))
	lost := compliance.Envelope{
		Subject: "compliance.status.p.lost", Sequence: 1, Stored: stored, Body: []byte(`{}`),
		Header: map[string][]string{"ce-time": {future}, "ce-id": {strings.Repeat("x", 40<<10)}},
	}
	early := compliance.Envelope{
		Subject: "compliance.status.p.early", Sequence: 2, Stored: stored, Body: []byte(`{}`),
		Header: map[string][]string{"Nats-Msg-Id": {"m"}, "ce-time": {future}, "ce-large": {strings.Repeat("x", 40<<10)}}, // Which decides nothing.
	}
	b.bury(compliance.Rules{}, lost, early)
	b.bury(compliance.Rules{Partitions: 2, Partition: 1}, compliance.Envelope{
		Subject: "compliance.p.0.p.misplaced", Sequence: 3, Stored: stored, Body: []byte(`{}`),
	})
	reports, err := all(b.openDead(deadletter.Filter{}, replay.Position{}))
	if err != nil || len(reports) != 3 {
		t.Fatal(err, len(reports))
	}
	for _, i := range []int{0, 2} {
		if _, err := replay.Resend(&reports[i]); !errors.Is(err, replay.ErrRefused) {
			t.Errorf("%s: %v", reports[i].Envelope.Subject, err)
		}
	}
	o, err := replay.Resend(&reports[1])
	if err != nil {
		t.Fatal(err)
	}
	checkSame(t, compliance.Rules{}, early, wire(o, stored.AddDate(1, 0, 0)))
	if id := o.Header["ce-id"]; len(id) != 1 || id[0] != "m" {
		t.Errorf("ce-id %q", id)
	}
}
