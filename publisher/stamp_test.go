package publisher_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/publisher"
	"github.com/complianced/complianced/publisher/internal/natstest"
)

func TestAStampedReportIsSentAsItWasStamped(t *testing.T) {
	s := startServer(t)
	stream := s.stream(t)
	p := natstest.Publisher(t, s.ClientURL(), quick)
	stamper, err := publisher.NewStamper("d1", time.Now, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	report, err := stamper.Stamp(publisher.Outgoing{Key: key, Body: body, Header: map[string][]string{"traceparent": {"00-abc"}}})
	if err != nil {
		t.Fatal(err)
	}
	first, err := p.Publish(t.Context(), report)
	if err != nil {
		t.Fatal(err)
	}
	again, err := stamper.Stamp(report)
	if err != nil {
		t.Fatal(err)
	}
	second, err := p.Publish(t.Context(), again)
	if err != nil {
		t.Fatal(err)
	}
	if first.EventID != report.EventID || !first.EventTime.Equal(report.EventTime) || report.EventID == "" || report.EventTime.IsZero() {
		t.Errorf("stamped %s %v, sent %+v", report.EventID, report.EventTime, first)
	}
	if diff := cmp.Diff(stored(t, stream, first.Sequence).Header, stored(t, stream, second.Sequence).Header); diff != "" {
		t.Errorf("stamped twice (-once +twice):\n%s", diff)
	}
}

func TestAStamperGoesUpFromTheLastTime(t *testing.T) {
	noon := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	now := func() time.Time { return noon.Add(-time.Minute) }
	stamper, err := publisher.NewStamper("", now, noon)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		got, err := stamper.Stamp(publisher.Outgoing{Key: key})
		if want := noon.Add(time.Duration(n+1) * 100); err != nil || !got.EventTime.Equal(want) {
			t.Errorf("got %v, %v, want %v", got.EventTime, err, want)
		}
	}
}

func TestAStamperRefusesWhatCannotBeSent(t *testing.T) {
	if _, err := publisher.NewStamper("a.b", time.Now, time.Time{}); !errors.Is(err, publisher.ErrInvalidKey) {
		t.Errorf("got %v, want ErrInvalidKey", err)
	}
	if _, err := publisher.NewStamper("", time.Now, time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)); !errors.Is(err, publisher.ErrInvalidTime) {
		t.Errorf("got %v, want ErrInvalidTime", err)
	}
	stamper, err := publisher.NewStamper("d1", time.Now, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	for want, o := range map[error]publisher.Outgoing{
		publisher.ErrInvalidKey:    {Key: compliance.Key{Policy: "disk", Device: "d2"}},
		publisher.ErrInvalidHeader: {Key: key, Header: map[string][]string{"ce-id": {"x"}}},
		publisher.ErrTooLarge:      {Key: key, Body: make([]byte, publisher.MaxReport)},
	} {
		if _, err := stamper.Stamp(o); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
}

func TestAReportWithoutAKeyIsNotStamped(t *testing.T) {
	s, err := publisher.NewStamper("", time.Now, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Stamp(publisher.Outgoing{Subject: "compliance.status.p", Body: body}); !errors.Is(err, publisher.ErrInvalidKey) {
		t.Error(err)
	}
}

func TestAStamperRefusesHeadersAndTimesThatWouldBeLost(t *testing.T) {
	stamper, err := publisher.NewStamper("", time.Now, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "a:b", "a b", "a\x00", "a\r\nb", "\x7f", "é", "a\xff", "a/b", "(a)", `a"b`, "a\tb"} {
		o := publisher.Outgoing{Key: key, Header: map[string][]string{name: {"x"}}}
		if _, err := stamper.Stamp(o); !errors.Is(err, publisher.ErrInvalidHeader) {
			t.Errorf("header name %q: %v, want ErrInvalidHeader", name, err)
		}
	}
	o := publisher.Outgoing{Key: key, Header: map[string][]string{"!#$%&'*+-.^_`|~09azAZ": {"x"}}}
	if _, err := stamper.Stamp(o); err != nil {
		t.Errorf("all characters that a name may have: %v", err)
	}
	o = publisher.Outgoing{Key: key, EventTime: time.Time{}.Add(99)}
	if _, err := stamper.Stamp(o); !errors.Is(err, publisher.ErrInvalidTime) {
		t.Errorf("a time that is cut to none: %v, want ErrInvalidTime", err)
	}
}
