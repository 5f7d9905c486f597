package deadletter_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/deadletter"
	"github.com/complianced/complianced/ingest"
	"github.com/complianced/complianced/internal/embedded"
)

// broker is a real nats-server with the streams of a deployment.
type broker struct {
	*testing.T
	js  jetstream.JetStream
	box *deadletter.Box
}

func setup(t *testing.T) *broker {
	t.Helper()
	server, err := embedded.StartNATS(t.Context(), embedded.NATSOptions{StoreDir: t.TempDir(), Port: embedded.FreePort})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	nc, err := nats.Connect(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	b := &broker{T: t}
	if b.js, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}
	if _, err := deadletter.Open(t.Context(), b.js); !errors.Is(err, deadletter.ErrNoStream) {
		t.Errorf("before there is a stream: %v", err)
	}
	if err := ingest.Provision(t.Context(), b.js, ingest.Provisioning{Layout: compliance.Layout{Partitions: 1, Buckets: 4}}); err != nil {
		t.Fatal(err)
	}
	if b.box, err = deadletter.Open(t.Context(), b.js); err != nil {
		t.Fatal(err)
	}
	return b
}

var began = time.Unix(1_800_000_000, 5).UTC()

// bury keeps the dead letter of a report, as a worker does.
func (b *broker) bury(e compliance.Envelope) *compliance.Rejection {
	b.Helper()
	_, rejection := compliance.Decode(&e)
	if rejection == nil {
		b.Fatalf("%s is right", e.Body)
	}
	fresh, err := ingest.NewPublisher(b.js).Bury(b.Context(), []ingest.DeadLetter{{Stream: "COMPLIANCE_STATUS", Envelope: e, Rejection: rejection}})
	if err != nil || len(fresh) != 1 {
		b.Fatal(len(fresh), err)
	}
	return rejection
}

