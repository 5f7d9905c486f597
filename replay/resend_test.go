package replay_test

import (
	"errors"
	"maps"
	"net/textproto"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/compliance/compliancetest"
	"github.com/complianced/complianced/publisher"
	"github.com/complianced/complianced/replay"
)

var stored = time.Date(2026, 5, 1, 12, 0, 0, 123456789, time.UTC)

// wire is what becomes of a report that is published and stored so much later.
func wire(o publisher.Outgoing, stored time.Time) compliance.Envelope {
	e := compliance.Envelope{Subject: o.Subject, Header: map[string][]string{}, Body: o.Body, Sequence: 99, Stored: stored}
	if e.Subject == "" {
		e.Subject = o.Key.Subject()
	}
	for name, values := range o.Header {
		for _, v := range values {
			e.Header[name] = append(e.Header[name], textproto.TrimString(strings.NewReplacer("\r", " ", "\n", " ").Replace(v)))
		}
	}
	return e
}

// checkSame fails where what is sent again does not decode to what was stored.
func checkSame(t rapid.TB, rules compliance.Rules, original, again compliance.Envelope) {
	t.Helper()
	want, refusedBefore := rules.Decode(&original)
	have, refused := rules.Decode(&again)
	switch {
	case (refusedBefore == nil) != (refused == nil):
		t.Fatalf("refused: before %+v, again %+v; %q, then %q", refusedBefore, refused, original.Header, again.Header)
	case refused != nil:
		if refused.Code() != refusedBefore.Code() {
			t.Fatalf("refused with %s, then with %s", refusedBefore.Code(), refused.Code())
		}
	default:
		if diff := cmp.Diff(want, have, cmpopts.IgnoreFields(compliance.Report{}, "Sequence", "Stored", "Reply")); diff != "" {
			t.Fatalf("another report: %s", diff)
		}
	}
	if again.Header[compliance.HeaderStored] == nil || len(again.Header[compliance.HeaderReply]) > 0 || len(again.Header["Nats-Msg-Id"]) > 0 {
		t.Fatalf("headers %q", again.Header)
	}
}

func TestEachVectorIsTheSameReportAgain(t *testing.T) {
	for _, v := range compliancetest.Vectors(t) {
		t.Run(v.Group+"/"+v.Name, func(t *testing.T) {
			partitions := max(v.Rules.Partitions, 1)
			r := replay.NewReport(v.Envelope, "", partitions)
			o, err := replay.Resend(&r)
			_, rejection := v.Rules.Decode(&v.Envelope)
			switch {
			case errors.Is(err, replay.ErrRefused) && rejection != nil,
				errors.Is(err, replay.ErrUnsendable) && !publisher.ValidEventID(v.Envelope.IDHeader()):
				return
			case err != nil:
				t.Fatal(err)
			}
			for _, later := range []time.Duration{0, time.Second, 11 * time.Minute, 1000 * time.Hour} {
				again := wire(o, v.Envelope.Stored.Add(later))
				if _, ok := compliance.TicksOf(again.Stored); !ok {
					continue
				}
				if key, _, err := compliance.ParseSubject(again.Subject); partitions > 1 && err == nil {
					again.Subject = key.PartitionSubject(v.Rules.Partition)
				}
				checkSame(t, v.Rules, v.Envelope, again)
			}
		})
	}
}

