package ingest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/ingest"
	"github.com/complianced/complianced/store"
)

var single = compliance.Layout{Partitions: 1, Buckets: 4}

// letterOf returns the dead letter of a rejected report.
func letterOf(t *testing.T, e compliance.Envelope) ingest.DeadLetter {
	t.Helper()
	return letterUnder(t, compliance.Rules{}, e)
}

func letterUnder(t *testing.T, rules compliance.Rules, e compliance.Envelope) ingest.DeadLetter {
	t.Helper()
	if e.Subject == "" {
		e.Subject = "compliance.status.p.d"
	}
	if e.Body == nil {
		e.Body = []byte("{")
	}
	e.Sequence, e.Stored = max(e.Sequence, 1), time.Unix(1_800_000_000, 5).UTC()
	_, rejection := rules.Decode(&e)
	if rejection == nil {
		t.Fatal("the report is a good one")
	}
	return ingest.DeadLetter{Stream: "COMPLIANCE_STATUS", Envelope: e, Rejection: rejection}
}

// ownHeaders returns a dead letter's headers without those that the server adds.
func ownHeaders(m *jetstream.RawStreamMsg) nats.Header {
	for _, added := range []string{"Nats-Sequence", "Nats-Stream", "Nats-Subject", "Nats-Time-Stamp"} {
		m.Header.Del(added)
	}
	return m.Header
}

// goesOn checks that the report after a bad one is merged, and returns the dead
// letter of the bad one.
func (b *broker) goesOn() nats.Header {
	b.Helper()
	b.publish("compliance.status.p.e", `{"status":"error"}`)
	sink := store.NewMemory(0)
	b.run(sink, nil)
	b.settled(sink)
	if record, _ := sink.Get(b.Context(), compliance.Key{Policy: "p", Device: "e"}); record.Status() != compliance.StatusError {
		b.Error("the report after the bad one is not merged")
	}
	subjects, letter := b.letters()
	if len(subjects) != 1 {
		b.Fatalf("want one dead letter, have %v", subjects)
	}
	return ownHeaders(letter)
}

func TestAReplyThatNoSubjectCanHoldDoesNotStopTheWorker(t *testing.T) {
	b := startBroker(t, single)
	sink := store.NewMemory(0)
	b.run(sink, nil)
	results, err := b.nc.SubscribeSync("compliance.result.>")
	if err != nil {
		t.Fatal(err)
	}
	b.publish("compliance.status.p.d", `{"status":"error"}`, "Compliance-Reply", strings.Repeat("x", 5000))
	b.settled(sink) // The server has the result, if there is one, before the next report.
	b.publish("compliance.status.p.d", `{"status":"compliant"}`, "Compliance-Reply", strings.Repeat("x", compliance.MaxReplyLength))
	if m, err := results.NextMsg(10 * time.Second); err != nil || m.Subject != compliance.ResultSubject("d", strings.Repeat("x", compliance.MaxReplyLength)) {
		t.Errorf("%v, %v", m, err)
	}
	b.settled(sink)
	if record, _ := sink.Get(t.Context(), compliance.Key{Policy: "p", Device: "d"}); record.Status() != compliance.StatusCompliant {
		t.Error(record.Status())
	}
	if b.nc.IsClosed() || b.nc.Stats().Reconnects > 0 {
		t.Errorf("the server closed the connection: %v", b.nc.LastError())
	}
}

func TestADeadLetterKeepsAsManyHeadersAsTheServerTakes(t *testing.T) {
	b := startBroker(t, single)
	large := func(n int) string { return strings.Repeat("x", n<<10) }
	b.publish("compliance.status.p.d", `{`, "ce-a", "small", "ce-aa", large(30), "ce-b", large(33), "ce-c", "small", "ce-id", "7", "other", "not kept")
	headers := b.goesOn()
	if headers.Get("Compliance-Code") != "malformedJson" || headers.Get("ce-a") != "small" || headers.Get("ce-c") != "small" || headers.Get("ce-id") != "7" || headers["ce-aa"] == nil {
		t.Errorf("%v", headers)
	}
	if dropped := headers.Get("Compliance-Dropped-Headers"); dropped != "1" || headers["ce-b"] != nil || headers["Compliance-Dropped-Deciding"] != nil || headers["Compliance-Dropped-Body"] != nil {
		t.Errorf("dropped: %q; %v", dropped, headers)
	}
}