// list returns what Each hands over, with the errors in words.
func (b *broker) list(f deadletter.Filter) (letters []deadletter.Letter, unreadable []string) {
	b.Helper()
	err := b.box.Each(b.Context(), f, func(l deadletter.Letter, err error) error {
		if err != nil {
			unreadable = append(unreadable, err.Error())
			return nil
		}
		letters = append(letters, l)
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return letters, unreadable
}

func TestALetterHoldsTheReportAsItWas(t *testing.T) {
	b := setup(t)
	sent := compliance.Envelope{
		Subject: "compliance.p.3.pol.dev", Body: []byte("{\"platform\":\"8\",\n\"x\":\"\xff\"}"), Sequence: 7, Stored: began,
		Header: map[string][]string{
			"Nats-Msg-Id": {"m-1"}, "CE-Time": {"2026-01-01T00:00:00Z"}, "ce-type": {"t"}, "Secret": {"no"},
			"Compliance-Stored": {"2026-01-01T00:00:01.000000000Z"}, "Compliance-Retry-Of": {"COMPLIANCE_STATUS.3"},
		},
	}
	rejection := b.bury(sent)
	letter, err := b.box.Get(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if since := time.Since(letter.Buried); since < 0 || since > time.Hour {
		t.Errorf("buried %v ago", since)
	}
	letter.Buried = time.Time{}
	want := deadletter.Letter{
		Sequence: 1, Code: compliance.InvalidSubject, Error: rejection.ErrorObject(), Stream: "COMPLIANCE_STATUS", RetryOf: "COMPLIANCE_STATUS.3",
		Envelope: compliance.Envelope{
			Subject: "compliance.status.pol.dev", Body: sent.Body, Sequence: 7, Stored: began,
			Header: map[string][]string{
				"Nats-Msg-Id": {"m-1"}, "CE-Time": {"2026-01-01T00:00:00Z"}, "ce-type": {"t"},
				"Compliance-Stored": {"2026-01-01T00:00:01.000000000Z"}, "Compliance-Retry-Of": {"COMPLIANCE_STATUS.3"},
			},
		},
	}
	if diff := cmp.Diff(want, letter); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if letter.Report() != "COMPLIANCE_STATUS.7" {
		t.Error(letter.Report())
	}
	// All ways lead to the same letter.
	of, err := b.box.Of(t.Context(), "COMPLIANCE_STATUS", 7)
	listed, _ := b.list(deadletter.Filter{})
	for _, other := range append(listed, of) {
		other.Buried = time.Time{}
		if diff := cmp.Diff(want, other); diff != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	}
}

func TestAFilterTakesWhatMatchesAndNothingElse(t *testing.T) {
	b := setup(t)
	for i, e := range []compliance.Envelope{
		{Subject: "compliance.status.p.d", Body: []byte(`{`)},
		{Subject: "compliance.status.p.e", Body: []byte(`{"platform":null}`)},
		{Subject: "compliance.status.q.d", Body: []byte(`{`)},
		{Subject: "compliance.status.q.d.too.many", Body: []byte(`{}`)},
		{Subject: "compliance.status.q.e", Body: []byte(`{"status":null,"platform":1.5}`)},
	} {
		e.Sequence, e.Stored = uint64(i+1), began.Add(time.Duration(i)*time.Hour)
		b.bury(e)
	}
	at := func(n int) time.Time { return began.Add(time.Duration(n) * time.Hour) }
	for name, c := range map[string]struct {
		filter deadletter.Filter
		want   []uint64
	}{
		"nothing":   {deadletter.Filter{}, []uint64{1, 2, 3, 4, 5}},
		"a code":    {deadletter.Filter{Codes: []compliance.Code{compliance.MalformedJSON}}, []uint64{1, 3}},
		"two codes": {deadletter.Filter{Codes: []compliance.Code{compliance.NullNotAllowed, compliance.InvalidSubject, compliance.NullNotAllowed}}, []uint64{2, 4, 5}},
		"no letter": {deadletter.Filter{Codes: []compliance.Code{compliance.TooLarge}}, nil},
		"a policy":  {deadletter.Filter{Policy: "q"}, []uint64{3, 5}},
		"a device":  {deadletter.Filter{Device: "d"}, []uint64{1, 3}},
		"both":      {deadletter.Filter{Policy: "q", Device: "e"}, []uint64{5}},
		"since":     {deadletter.Filter{Since: at(2)}, []uint64{3, 4, 5}},
		"until":     {deadletter.Filter{Until: at(2)}, []uint64{1, 2, 3}},
		"between":   {deadletter.Filter{Since: at(1).Add(1), Until: at(3).Add(-1)}, []uint64{3}},
	} {
		t.Run(name, func(t *testing.T) {
			letters, unreadable := b.list(c.filter)
			var have []uint64
			for _, l := range letters {
				have = append(have, l.Sequence)
			}
			if !slices.Equal(have, c.want) || unreadable != nil {
				t.Errorf("%v, want %v; %q", have, c.want, unreadable)
			}
		})
	}
}

func TestAMessageThatIsNoLetterIsToldAndDoesNotStopTheList(t *testing.T) {
	b := setup(t)
	b.bury(compliance.Envelope{Subject: "compliance.status.p.d", Body: []byte(`{`), Sequence: 1, Stored: began})
	if _, err := b.js.Publish(t.Context(), "compliance.dead.other", []byte("secret")); err != nil {
		t.Fatal(err)
	}
	b.bury(compliance.Envelope{Subject: "compliance.status.p.d", Body: []byte(`{`), Sequence: 2, Stored: began})
	letters, unreadable := b.list(deadletter.Filter{Policy: "p"})
	if len(letters) != 2 || !slices.Equal(unreadable, []string{"message 2 of COMPLIANCE_DEAD is no dead letter: " + compliance.ErrDeadSubject.Error()}) {
		t.Errorf("%d letters, %q", len(letters), unreadable)
	}
	_, err := b.box.Get(t.Context(), 2)
	if wrong, ok := errors.AsType[*deadletter.UnreadableError](err); !ok || wrong.Sequence != 2 {
		t.Error(err)
	}
}

func TestALongListIsReadToItsEnd(t *testing.T) {
	b := setup(t)
	const n = 600
	for i := range n {
		b.bury(compliance.Envelope{Subject: "compliance.status.p.d", Body: []byte(`{`), Sequence: uint64(i + 1), Stored: began})
	}
	letters, _ := b.list(deadletter.Filter{})
	if len(letters) != n || letters[n-1].Sequence != n {
		t.Errorf("%d letters", len(letters))
	}
	stop := errors.New("enough")
	seen := 0
	err := b.box.Each(t.Context(), deadletter.Filter{}, func(deadletter.Letter, error) error {
		seen++
		return stop
	})
	if !errors.Is(err, stop) || seen != 1 {
		t.Errorf("%d seen: %v", seen, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	seen = 0
	err = b.box.Each(ctx, deadletter.Filter{}, func(deadletter.Letter, error) error {
		seen++
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) || seen != 1 {
		t.Errorf("%d seen: %v", seen, err)
	}
}

func TestALetterIsDeletedOnceAndForAll(t *testing.T) {
	b := setup(t)
	for i := range 3 {
		b.bury(compliance.Envelope{Subject: "compliance.status.p.d", Body: []byte(`{`), Sequence: uint64(i + 1), Stored: began})
	}
	for range 2 { // The second time it is gone already.
		if err := b.box.Delete(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
	}
	letters, _ := b.list(deadletter.Filter{})
	if len(letters) != 2 || letters[1].Sequence != 3 {
		t.Errorf("%d letters", len(letters))
	}
	for _, sequence := range []uint64{2, 9} {
		if _, err := b.box.Get(t.Context(), sequence); !errors.Is(err, deadletter.ErrNotFound) {
			t.Errorf("letter %d: %v", sequence, err)
		}
	}
	if _, err := b.box.Of(t.Context(), "COMPLIANCE_STATUS", 2); !errors.Is(err, deadletter.ErrNotFound) {
		t.Error(err)
	}
	if err := b.js.DeleteStream(t.Context(), compliance.DeadStream); err != nil {
		t.Fatal(err)
	}
	if err := b.box.Each(t.Context(), deadletter.Filter{}, nil); !errors.Is(err, deadletter.ErrNoStream) {
		t.Error(err)
	}
}

func ExampleParse() {
	_, err := deadletter.Parse(deadletter.Message{Subject: "compliance.dead.other", Sequence: 4})
	fmt.Println(err)
	// Output: message 4 of COMPLIANCE_DEAD is no dead letter: the subject is not compliance.dead.<code>.<stream>.<sequence>.<store time in Unix ns>
}
