package publisher_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/publisher"
	"github.com/complianced/complianced/publisher/internal/natstest"
)

func TestPublishStoresTheReport(t *testing.T) {
	s := startServer(t)
	stream := s.stream(t)
	p := natstest.Publisher(t, s.ClientURL(), quick)

	from := time.Now().Truncate(100 * time.Nanosecond)
	ack, err := p.Publish(t.Context(), publisher.Outgoing{
		Key: key, Body: body, Header: map[string][]string{"traceparent": {"00-abc"}, "Compliance-Stored": {"x", "y"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if ack.Stream != "COMPLIANCE_STATUS" || ack.Sequence != 1 || ack.Attempts != 1 {
		t.Errorf("ack %+v", ack)
	}
	if id, err := uuid.Parse(ack.EventID); err != nil || id.Version() != 7 {
		t.Errorf("event id %q, want a UUIDv7", ack.EventID)
	}
	if ack.EventTime.Before(from) || ack.EventTime.After(time.Now()) || ack.EventTime.Location() != time.UTC {
		t.Errorf("event time %v, want now in UTC", ack.EventTime)
	}
	msg := stored(t, stream, 1)
	want := nats.Header{
		"ce-id": {ack.EventID}, "ce-time": {ack.EventTime.Format("2006-01-02T15:04:05.0000000Z")},
		"traceparent": {"00-abc"}, "Compliance-Stored": {"x", "y"},
	}
	if diff := cmp.Diff(want, msg.Header); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	if msg.Subject != "compliance.status.disk.d1" || string(msg.Data) != string(body) {
		t.Errorf("stored %s %s", msg.Subject, msg.Data)
	}
	at, err := compliance.ParseDateTimeOffset(msg.Header.Get("ce-time"))
	if err != nil || !at.Ticks().Time().Equal(ack.EventTime) {
		t.Errorf("ce-time %v reads as %v, %v", msg.Header, at, err)
	}
}

func TestOutgoingDecidesIDAndTime(t *testing.T) {
	s := startServer(t)
	stream := s.stream(t)
	p := natstest.Publisher(t, s.ClientURL(), quick)
	at := time.Date(2026, 1, 31, 12, 0, 0, 123456789, time.FixedZone("", 3600))

	for name, test := range map[string]struct {
		o        publisher.Outgoing
		id, time []string
	}{
		"given":              {publisher.Outgoing{EventID: "id 1", EventTime: at}, []string{"id 1"}, []string{"2026-01-31T11:00:00.1234567Z"}},
		"given and left out": {publisher.Outgoing{EventID: "id 1", EventTime: at, NoEventID: true, NoEventTime: true}, []string{"id 1"}, []string{"2026-01-31T11:00:00.1234567Z"}},
		"left out":           {publisher.Outgoing{NoEventID: true, NoEventTime: true}, nil, nil},
		"of the headers": {publisher.Outgoing{
			NoEventID: true, NoEventTime: true,
			Header: map[string][]string{"ce-id": {"own"}, "ce-time": {"no time"}},
		}, []string{"own"}, []string{"no time"}},
	} {
		t.Run(name, func(t *testing.T) {
			test.o.Key, test.o.Body = key, body
			ack, err := p.Publish(t.Context(), test.o)
			if err != nil {
				t.Fatal(err)
			}
			if ack.EventID != test.o.EventID || !ack.EventTime.Equal(test.o.EventTime.Truncate(100)) {
				t.Errorf("ack %+v", ack)
			}
			header := stored(t, stream, ack.Sequence).Header
			if diff := cmp.Diff([][]string{test.id, test.time}, [][]string{header["ce-id"], header["ce-time"]}); diff != "" {
				t.Errorf("ce-id and ce-time (-want +got):\n%s", diff)
			}
		})
	}
}

func TestASubjectThatNamesNoRecordIsSentAsItIs(t *testing.T) {
	s := startServer(t)
	stream := s.stream(t)
	p := natstest.Publisher(t, s.ClientURL(), quick)
	for _, subject := range []string{"compliance.status.p", "compliance.status.p.d.e", "compliance.status.p.~d"} {
		ack, err := p.Publish(t.Context(), publisher.Outgoing{Subject: subject, Body: body})
		if err != nil {
			t.Fatal(err)
		}
		if have := stored(t, stream, ack.Sequence).Subject; have != subject {
			t.Errorf("%s is stored as %s", subject, have)
		}
	}
}

func TestWhatCannotBeSentIsNotSent(t *testing.T) {
	s := startServer(t, func(o *server.Options) { o.MaxPayload = 48 << 10 })
	stream := s.stream(t, func(c *jetstream.StreamConfig) { c.MaxMsgSize = 32 << 10 })
	anyDevice := natstest.Publisher(t, s.ClientURL(), quick)
	oneDevice := quick
	oneDevice.Device = "d1"
	ofOneDevice := natstest.Publisher(t, s.ClientURL(), oneDevice)
	header := func(name, value string) publisher.Outgoing {
		return publisher.Outgoing{Key: key, Header: map[string][]string{name: {value}}}
	}
	sized := func(n int) publisher.Outgoing { return publisher.Outgoing{Key: key, Body: make([]byte, n)} }
	year10000 := time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)

	for name, test := range map[string]struct {
		p    *publisher.Publisher
		o    publisher.Outgoing
		want error
	}{
		"no key":                       {anyDevice, publisher.Outgoing{}, publisher.ErrInvalidKey},
		"a device with a dot":          {anyDevice, publisher.Outgoing{Key: compliance.Key{Policy: "a", Device: "b.c"}}, publisher.ErrInvalidKey},
		"a wildcard":                   {anyDevice, publisher.Outgoing{Key: compliance.Key{Policy: "*", Device: "b"}}, publisher.ErrInvalidKey},
		"a subject of a record":        {anyDevice, publisher.Outgoing{Subject: "compliance.status.p.d"}, publisher.ErrInvalidKey},
		"a key and a subject":          {anyDevice, publisher.Outgoing{Key: key, Subject: "compliance.status.p"}, publisher.ErrInvalidKey},
		"another subject":              {anyDevice, publisher.Outgoing{Subject: "other.p.d"}, publisher.ErrInvalidKey},
		"a subject with a wildcard":    {anyDevice, publisher.Outgoing{Subject: "compliance.status.p.*.x"}, publisher.ErrInvalidKey},
		"a subject with a space":       {anyDevice, publisher.Outgoing{Subject: "compliance.status.p. d"}, publisher.ErrInvalidKey},
		"a subject that ends early":    {anyDevice, publisher.Outgoing{Subject: "compliance.status.p."}, publisher.ErrInvalidKey},
		"a subject beside one device":  {ofOneDevice, publisher.Outgoing{Subject: "compliance.status.p"}, publisher.ErrInvalidKey},
		"another device":               {ofOneDevice, publisher.Outgoing{Key: compliance.Key{Policy: "a", Device: "d2"}}, publisher.ErrInvalidKey},
		"a second event id":            {anyDevice, header("CE-ID", "x"), publisher.ErrInvalidHeader},
		"a second event time":          {anyDevice, header("Ce-Time", "x"), publisher.ErrInvalidHeader},
		"a header name with a space":   {anyDevice, header("a b", "x"), publisher.ErrInvalidHeader},
		"a header value of two lines":  {anyDevice, header("a", "x\r\ny"), publisher.ErrInvalidHeader},
		"an event id of two lines":     {anyDevice, publisher.Outgoing{Key: key, EventID: "a\nb"}, publisher.ErrInvalidHeader},
		"an event id with a space end": {anyDevice, publisher.Outgoing{Key: key, EventID: "a "}, publisher.ErrInvalidHeader},
		"an event id that is no UTF-8": {anyDevice, publisher.Outgoing{Key: key, EventID: "a\xff"}, publisher.ErrInvalidHeader},
		"the year 10000":               {anyDevice, publisher.Outgoing{Key: key, EventTime: year10000}, publisher.ErrInvalidTime},
		"more than any stream takes":   {anyDevice, sized(publisher.MaxReport), publisher.ErrTooLarge},
		"more than the server takes":   {anyDevice, sized(48 << 10), publisher.ErrTooLarge},
		"more than the stream takes":   {anyDevice, sized(32 << 10), publisher.ErrTooLarge},
		"a header for the stream alone": {anyDevice, header("Nats-Expected-Stream", "OTHER"), &publisher.RefusedError{
			Code: 400, ErrorCode: 10060, Description: "expected stream does not match",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := test.p.Publish(t.Context(), test.o)
			if !sameError(err, test.want) {
				t.Fatalf("got %v, want %v", err, test.want)
			}
			if strings.Contains(err.Error(), "d1") || strings.Contains(err.Error(), "d2") {
				t.Errorf("the error names a device: %v", err)
			}
		})
	}
	if n := count(t, stream); n != 0 {
		t.Errorf("%d reports stored", n)
	}
}

// sameError is errors.Is, and compares a RefusedError by what it holds.
func sameError(err, want error) bool {
	if refused, ok := errors.AsType[*publisher.RefusedError](want); ok {
		got, _ := errors.AsType[*publisher.RefusedError](err)
		return cmp.Equal(got, refused)
	}
	return errors.Is(err, want)
}

func TestWhatNoStreamTakesIsRefusedWithoutAServer(t *testing.T) {
	s := startServer(t)
	s.Stop()
	p := natstest.Publisher(t, s.ClientURL(), quick)
	_, err := p.Publish(within(t, 10*time.Second), publisher.Outgoing{Key: key, Body: make([]byte, publisher.MaxReport)})
	if !errors.Is(err, publisher.ErrTooLarge) {
		t.Errorf("got %v, want ErrTooLarge", err)
	}
}

func TestAClockOutsideOfTheYearsIsAnError(t *testing.T) {
	s := startServer(t)
	o := quick
	o.Now = func() time.Time { return time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC) }
	if _, err := natstest.Publisher(t, s.ClientURL(), o).Publish(t.Context(), publisher.Outgoing{Key: key}); !errors.Is(err, publisher.ErrInvalidTime) {
		t.Errorf("got %v, want ErrInvalidTime", err)
	}
}

func TestADuplicateIsNoAcceptance(t *testing.T) {
	s := startServer(t)
	stream := s.stream(t, func(c *jetstream.StreamConfig) { c.Duplicates = time.Minute })
	p := natstest.Publisher(t, s.ClientURL(), quick)
	report := publisher.Outgoing{Key: key, Body: body, Header: map[string][]string{"Nats-Msg-Id": {"same"}}}
	if _, err := p.Publish(t.Context(), report); err != nil {
		t.Fatal(err)
	}
	report.Key.Device = "d2"
	if ack, err := p.Publish(t.Context(), report); !errors.Is(err, publisher.ErrDuplicate) || ack != (publisher.Ack{}) {
		t.Errorf("got %+v, %v, want ErrDuplicate", ack, err)
	}
	if n := count(t, stream); n != 1 {
		t.Errorf("%d stored, want 1", n)
	}
}

func TestWithoutAStreamTheErrorSaysWhatToDo(t *testing.T) {
	s := startServer(t)
	p := natstest.Publisher(t, s.ClientURL(), quick)
	_, err := p.Publish(within(t, 300*time.Millisecond), publisher.Outgoing{Key: key, Body: body})
	unacked, ok := errors.AsType[*publisher.UnackedError](err)
	if !ok || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v, want an UnackedError at the deadline", err)
	}
	if unacked.Attempts < 2 || unacked.EventID == "" || unacked.EventTime.IsZero() {
		t.Errorf("%+v, want some attempts, the id and the time", unacked)
	}
	if !errors.Is(unacked.Last, publisher.ErrNoStream) && !errors.Is(unacked.Last, publisher.ErrNoAnswer) {
		t.Errorf("the last attempt: %v", unacked.Last)
	}

	o := quick
	o.MaxAttempts = 3
	_, err = natstest.Publisher(t, s.ClientURL(), o).Publish(t.Context(), publisher.Outgoing{Key: key, Body: body})
	unacked, ok = errors.AsType[*publisher.UnackedError](err)
	if !ok || unacked.Attempts != 3 || !errors.Is(err, publisher.ErrMaxAttempts) || !errors.Is(err, publisher.ErrNoStream) ||
		!strings.Contains(err.Error(), "complianced provision") {
		t.Errorf("got %v (%+v), want an UnackedError after 3 attempts that names complianced provision", err, unacked)
	}
}

func TestAReportGoesOnWhenTheStreamIsMade(t *testing.T) {
	s := startServer(t)
	nc := s.connect(t)
	p, err := publisher.New(nc, quick)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	done := start(func() (publisher.Ack, error) { return p.Publish(t.Context(), publisher.Outgoing{Key: key, Body: body}) })
	eventually(t, "an attempt", func() bool { return nc.Stats().OutMsgs >= 2 })
	s.stream(t)
	if got := <-done; got.err != nil || got.value.Attempts < 2 || got.value.Sequence != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestAFinishedContextSendsNothing(t *testing.T) {
	s := startServer(t)
	stream := s.stream(t)
	p := natstest.Publisher(t, s.ClientURL(), quick)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := p.Publish(ctx, publisher.Outgoing{Key: key, Body: body})
	unacked, ok := errors.AsType[*publisher.UnackedError](err)
	if !ok || unacked.Attempts != 0 || unacked.Last != nil || !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "not sent") {
		t.Errorf("got %v (%+v)", err, unacked)
	}
	if n := count(t, stream); n != 0 {
		t.Errorf("%d stored", n)
	}
}

func TestAContextEndsAPause(t *testing.T) {
	s := startServer(t)
	o := quick
	o.RetryWait = 1000 * time.Hour
	o.RetryWaitMax = 0
	ctx, cancel := context.WithCancel(t.Context())
	nc := s.connect(t)
	p, err := publisher.New(nc, o)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	done := start(func() (publisher.Ack, error) { return p.Publish(ctx, publisher.Outgoing{Key: key, Body: body}) })
	eventually(t, "an attempt that failed", func() bool { return nc.Stats().InMsgs >= 1 })
	cancel()
	if got := <-done; !errors.Is(got.err, context.Canceled) {
		t.Errorf("got %v, want the context's error", got.err)
	}
}

func TestALostPubAckStoresTheSameReportTwice(t *testing.T) {
	s := startServer(t)
	stream := s.stream(t)
	l := startLink(t, s)
	o := quick
	o.AckTimeout = 300 * time.Millisecond
	p := natstest.Publisher(t, l.url(), o)
	if _, err := p.Publish(t.Context(), publisher.Outgoing{Key: key, Body: body}); err != nil {
		t.Fatal(err)
	}
	l.deaf.Store(true)
	done := start(func() (publisher.Ack, error) { return p.Publish(t.Context(), publisher.Outgoing{Key: key, Body: body}) })
	eventually(t, "a report stored whose PubAck is lost", func() bool { return count(t, stream) >= 2 && l.lost.Load() > 0 })
	l.cut()
	l.deaf.Store(false)
	got := <-done
	if got.err != nil {
		t.Fatal(got.err)
	}
	if got.value.Attempts < 2 || got.value.Sequence < 3 {
		t.Errorf("ack %+v, want a later attempt", got.value)
	}
	first, last := stored(t, stream, 2), stored(t, stream, got.value.Sequence)
	if diff := cmp.Diff(first.Header, last.Header); diff != "" || string(first.Data) != string(last.Data) || first.Subject != last.Subject {
		t.Errorf("the copies differ (-first +last):\n%s", diff)
	}
	if first.Header.Get("ce-id") != got.value.EventID {
		t.Errorf("stored id %s, ack %+v", first.Header.Get("ce-id"), got.value)
	}
}

func TestAReportOutlivesARestartOfTheServer(t *testing.T) {
	s := startServer(t)
	stream := s.stream(t)
	lost := make(chan struct{}, 8)
	o := quick
	o.AckTimeout = 100 * time.Millisecond
	o.NATS = []nats.Option{
		nats.DisconnectErrHandler(func(*nats.Conn, error) { lost <- struct{}{} }),
	}
	p := natstest.Publisher(t, s.ClientURL(), o)
	if _, err := p.Publish(t.Context(), publisher.Outgoing{Key: key, Body: body}); err != nil {
		t.Fatal(err)
	}
	s.Stop()
	<-lost
	// An attempt that ends while the server is away, with an error that a program can keep.
	_, err := p.Publish(within(t, 150*time.Millisecond), publisher.Outgoing{Key: key, Body: body})
	unacked, ok := errors.AsType[*publisher.UnackedError](err)
	if !ok || !errors.Is(err, publisher.ErrNotConnected) || unacked.Attempts < 1 {
		t.Fatalf("got %v, want an UnackedError for want of a connection", err)
	}
	done := start(func() (publisher.Ack, error) {
		return p.Publish(t.Context(), publisher.Outgoing{Key: key, Body: body, EventID: unacked.EventID, EventTime: unacked.EventTime})
	})
	s.Start(t)
	got := <-done
	if got.err != nil || got.value.Sequence != 2 || got.value.EventID != unacked.EventID || !got.value.EventTime.Equal(unacked.EventTime) {
		t.Fatalf("got %+v, want sequence 2 with the id and time of %+v: what could not be sent left no copy", got, unacked)
	}
	if id := stored(t, stream, 2).Header.Get("ce-id"); id != unacked.EventID {
		t.Errorf("stored id %s, want %s", id, unacked.EventID)
	}
}

func TestManyReportsOutliveRestartsOfTheServer(t *testing.T) {
	s := startServer(t)
	stream := s.stream(t)
	o := quick
	o.AckTimeout = 200 * time.Millisecond
	p := natstest.Publisher(t, s.ClientURL(), o)
	var acked sync.Map
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				ack, err := p.Publish(t.Context(), publisher.Outgoing{Key: key, Body: body})
				if err != nil {
					t.Error(err)
					return
				}
				acked.Store(ack.Sequence, ack.EventID)
			}
		})
	}
	last := func() (n uint64) {
		acked.Range(func(sequence, _ any) bool { n = max(n, sequence.(uint64)); return true })
		return n
	}
	for range 3 {
		n := last()
		eventually(t, "reports between restarts", func() bool { return last() > n+50 })
		s.Stop()
		s.Start(t)
	}
	close(stop)
	wg.Wait()
	acked.Range(func(sequence, id any) bool {
		if got := stored(t, stream, sequence.(uint64)).Header.Get("ce-id"); got != id {
			t.Errorf("sequence %d holds %s, the ack said %s", sequence, got, id)
		}
		return !t.Failed()
	})
}