func TestADeadLetterKeepsWhatDecidesFirst(t *testing.T) {
	for name, c := range map[string]struct {
		header                 map[string][]string
		kept                   string
		dropped, ofThoseDecide string
	}{
		"others make way": {
			map[string][]string{"CE-A": {strings.Repeat("a", 20<<10)}, "CE-ID": {"i"}, "ce-time": {strings.Repeat("t", 20<<10)}, "Compliance-Retry-Of": {"S.1"}, "Compliance-Stored": {"s"}},
			"CE-ID Compliance-Report-Compliance-Stored Compliance-Retry-Of ce-time", "1", "",
		},
		"one does not fit": {
			map[string][]string{"ce-a": {"a"}, "ce-id": {strings.Repeat("i", 33<<10)}, "ce-time": {"t"}},
			"ce-a ce-time", "1", "1",
		},
		"both": {
			map[string][]string{"ce-a": {strings.Repeat("a", 33<<10)}, "Nats-Msg-Id": {strings.Repeat("i", 33<<10)}, "traceparent": {"t"}},
			"traceparent", "2", "1",
		},
	} {
		js := &fakeJetStream{answer: func(*nats.Msg) error { return nil }}
		if _, err := ingest.NewPublisher(js).Bury(t.Context(), []ingest.DeadLetter{letterOf(t, compliance.Envelope{Header: c.header})}); err != nil {
			t.Fatal(err)
		}
		h := js.messages[0].Header
		have := []string{}
		for name := range h {
			if (compliance.Deciding(name) || strings.HasPrefix(strings.ToLower(name), "ce-") || name == "traceparent") && len(h[name]) > 0 {
				have = append(have, name)
			}
		}
		slices.Sort(have)
		if strings.Join(have, " ") != c.kept || h.Get("Compliance-Dropped-Headers") != c.dropped || h.Get("Compliance-Dropped-Deciding") != c.ofThoseDecide {
			t.Errorf("%s: %v, dropped %q, of those %q", name, have, h.Get("Compliance-Dropped-Headers"), h.Get("Compliance-Dropped-Deciding"))
		}
	}
}

func TestHeaderNamesThatTheClientDoesNotWriteAreDropped(t *testing.T) {
	for _, name := range []string{"ce-a b", "ce-\u00e4", "ce-\x7f"} {
		t.Run(name, func(t *testing.T) {
			b := startBroker(t, single)
			b.publishRaw("compliance.status.p.d", name+": x\r\nce-good: y\r\n", "{")
			headers := b.goesOn()
			if headers.Get("Compliance-Dropped-Headers") != "1" || headers.Get("ce-good") != "y" {
				t.Errorf("%v", headers)
			}
		})
	}
}

// publishRaw publishes what nats.go refuses to write.
func (b *broker) publishRaw(subject, headers, body string) {
	b.Helper()
	var dialer net.Dialer
	conn, err := dialer.DialContext(b.Context(), "tcp", b.server.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	header := "NATS/1.0\r\n" + headers + "\r\n"
	fmt.Fprintf(conn, "CONNECT {\"headers\":true,\"verbose\":false}\r\nHPUB %s %d %d\r\n%s%s\r\nPING\r\n",
		subject, len(header), len(header)+len(body), header, body)
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		if line := lines.Text(); strings.HasPrefix(line, "-ERR") {
			b.Fatal(line)
		} else if line == "PONG" {
			return
		}
	}
	b.Fatal("the server closed the connection")
}

