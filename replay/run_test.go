package replay_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/publisher"
	"github.com/complianced/complianced/replay"
)

func (b *broker) sender() *publisher.Publisher {
	b.Helper()
	sender, err := publisher.New(b.nc, publisher.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(sender.Close)
	return sender
}

// answers has a worker's results sent by the hand of the test: what each returns, at
// the sequence that it returns.
func (b *broker) answers(result func(sequence uint64) (compliance.Result, bool)) {
	b.Helper()
	consumer, err := b.js.OrderedConsumer(b.Context(), "COMPLIANCE_STATUS", jetstream.OrderedConsumerConfig{})
	if err != nil {
		b.Fatal(err)
	}
	consuming, err := consumer.Consume(func(m jetstream.Msg) {
		at, err := m.Metadata()
		if err != nil {
			return
		}
		key, _, _ := compliance.ParseSubject(m.Subject())
		r, send := result(at.Sequence.Stream)
		if text, err := r.JSON(); err == nil && send {
			_ = b.nc.Publish(compliance.ResultSubject(key.Device, m.Headers().Get(compliance.HeaderReply)), text)
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		consuming.Stop()
		<-consuming.Closed()
	})
}

func TestEachResultIsOfItsReport(t *testing.T) {
	b := startBroker(t, 1)
	b.answers(func(n uint64) (compliance.Result, bool) {
		r := compliance.Result{Stream: "COMPLIANCE_STATUS", Sequence: n, Outcome: compliance.Outcomes()[n%4]}
		switch n % 10 {
		case 0:
			return r, false // It is lost.
		case 1:
			r.Sequence++ // It is of another copy.
		}
		return r, true
	})
	source := numbered(200)
	(*source)[7].Envelope.Header = map[string][]string{"ce-id": {"x "}}
	(*source)[8].Misplaced = true
	(*source)[9].Envelope.Subject = "compliance.status.p"
	passed := 0
	table, err := replay.Run(t.Context(), source, b.sender(), replay.Options{
		Results: b.nc, ResultTimeout: 300 * time.Millisecond, Passed: func() { passed++ },
	})
	if err != nil || passed != 200 {
		t.Fatal(err, passed)
	}
	// 198 are stored. Which sequence has the one without a device is a matter of chance,
	// so that it may have one of the results.
	if table.Reports != 200 || table.Failed != 1 || table.NoResult < 37 || table.NoResult > 40 || table.Accepted != 0 ||
		table.Applied < 35 || table.Unchanged < 35 || table.Stale < 35 || table.Rejected < 35 {
		t.Errorf("%+v", table)
	}
}

func TestReportsOfOneRecordKeepTheirOrder(t *testing.T) {
	b := startBroker(t, 1)
	source := numbered(600)
	table, err := replay.Run(t.Context(), source, b.sender(), replay.Options{})
	if err != nil || table != (replay.Table{Reports: 600, Accepted: 600}) {
		t.Fatal(err, table)
	}
	reports, err := all(b.open(replay.Selection{}))
	if err != nil || len(reports) != 600 {
		t.Fatal(err, len(reports))
	}
	last := map[string]int{}
	for _, r := range reports {
		n, sent := 0, r.Envelope.Header[compliance.HeaderEventTime]
		if len(sent) != 1 {
			t.Fatal(r.Envelope.Header)
		}
		if _, err := fmt.Sscanf(string(r.Envelope.Body), `{"platform":%d}`, &n); err != nil {
			t.Fatal(err)
		}
		if before, seen := last[r.Envelope.Subject]; seen && n < before {
			t.Fatalf("report %d of a record after its report %d", n, before)
		}
		last[r.Envelope.Subject] = n
	}
}

func TestAReplayThatIsNotAllowedStops(t *testing.T) {
	b := startBroker(t, 1)
	sender := b.sender()
	sender.Close()
	var saved replay.Position
	table, err := replay.Run(t.Context(), numbered(10), sender, replay.Options{Save: func(p replay.Position) error {
		saved = p
		return nil
	}})
	if !errors.Is(err, publisher.ErrClosed) || table.Reports > 0 || saved.Passed > 0 {
		t.Errorf("%v: %+v, %+v", err, table, saved)
	}
}

func TestAPositionThatCannotBeKeptStopsTheReplay(t *testing.T) {
	b := startBroker(t, 1)
	full := errors.New("the disk is full")
	_, err := replay.Run(t.Context(), numbered(5000), b.sender(), replay.Options{
		Rate: 100, Save: func(replay.Position) error { return full },
	})
	if !errors.Is(err, full) {
		t.Error(err)
	}
}

func TestAnInterruptedReplayPassesWhatIsAccepted(t *testing.T) {
	b := startBroker(t, 1)
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	n := 0
	var saved replay.Position
	_, err := replay.Run(ctx, numbered(5000), b.sender(), replay.Options{
		Rate: 2000,
		Passed: func() {
			if n++; n == 100 {
				interrupt()
			}
		},
		Save: func(p replay.Position) error {
			saved = p
			return nil
		},
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	stream, err := b.js.Stream(t.Context(), "COMPLIANCE_STATUS")
	if err != nil {
		t.Fatal(err)
	}
	if sent := stream.CachedInfo().State.Msgs; saved.Passed != sent || sent < 100 || sent == 5000 {
		t.Errorf("%d sent, %d passed", sent, saved.Passed)
	}
	// By number, as numbered is no stream.
	saved.Reached = nil
	table, err := replay.Run(t.Context(), numbered(5000), b.sender(), replay.Options{From: saved})
	if err != nil || table.Reports != 5000 || table.Accepted != 5000 {
		t.Errorf("%v: %+v", err, table)
	}
	if info, err := stream.Info(t.Context()); err != nil || info.State.Msgs != 5000 {
		t.Errorf("%v: %d sent in all", err, info.State.Msgs)
	}
	if _, err := replay.Run(t.Context(), numbered(10), b.sender(), replay.Options{From: saved}); err == nil || !strings.Contains(err.Error(), "fewer") {
		t.Error(err)
	}
	for what, change := range map[string]func(list) list{
		"one is gone":          func(l list) list { return l[1:] },
		"one has another body": func(l list) list { l[7].Envelope.Body = []byte(`{}`); return l },
		"two changed places":   func(l list) list { l[3], l[4] = l[4], l[3]; return l },
	} {
		other := change(*numbered(5000))
		again := saved
		_, err := replay.Run(t.Context(), &other, b.sender(), replay.Options{From: saved, Save: func(p replay.Position) error {
			again = p
			return nil
		}})
		if err == nil || !strings.Contains(err.Error(), "begin again without --resume") {
			t.Errorf("%s: %v", what, err)
		}
		if again.Passed != saved.Passed || again.Digest != saved.Digest || again.Table != saved.Table {
			t.Errorf("%s: the position moved from %+v to %+v", what, saved, again)
		}
	}
	if info, err := stream.Info(t.Context()); err != nil || info.State.Msgs != 5000 {
		t.Errorf("%v: %d sent in all", err, info.State.Msgs)
	}
}

// TestAHeaderThatCannotBeSentFailsNoReport has the names that clients in other languages
// let pass.
func TestAHeaderThatCannotBeSentFailsNoReport(t *testing.T) {
	b := startBroker(t, 1)
	source := numbered(1)
	(*source)[0].Envelope.Header = map[string][]string{"ce-a(b)": {"x"}, "ce-a/b": {"x"}, "ce-type": {"t"}}
	if table, err := replay.Run(t.Context(), source, b.sender(), replay.Options{}); err != nil || table.Accepted != 1 {
		t.Fatal(err, table)
	}
	if sent, err := all(b.open(replay.Selection{})); err != nil || len(sent) != 1 || sent[0].Envelope.Header["ce-type"] == nil {
		t.Error(err, sent)
	}
}

// TestWhatIsSentComesAsItWas sends odd headers over a real connection.
func TestWhatIsSentComesAsItWas(t *testing.T) {
	b := startBroker(t, 1)
	for _, header := range []nats.Header{
		{"ce-id": {"ü x"}, "ce-time": {""}, "traceparent": {"00"}},
		{"Nats-Msg-Id": {"m"}, "CE-TIME": {"2026-01-31T12:00:00+02:00"}, "ce-Type": {"t", "u"}},
		{"compliance-stored": {"no"}, "ce-time": {"2026-01-31T12:00Z"}},
		{},
	} {
		if _, err := b.js.PublishMsg(t.Context(), &nats.Msg{Subject: "compliance.status.p.d", Header: header, Data: []byte(`{"platform":1}`)}); err != nil {
			t.Fatal(err)
		}
	}
	before, err := all(b.open(replay.Selection{}))
	if err != nil {
		t.Fatal(err)
	}
	source := list(before)
	if table, err := replay.Run(t.Context(), &source, b.sender(), replay.Options{}); err != nil || table.Accepted != 4 {
		t.Fatal(err, table)
	}
	after, err := all(b.open(replay.Selection{From: 5}))
	if err != nil || len(after) != 4 {
		t.Fatal(err, len(after))
	}
	for i := range after {
		checkSame(t, compliance.Rules{}, before[i].Envelope, after[i].Envelope)
	}
	if diff := cmp.Diff([]string{"t", "u"}, after[1].Envelope.Header["ce-Type"]); diff != "" {
		t.Error(diff)
	}
}