func TestAFullStreamIsTriedAgain(t *testing.T) {
	s := startServer(t)
	stream := s.stream(t, func(c *jetstream.StreamConfig) { c.MaxMsgs, c.Discard = 1, jetstream.DiscardNew })
	nc := s.connect(t)
	p, err := publisher.New(nc, quick)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := p.Publish(t.Context(), publisher.Outgoing{Key: key, Body: body}); err != nil {
		t.Fatal(err)
	}
	done := start(func() (publisher.Ack, error) { return p.Publish(t.Context(), publisher.Outgoing{Key: key, Body: body}) })
	eventually(t, "a refused attempt", func() bool { return nc.Stats().InMsgs >= 2 })
	if err := stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := <-done; got.err != nil || got.value.Attempts < 2 || got.value.Sequence != 2 {
		t.Errorf("got %+v", got)
	}
}

// A server answers with these in a cluster; here the test stands in for the
// stream.
func TestWhichAnswersAreTriedAgain(t *testing.T) {
	s := startServer(t)
	stream := s.connect(t)
	p := natstest.Publisher(t, s.ClientURL(), quick)
	for name, test := range map[string]struct {
		answer string
		want   error // nil: tried again
	}{
		"429 too many requests":       {`{"error":{"code":429,"err_code":10167,"description":"too many requests"}}`, nil},
		"503 temporarily unavailable": {`{"error":{"code":503,"err_code":10008,"description":"JetStream system temporarily unavailable"}}`, nil},
		"500 not the leader":          {`{"error":{"code":500,"err_code":10009,"description":"JetStream cluster can not handle request"}}`, nil},
		"400 account limits":          {`{"error":{"code":400,"err_code":10002,"description":"resource limits exceeded for account"}}`, nil},
		"409 id in process":           {`{"error":{"code":409,"err_code":10158,"description":"duplicate message id is in process"}}`, nil},
		"no answer of JetStream":      {`?`, publisher.ErrDriver},
		"400 sealed stream": {`{"error":{"code":400,"err_code":10109,"description":"invalid operation on sealed stream"}}`, &publisher.RefusedError{
			Code: 400, ErrorCode: 10109, Description: "invalid operation on sealed stream",
		}},
		"400 headers of more than 64 K": {`{"error":{"code":400,"err_code":10097,"description":"header size exceeds maximum allowed of 64k"}}`, publisher.ErrTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			attempts := 0
			ids := map[string]bool{}
			sub, err := stream.Subscribe("compliance.status.>", func(m *nats.Msg) {
				attempts++
				ids[m.Header.Get("ce-id")+m.Header.Get("ce-time")] = true
				answer := test.answer
				if attempts == 3 {
					answer = `{"stream":"S","seq":9}`
				}
				m.Respond([]byte(answer))
			})
			if err != nil {
				t.Fatal(err)
			}
			defer sub.Unsubscribe()
			if err := stream.Flush(); err != nil {
				t.Fatal(err)
			}
			ack, err := p.Publish(t.Context(), publisher.Outgoing{Key: key, Body: body})
			if test.want == nil && (err != nil || ack.Attempts != 3 || ack.Sequence != 9) {
				t.Errorf("got %+v, %v, want the third attempt accepted", ack, err)
			}
			if !sameError(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if len(ids) != 1 {
				t.Errorf("the attempts carry %d ids and times", len(ids))
			}
		})
	}
}