func TestBuryDoesNotWaitForAServerThatDoesNotAcknowledge(t *testing.T) {
	b := startBroker(t, single)
	// Somebody hears the dead letter, so that there are responders, and it is not
	// the stream.
	heard, err := b.nc.SubscribeSync("compliance.dead.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.js.DeleteStream(t.Context(), ingest.DeadStream); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	fresh, err := ingest.NewPublisher(b.js).Bury(ctx, []ingest.DeadLetter{letterOf(t, compliance.Envelope{})})
	if !errors.Is(err, context.DeadlineExceeded) || fresh != nil {
		t.Errorf("%v, %d fresh", err, len(fresh))
	}
	if _, err := heard.NextMsg(10 * time.Second); err != nil {
		t.Error(err)
	}
}

// fakeJetStream stands for JetStream where what it answers is the point.
type fakeJetStream struct {
	jetstream.JetStream
	answer func(*nats.Msg) error
	// refuse is what the client says, before anything is sent.
	refuse func(*nats.Msg) error

	mu       sync.Mutex
	messages []*nats.Msg
}

// errSilent is no answer.
var errSilent = errors.New("silent")

func (s *fakeJetStream) PublishMsgAsync(m *nats.Msg, _ ...jetstream.PublishOpt) (jetstream.PubAckFuture, error) {
	s.mu.Lock()
	s.messages = append(s.messages, m)
	s.mu.Unlock()
	if s.refuse != nil {
		if err := s.refuse(m); err != nil {
			return nil, err
		}
	}
	f := fakeFuture{ok: make(chan *jetstream.PubAck, 1), err: make(chan error, 1), m: m}
	switch err := s.answer(m); {
	case err == nil:
		f.ok <- &jetstream.PubAck{}
	case !errors.Is(err, errSilent):
		f.err <- err
	}
	return f, nil
}

type fakeFuture struct {
	ok  chan *jetstream.PubAck
	err chan error
	m   *nats.Msg
}

func (f fakeFuture) Ok() <-chan *jetstream.PubAck { return f.ok }
func (f fakeFuture) Err() <-chan error            { return f.err }
func (f fakeFuture) Msg() *nats.Msg               { return f.m }

func TestBuryGivesUpAnAcknowledgementThatNeverComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var letters []ingest.DeadLetter
		for n := range 3 {
			letters = append(letters, letterOf(t, compliance.Envelope{Sequence: uint64(n + 1)}))
		}
		// The one in the middle is not acknowledged; the others are fresh.
		js := &fakeJetStream{answer: func(m *nats.Msg) error {
			if m.Header.Get("Compliance-Sequence") == "2" {
				return errSilent
			}
			return nil
		}}
		began := time.Now()
		fresh, err := ingest.NewPublisher(js).Bury(t.Context(), letters)
		if err == nil || !strings.Contains(err.Error(), "no acknowledgement came; does the stream have a leader?") {
			t.Error(err)
		}
		if took := time.Since(began); took != ingest.BuryWithin {
			t.Errorf("it took %v", took)
		}
		if len(fresh) != 2 || fresh[0].Envelope.Sequence != 1 || fresh[1].Envelope.Sequence != 3 {
			t.Errorf("fresh: %d", len(fresh))
		}
	})
}

func TestALetterThatTheServerRefusesForGoodIsKeptBare(t *testing.T) {
	b := startBroker(t, single)
	stream, err := b.js.Stream(t.Context(), ingest.DeadStream)
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	config.MaxMsgSize = 4 << 10
	if _, err := b.js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	b.publish("compliance.status.p.d", `{"userName":1,"x":"`+strings.Repeat("x", 8<<10)+`"}`, "ce-a", "1", "ce-id", "2", "other", "not kept")
	headers := b.goesOn()
	_, letter := b.letters()
	if headers.Get("Compliance-Dropped-Headers") != "2" || headers.Get("Compliance-Dropped-Deciding") != "1" || headers.Get("Compliance-Dropped-Body") != "8213" || headers["ce-a"] != nil || len(letter.Data) != 0 || headers.Get("Compliance-Code") == "" {
		t.Errorf("%d bytes, %v", len(letter.Data), headers)
	}
}

func TestALetterThatTheServerDoesNotTakeAtAllIsKeptBare(t *testing.T) {
	b := startBroker(t, single)
	b.publish("compliance.status.p.d", `{"userName":1,"x":"`+strings.Repeat("x", 12<<10)+`"}`)
	// From now on its server takes less than the report has, as after a move to
	// another one.
	b.change = func(o *server.Options) { o.MaxPayload = 8 << 10 }
	b.restart(func() {})
	headers := b.goesOn()
	_, letter := b.letters()
	if headers["Compliance-Dropped-Headers"] != nil || headers.Get("Compliance-Dropped-Body") != "12309" || len(letter.Data) != 0 || headers.Get("Compliance-Code") != "typeMismatch" {
		t.Errorf("%d bytes, %v", len(letter.Data), headers)
	}
}

