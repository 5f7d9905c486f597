package publisher_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/publisher"
	"github.com/complianced/complianced/publisher/internal/natstest"
)

// standIn takes the reports in place of a stream, so that a test decides in
// which order PubAck and results come.
func standIn(tb testing.TB, s *natsServer, handle func(nc *nats.Conn, report *nats.Msg)) {
	tb.Helper()
	nc := s.connect(tb)
	if _, err := nc.Subscribe("compliance.status.>", func(m *nats.Msg) { handle(nc, m) }); err != nil {
		tb.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		tb.Fatal(err)
	}
}

// acknowledge sends the PubAck of stream S, sequence 7.
func acknowledge(report *nats.Msg) { report.Respond([]byte(`{"stream":"S","seq":7}`)) }

// answer sends a result as a worker does.
func answer(nc *nats.Conn, report *nats.Msg, result compliance.Result) {
	_, device, _ := strings.Cut(strings.TrimPrefix(report.Subject, "compliance.status."), ".")
	text, err := result.JSON()
	if err != nil {
		panic(err)
	}
	nc.Publish(compliance.ResultSubject(device, report.Header.Get("Compliance-Reply")), text)
}

// applied is the result of what acknowledge accepts.
func applied() compliance.Result {
	return compliance.Result{Outcome: compliance.Applied, Stream: "S", Sequence: 7, Record: []byte(`{"id":"d1"}`)}
}

func TestTheResultOfTheReportIsReturned(t *testing.T) {
	rejected := compliance.Result{
		Outcome: compliance.Rejected, Stream: "S", Sequence: 7,
		Error: &compliance.Error{Code: "badRequest", Message: "m", Inner: compliance.InnerError{Code: compliance.TooLarge}},
	}
	otherStream := applied()
	otherStream.Stream = "T"
	otherStream.Outcome = compliance.Stale
	for name, test := range map[string]struct {
		handle func(nc *nats.Conn, report *nats.Msg)
		want   compliance.Outcome
	}{
		"after the PubAck": {func(nc *nats.Conn, report *nats.Msg) {
			acknowledge(report)
			answer(nc, report, applied())
		}, compliance.Applied},
		"before the PubAck": {func(nc *nats.Conn, report *nats.Msg) {
			answer(nc, report, applied())
			acknowledge(report)
		}, compliance.Applied},
		"after the result of an earlier attempt": {func(nc *nats.Conn, report *nats.Msg) {
			answer(nc, report, compliance.Result{Outcome: compliance.Unchanged, Stream: "S", Sequence: 6})
			acknowledge(report)
			answer(nc, report, compliance.Result{Outcome: compliance.Unchanged, Stream: "S", Sequence: 8})
			answer(nc, report, otherStream)
			answer(nc, report, applied())
		}, compliance.Applied},
		"after what is no result": {func(nc *nats.Conn, report *nats.Msg) {
			acknowledge(report)
			nc.Publish(compliance.ResultSubject("d1", report.Header.Get("Compliance-Reply")), []byte("?"))
			answer(nc, report, applied())
		}, compliance.Applied},
		"of a rejected report": {func(nc *nats.Conn, report *nats.Msg) {
			acknowledge(report)
			answer(nc, report, rejected)
		}, compliance.Rejected},
	} {
		t.Run(name, func(t *testing.T) {
			s := startServer(t)
			standIn(t, s, test.handle)
			got, err := natstest.Publisher(t, s.ClientURL(), quick).PublishAndWait(t.Context(), publisher.Outgoing{Key: key, Body: body})
			if err != nil || got.Outcome != test.want || got.Sequence != 7 {
				t.Errorf("got %+v, %v, want %s", got, err, test.want)
			}
			if rejection := got.Error != nil; rejection != (test.want == compliance.Rejected) {
				t.Errorf("error %+v", got.Error)
			}
		})
	}
}