func TestAReplayIsTheSameReport(t *testing.T) {
	times := []string{
		"", "yesterday", " 2026-05-01T12:00:00Z", "2026-05-01T12:00:00Z ", "2026-05-01T12:00:00Z", "0001-01-01T00:00:00Z",
		"2026-05-01T12:10:00.123456789Z", "2026-05-01T12:10:00.1234568Z", "2026-05-01T14:10:01+02:00", "9999-12-31T23:59:59.9999999Z",
		"2026-05-01T11:50:00.000000000Z", "2026-05-01T12:05:00.000000000Z", "2026-05-01T11:00:00.000000001Z", "2026-05-01T12:00:00.123456788Z",
	}
	ids := []string{"", "a", "b", " a", "a ", "a\tb", "ü", "\xff", "x\x00"}
	bodies := []string{
		`{}`, `{"status":"compliant"}`, `{"status":4}`, `{`, `[]`, `{"@removed":{}}`, `{"x":1,"status":null}`,
		`{"lastReportedDateTime":"2026-05-01T12:10:01Z"}`, `{"lastReportedDateTime":"2026-05-01T12:09:00Z"}`,
		`{"lastReportedDateTime":"0001-01-01T00:00:00Z"}`, `{"lastReportedDateTime":"never"}`, strings.Repeat("x", 17<<10),
		strings.Repeat("x", publisher.MaxReport-100),
	}
	subjects := []string{"compliance.status.p.d", "compliance.status.p.d.e", "compliance.status.p~.d", "compliance.status.d"}
	names := []string{
		"ce-id", "Ce-Id", "CE-ID", "Nats-Msg-Id", "nats-msg-id", "ce-time", "Ce-Time", "Compliance-Stored", "compliance-stored",
		"Compliance-Reply", "ce-type", "traceparent", "Other", "Nats-TTL", "Compliance-Retry-Of",
	}
	rapid.Check(t, func(t *rapid.T) {
		e := compliance.Envelope{
			Subject: rapid.SampledFrom(subjects).Draw(t, "subject"), Header: map[string][]string{},
			Body:   []byte(rapid.SampledFrom(bodies).Draw(t, "body")),
			Stored: stored, Sequence: 7,
		}
		for range rapid.IntRange(0, 5).Draw(t, "headers") {
			name := rapid.SampledFrom(names).Draw(t, "name")
			values := ids
			if strings.Contains(strings.ToLower(name), "time") || strings.HasSuffix(strings.ToLower(name), "stored") {
				values = times
			}
			e.Header[name] = rapid.SliceOfN(rapid.SampledFrom(values), 1, 2).Draw(t, "values")
		}
		o, err := replay.Resend(&replay.Report{Envelope: e})
		_, rejection := compliance.Decode(&e)
		if errors.Is(err, replay.ErrRefused) && rejection != nil {
			return
		}
		if errors.Is(err, replay.ErrUnsendable) && !publisher.ValidEventID(e.IDHeader()) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		again := wire(o, stored.Add(time.Duration(rapid.Int64Range(0, int64(24*time.Hour)).Draw(t, "later"))))
		checkSame(t, compliance.Rules{}, e, again)
		third, err := replay.Resend(&replay.Report{Envelope: again})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(o, third); diff != "" {
			t.Fatalf("the replay of a replay is another report: %s", diff)
		}
	})
}

// A Compliance-Stored after the store time decided nothing, and must not let in later what
// was refused.
func TestWhatWasTooEarlyStaysSo(t *testing.T) {
	for _, first := range []time.Duration{-time.Hour, 0, 5 * time.Minute, 24 * time.Hour} {
		e := compliance.Envelope{
			Subject: "compliance.status.p.d", Stored: stored, Body: []byte(`{}`),
			Header: map[string][]string{
				"Compliance-Stored": {compliance.FormatStored(stored.Add(first))},
				"ce-time":           {compliance.FormatStored(stored.Add(compliance.MaxFuture + 100))},
			},
		}
		if _, rejection := compliance.Decode(&e); rejection == nil || rejection.Code() != compliance.FutureEventTime {
			t.Fatal(rejection)
		}
		o, err := replay.Resend(&replay.Report{Envelope: e})
		if err != nil {
			t.Fatal(err)
		}
		checkSame(t, compliance.Rules{}, e, wire(o, stored.AddDate(0, 1, 0)))
	}
}

func TestAnIDThatCannotBeSentIsNotSentAsAnother(t *testing.T) {
	for _, id := range []string{" a", "a ", "a\tb", "\xff", "x\x00"} {
		for body, want := range map[string]error{`{}`: replay.ErrUnsendable, `{"status":4}`: replay.ErrRefused} {
			e := compliance.Envelope{Subject: "compliance.status.p.d", Stored: stored, Body: []byte(body), Header: map[string][]string{"ce-id": {id}}}
			if _, err := replay.Resend(&replay.Report{Envelope: e}); !errors.Is(err, want) {
				t.Errorf("%q with %s: %v", id, body, err)
			}
		}
	}
}