func TestOnlyARefusalForGoodMakesALetterBare(t *testing.T) {
	refusedBy := func(code jetstream.ErrorCode) error { return &jetstream.APIError{ErrorCode: code} }
	for _, c := range []struct {
		name string
		// server is what the server answers, client what the client says at once.
		server, client error
		bare           bool
		fresh          int
		fails          bool
	}{
		{"the message is too large", refusedBy(10054), nil, true, 1, false},
		{"its headers are too large", refusedBy(10097), nil, true, 1, false},
		{"the client knows that it is too large", nil, nats.ErrMaxPayload, true, 1, false},
		{"it is already there", refusedBy(jetstream.JSErrCodeStreamWrongLastSequence), nil, false, 0, false},
		{"the stream is full", refusedBy(10077), nil, false, 0, true},
		{"the client is closed", nil, nats.ErrConnectionClosed, false, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			whole := func(err error) func(*nats.Msg) error {
				return func(m *nats.Msg) error {
					if len(m.Data) == 0 {
						return nil
					}
					return err
				}
			}
			js := &fakeJetStream{answer: whole(c.server), refuse: whole(c.client)}
			letter := letterOf(t, compliance.Envelope{Header: map[string][]string{"ce-a": {"1"}}})
			fresh, err := ingest.NewPublisher(js).Bury(t.Context(), []ingest.DeadLetter{letter})
			if bare := len(js.messages) == 2; bare != c.bare || len(fresh) != c.fresh || (err != nil) != c.fails {
				t.Errorf("%d messages, %d fresh, %v", len(js.messages), len(fresh), err)
			}
		})
	}
}

func TestLettersThatWereSentBeforeOneThatCannotBeAreFresh(t *testing.T) {
	var letters []ingest.DeadLetter
	for n := range 5 {
		letters = append(letters, letterOf(t, compliance.Envelope{Sequence: uint64(n + 1)}))
	}
	of := func(m *nats.Msg) string { return m.Header.Get("Compliance-Sequence") }
	js := &fakeJetStream{
		answer: func(m *nats.Msg) error {
			switch of(m) {
			case "2":
				return &jetstream.APIError{ErrorCode: jetstream.JSErrCodeStreamWrongLastSequence}
			case "3":
				return &jetstream.APIError{ErrorCode: 10077}
			}
			return nil
		},
		refuse: func(m *nats.Msg) error {
			if of(m) == "4" {
				return nats.ErrReconnectBufExceeded
			}
			return nil
		},
	}
	fresh, err := ingest.NewPublisher(js).Bury(t.Context(), letters)
	if len(fresh) != 1 || fresh[0].Envelope.Sequence != 1 {
		t.Errorf("fresh: %v", fresh)
	}
	if api, ok := errors.AsType[*jetstream.APIError](err); !errors.Is(err, nats.ErrReconnectBufExceeded) || !ok || api.ErrorCode != 10077 {
		t.Error(err)
	}
	if len(js.messages) != 4 {
		t.Errorf("%d letters were sent", len(js.messages))
	}
}

func TestDeadLettersAreKeptAgainAfterManyLostAcknowledgements(t *testing.T) {
	b := startBroker(t, single)
	// Somebody hears the dead letters, and it is not the stream.
	if _, err := b.nc.SubscribeSync("compliance.dead.>"); err != nil {
		t.Fatal(err)
	}
	if err := b.js.DeleteStream(t.Context(), ingest.DeadStream); err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(b.nc, jetstream.WithPublishAsyncTimeout(20*time.Millisecond), jetstream.WithPublishAsyncMaxPending(4))
	if err != nil {
		t.Fatal(err)
	}
	outlet := ingest.NewPublisher(js)
	letters := []ingest.DeadLetter{letterOf(t, compliance.Envelope{}), letterOf(t, compliance.Envelope{Sequence: 2})}
	for range 10 {
		if fresh, err := outlet.Bury(t.Context(), letters); !errors.Is(err, jetstream.ErrAsyncPublishTimeout) || fresh != nil {
			t.Fatalf("%v, %d fresh", err, len(fresh))
		}
	}
	b.provision()
	eventually(t, "both letters", func() bool {
		fresh, err := outlet.Bury(t.Context(), letters)
		return err == nil && len(fresh) == 0 // Not fresh the second time.
	})
	if subjects, _ := b.letters(); len(subjects) != 2 {
		t.Errorf("%v", subjects)
	}
}