func TestAResultThatIsNotHeardIsNoFailure(t *testing.T) {
	s := startServer(t)
	s.stream(t)
	p := natstest.Publisher(t, s.ClientURL(), quick)
	_, err := p.PublishAndWait(within(t, 200*time.Millisecond), publisher.Outgoing{Key: key, Body: body})
	missing, ok := errors.AsType[*publisher.NoResultError](err)
	if !ok || missing.Ack.Stream != "COMPLIANCE_STATUS" || missing.Ack.Sequence != 1 || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v, want a NoResultError with the Ack", err)
	}
	if text := err.Error(); !strings.Contains(text, "accepted") || !strings.Contains(text, "COMPLIANCE_STATUS, sequence 1") {
		t.Errorf("%q does not say that the report is accepted, and where", text)
	}

	o := quick
	o.ResultTimeout = time.Millisecond
	_, err = natstest.Publisher(t, s.ClientURL(), o).PublishAndWait(t.Context(), publisher.Outgoing{Key: key, Body: body})
	if missing, ok = errors.AsType[*publisher.NoResultError](err); !ok || missing.Ack.Sequence != 2 {
		t.Errorf("got %v, want a NoResultError after ResultTimeout", err)
	}
}

func TestPublishAndWaitRefusesAnotherReplyHeader(t *testing.T) {
	s := startServer(t)
	s.stream(t)
	p := natstest.Publisher(t, s.ClientURL(), quick)
	report := publisher.Outgoing{Key: key, Body: body, Header: map[string][]string{"COMPLIANCE-REPLY": {"own"}}}
	if _, err := p.PublishAndWait(t.Context(), report); !errors.Is(err, publisher.ErrInvalidHeader) {
		t.Errorf("got %v, want ErrInvalidHeader", err)
	}
	if _, err := p.Publish(t.Context(), report); err != nil {
		t.Errorf("Publish passes it on: %v", err)
	}
}

// The whole way over a stream: a worker reads it and answers with the sequence
// that the stream gave.
func TestFiftyAskersHearTheirOwnResults(t *testing.T) {
	s := startServer(t)
	stream := s.stream(t)
	nc := s.connect(t)
	consumer, err := stream.OrderedConsumer(t.Context(), jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	worker, err := consumer.Consume(func(m jetstream.Msg) {
		meta, err := m.Metadata()
		if err != nil {
			t.Error(err)
			return
		}
		answer(nc, &nats.Msg{Subject: m.Subject(), Header: m.Headers()}, compliance.Result{
			Outcome: compliance.Applied, Stream: meta.Stream, Sequence: meta.Sequence.Stream, Record: m.Data(),
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { <-worker.Closed() }()
	defer worker.Stop()

	own := s.connect(t)
	p, err := publisher.New(own, quick)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	ctx := within(t, 20*time.Second)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			for range 10 {
				want := `{"deviceDisplayName":"d` + strconv.Itoa(i) + `"}`
				got, err := p.PublishAndWait(ctx, publisher.Outgoing{
					Key: compliance.Key{Policy: "disk", Device: "d" + strconv.Itoa(i)}, Body: []byte(want),
				})
				if err != nil || string(got.Record) != want {
					t.Errorf("got %+v, %v, want %s", got, err, want)
					return
				}
			}
		})
	}
	wg.Wait()
	if n := own.NumSubscriptions(); n != 2 {
		t.Errorf("%d subscriptions, want one for PubAcks and one for results", n)
	}
	token := stored(t, stream, 1).Header.Get("Compliance-Reply")
	report, rejection := compliance.Rules{}.Decode(&compliance.Envelope{
		Subject: key.Subject(), Header: map[string][]string{"Compliance-Reply": {token}}, Body: body,
		Sequence: 1, Stored: time.Now(),
	})
	if rejection != nil || token == "" || report.Reply != token {
		t.Errorf("a worker takes %q as %q, %v", token, report.Reply, rejection)
	}
}