func TestTicksRiseUnderConcurrentPublishers(t *testing.T) {
	s := startServer(t)
	stream := s.stream(t)
	o := quick
	at := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	o.Now = func() time.Time { return at } // The clock stands still.
	p := natstest.Publisher(t, s.ClientURL(), o)
	const publishers, reports = 50, 20
	var wg sync.WaitGroup
	for i := range publishers {
		wg.Go(func() {
			var last time.Time
			for range reports {
				ack, err := p.Publish(t.Context(), publisher.Outgoing{
					Key: compliance.Key{Policy: "disk", Device: "d" + strconv.Itoa(i)}, Body: body,
				})
				if err != nil || !ack.EventTime.After(last) {
					t.Errorf("%+v, %v after %v", ack, err, last)
					return
				}
				last = ack.EventTime
			}
		})
	}
	wg.Wait()
	ids, times := map[string]bool{}, map[string]bool{}
	for n := range uint64(publishers * reports) {
		header := stored(t, stream, n+1).Header
		ids[header.Get("ce-id")], times[header.Get("ce-time")] = true, true
	}
	if len(ids) != publishers*reports || len(times) != publishers*reports {
		t.Errorf("%d ids and %d times of %d reports", len(ids), len(times), publishers*reports)
	}
	for n := range publishers * reports {
		want := at.Add(time.Duration(n) * 100 * time.Nanosecond).Format("2006-01-02T15:04:05.0000000Z")
		if !times[want] {
			t.Fatalf("no report has the tick %s", want)
		}
	}
}