func TestNoResultIsKeptForAServerThatIsAway(t *testing.T) {
	b := startBroker(t, single)
	results, err := b.nc.SubscribeSync("compliance.result.>")
	if err != nil {
		t.Fatal(err)
	}
	outlet := ingest.NewPublisher(b.js)
	reply := func(token string) error {
		return outlet.Reply(t.Context(), []ingest.Reply{{Device: "d", Token: token, Result: compliance.Result{Outcome: compliance.Applied}}})
	}
	b.restart(func() {
		eventually(t, "the end of the connection", func() bool { return !b.nc.IsConnected() })
		if err := reply("early"); err == nil || !strings.Contains(err.Error(), "no connection") {
			t.Error(err)
		}
	})
	if err := reply("late"); err != nil {
		t.Error(err)
	}
	if m, err := results.NextMsg(10 * time.Second); err != nil || m.Subject != "compliance.result.d.late" {
		t.Errorf("%v, %v", m, err)
	}
}

func TestADeadLetterHasTheDocumentedHeaders(t *testing.T) {
	layout := compliance.Layout{Partitions: 2, Buckets: 4}
	b := startBroker(t, layout)
	of := layout.PartitionOf("d")
	letter := letterUnder(t, compliance.Rules{Partitions: 2, Partition: of}, compliance.Envelope{
		Subject: "compliance.p." + strconv.Itoa(of) + ".p.d", Body: []byte(`{"status":"String"}`), Sequence: 7,
		Header: map[string][]string{
			"Ce-Type": {"a", "b"}, "ce-id": {"event"}, "TraceParent": {"00-1"}, "ce-": {"no"}, "tracestate": {"no"},
			"Nats-Msg-Id": {"no"}, "Compliance-Reply": {"no"}, "Nats-Rollup": {"all"}, "Nats-TTL": {"1s"},
		},
	})
	outlet := ingest.NewPublisher(b.js)
	for attempt, want := range []int{1, 0} {
		fresh, err := outlet.Bury(t.Context(), []ingest.DeadLetter{letter})
		if err != nil || len(fresh) != want {
			t.Errorf("attempt %d: %v, %d fresh", attempt, err, len(fresh))
		}
	}
	_, kept := b.letters()
	if kept.Subject != "compliance.dead.invalidStatus.COMPLIANCE_STATUS.7.1800000000000000005" || string(kept.Data) != `{"status":"String"}` {
		t.Errorf("%s %s", kept.Subject, kept.Data)
	}
	object := kept.Header.Get("Compliance-Error")
	for _, part := range []string{`"code":"badRequest"`, `"target":"status"`, `"code":"invalidStatus"`, `"request-id":"event"`, `"date":"2027-01-15T08:00:00`} {
		if !strings.Contains(object, part) {
			t.Errorf("no %s in %s", part, object)
		}
	}
	want := nats.Header{
		"Compliance-Code": {"invalidStatus"}, "Compliance-Property": {"status"}, "Compliance-Error": {object},
		"Compliance-Subject": {"compliance.status.p.d"}, "Compliance-Stream": {"COMPLIANCE_STATUS"}, "Compliance-Sequence": {"7"},
		"Compliance-Stored": {"2027-01-15T08:00:00.000000005Z"}, "Nats-Expected-Last-Subject-Sequence": {"0"},
		"Ce-Type": {"a", "b"}, "ce-id": {"event"}, "TraceParent": {"00-1"},
	}
	if diff := cmp.Diff(want, ownHeaders(kept)); diff != "" {
		t.Error(diff)
	}
}