func TestWhatCannotBeSentIsToldByItself(t *testing.T) {
	for name, c := range map[string]struct {
		envelope compliance.Envelope
		want     error
	}{
		"a space in the subject":            {compliance.Envelope{Subject: "compliance.status.p.d\u00a0x"}, replay.ErrRefused},
		"a control character in it":         {compliance.Envelope{Subject: "compliance.status.p.\x01d"}, replay.ErrRefused},
		"a wildcard in it":                  {compliance.Envelope{Subject: "compliance.status.p.*"}, replay.ErrRefused},
		"a subject that is not UTF-8":       {compliance.Envelope{Subject: "compliance.status.p.\xff"}, replay.ErrRefused},
		"a subject that is too long":        {compliance.Envelope{Subject: "compliance.status.p." + strings.Repeat("d", 4000)}, replay.ErrRefused},
		"a report that is right and large":  {compliance.Envelope{Subject: "compliance.status.p.d", Header: map[string][]string{"ce-id": {strings.Repeat("x", 65480)}}, Body: []byte(`{}`)}, replay.ErrUnsendable},
		"a report that is wrong and large":  {compliance.Envelope{Subject: "compliance.status.p.d", Header: map[string][]string{"ce-id": {strings.Repeat("x", 65480)}}, Body: []byte(`[]`)}, replay.ErrRefused},
		"a wrong subject that can be sent":  {compliance.Envelope{Subject: "compliance.status.p.d.x", Body: []byte(`{}`)}, nil},
		"a wrong subject in UTF-8, as well": {compliance.Envelope{Subject: "compliance.status.p.ü", Body: []byte(`{}`)}, nil},
	} {
		c.envelope.Stored = stored
		if _, err := replay.Resend(&replay.Report{Envelope: c.envelope}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestWhatIsKeptOfAReport(t *testing.T) {
	e := compliance.Envelope{
		Subject: "compliance.status.p.d", Stored: stored, Body: []byte(`{"lastReportedDateTime":"2026-05-01T00:00:00Z"}`),
		Header: map[string][]string{
			"Nats-Msg-Id": {"m"}, "traceparent": {"00-1"}, "ce-source": {"s"}, "Compliance-Reply": {"t"}, "Other": {"x"},
			"Nats-Expected-Stream": {"S"}, "Compliance-Retry-Of": {"S.7"}, "ce-bad": {"a "},
		},
	}
	o, err := replay.Resend(&replay.Report{Envelope: e})
	if err != nil {
		t.Fatal(err)
	}
	want := publisher.Outgoing{
		Key: compliance.Key{Policy: "p", Device: "d"}, Body: e.Body, NoEventID: true, NoEventTime: true,
		Header: map[string][]string{
			"ce-id": {"m"}, "ce-time": {"2026-05-01T00:00:00.000000000Z"}, "Compliance-Stored": {"2026-05-01T12:00:00.123456789Z"},
			"traceparent": {"00-1"}, "ce-source": {"s"}, "Compliance-Retry-Of": {"S.7"},
		},
	}
	if diff := cmp.Diff(want, o); diff != "" {
		t.Error(diff)
	}
	e.Header = map[string][]string{"Compliance-Stored": {"2026-04-01T00:00:00.000000000Z"}}
	e.Body = []byte(`{}`)
	if o, err = replay.Resend(&replay.Report{Envelope: e}); err != nil {
		t.Fatal(err)
	}
	want.Body, want.Header = e.Body, map[string][]string{
		"ce-time": {"2026-05-01T12:00:00.123456700Z"}, "Compliance-Stored": {"2026-04-01T00:00:00.000000000Z"},
	}
	if diff := cmp.Diff(want, o); diff != "" {
		t.Error(diff)
	}
}

func TestKeptHeadersGiveWayWhereTheReportIsTooLarge(t *testing.T) {
	e := compliance.Envelope{
		Subject: "compliance.status.p.d", Stored: stored, Body: []byte(`{}`),
		Header: map[string][]string{"ce-id": {"a"}, "ce-large": {strings.Repeat("x", publisher.MaxReport-60)}},
	}
	o, err := replay.Resend(&replay.Report{Envelope: e})
	if err != nil {
		t.Fatal(err)
	}
	if names := slices.Sorted(maps.Keys(o.Header)); !slices.Equal(names, []string{"Compliance-Stored", "ce-id", "ce-time"}) {
		t.Errorf("%q", names)
	}
}