// Stamping alone, without the round trips that keep publishers apart.
func TestNoTickIsGivenOutTwice(t *testing.T) {
	s := startServer(t)
	o := quick
	at := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	o.Now = func() time.Time { return at }
	p := natstest.Publisher(t, s.ClientURL(), o)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex
	seen := map[time.Time]bool{}
	const publishers, reports = 8, 5000
	for range publishers {
		wg.Go(func() {
			times := make([]time.Time, reports)
			for i := range times {
				_, err := p.Publish(ctx, publisher.Outgoing{Key: key})
				if unacked, ok := errors.AsType[*publisher.UnackedError](err); ok {
					times[i] = unacked.EventTime
				}
			}
			mu.Lock()
			defer mu.Unlock()
			for _, at := range times {
				seen[at] = true
			}
		})
	}
	wg.Wait()
	if len(seen) != publishers*reports {
		t.Errorf("%d times of %d reports", len(seen), publishers*reports)
	}
}

func TestTheClockIsFollowedBackFromFarAhead(t *testing.T) {
	s := startServer(t)
	s.stream(t)
	noon := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	now := noon
	o := quick
	o.Now = func() time.Time { return now }
	p := natstest.Publisher(t, s.ClientURL(), o)
	for _, step := range []struct{ clock, want time.Time }{
		{noon, noon},
		{noon, noon.Add(100)},
		{noon.Add(-9 * time.Minute), noon.Add(200)},
		{noon.Add(300), noon.Add(300)},
		{noon.Add(time.Hour), noon.Add(time.Hour)},
		{noon, noon},
		{noon.Add(-10 * time.Minute), noon.Add(100)},
		{noon.Add(-10 * time.Minute), noon.Add(-10 * time.Minute)},
	} {
		now = step.clock
		ack, err := p.Publish(t.Context(), publisher.Outgoing{Key: key, Body: body})
		if err != nil || !ack.EventTime.Equal(step.want) {
			t.Errorf("clock %v: event time %v, %v, want %v", step.clock, ack.EventTime, err, step.want)
		}
	}
}

func TestErrorTextsNameTheAttempts(t *testing.T) {
	err := error(&publisher.UnackedError{Attempts: 2, Why: publisher.ErrMaxAttempts, Last: publisher.ErrNoAnswer})
	if got, want := fmt.Sprint(err), "publish report: no PubAck after 2 attempts: all attempts used up; last attempt: no PubAck in time"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
