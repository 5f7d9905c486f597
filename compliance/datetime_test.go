package compliance_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/complianced/complianced/compliance"
)

// Forms that both take mean the same instant.
func TestDateTimeOffsetsMeanWhatTimeParseReads(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := func(name string, low, high int) int { return rapid.IntRange(low, high).Draw(t, name) }
		text := fmt.Sprintf("%04d-%02d-%02dT%02d:%02d:%02d", n("year", 0, 9999), n("month", 0, 13), n("day", 0, 32),
			n("hour", 0, 24), n("minute", 0, 60), n("second", 0, 60))
		text += rapid.StringMatching(`(\.[0-9]{1,12})?(Z|[+-](0[0-9]|1[0-3]):[0-5][0-9]|[+-]14:00)`).Draw(t, "rest")
		want, wantErr := time.Parse(time.RFC3339Nano, text)
		got, err := compliance.ParseDateTimeOffset(text)
		outside := want.UTC().Year() < 1 || want.UTC().Year() > 9999
		if (err == nil) != (wantErr == nil && !outside) {
			t.Fatalf("%s: %v, time.Parse says %v %v", text, err, want, wantErr)
		}
		if err != nil {
			return
		}
		if got.String() != text {
			t.Fatalf("%s became %s", text, got)
		}
		if !got.Ticks().Time().Equal(want.Truncate(100 * time.Nanosecond)) {
			t.Fatalf("%s is %v, want %v", text, got.Ticks().Time(), want)
		}
	})
}

func TestWhatIsNoDateTimeOffset(t *testing.T) {
	// time.Parse takes the first two.
	for _, text := range []string{"2026-01-02T03:04:05,5Z", "2026-01-02T3:04:05Z", "2026-01-02T03:04:05", ""} {
		if got, err := compliance.ParseDateTimeOffset(text); !errors.Is(err, compliance.ErrDateTime) || got != (compliance.DateTimeOffset{}) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

func TestTicksGoRound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ticks := compliance.Ticks(rapid.Uint64Range(0, 3155378975999999999).Draw(t, "ticks"))
		at := ticks.Time()
		if got, ok := compliance.TicksOf(at); got != ticks || !ok {
			t.Fatalf("%d is %v and becomes %d, %t", ticks, at, got, ok)
		}
		if got, ok := compliance.TicksOf(at.Add(99).In(time.FixedZone("", 5*3600))); got != ticks || !ok {
			t.Fatalf("99 ns later %d becomes %d, %t", ticks, got, ok)
		}
		text := at.Format("2006-01-02T15:04:05.0000000Z")
		if d, err := compliance.ParseDateTimeOffset(text); err != nil || d.Ticks() != ticks {
			t.Fatalf("%s is %d, %v, want %d", text, d.Ticks(), err, ticks)
		}
	})
}

// The values of DateTime.Ticks that .NET documents.
func TestTicksAreThoseOfDotNet(t *testing.T) {
	for text, want := range map[string]compliance.Ticks{
		"0001-01-01T00:00:00Z":         0,
		"1970-01-01T00:00:00Z":         621355968000000000,
		"2000-01-01T00:00:00Z":         630822816000000000,
		"9999-12-31T23:59:59.9999999Z": 3155378975999999999,
	} {
		if d, err := compliance.ParseDateTimeOffset(text); err != nil || d.Ticks() != want {
			t.Errorf("%s is %d, %v, want %d", text, d.Ticks(), err, want)
		}
	}
}

func TestInstantsOutsideTheYears1To9999HaveNoTicks(t *testing.T) {
	for _, at := range []time.Time{
		time.Date(1, 1, 1, 0, 0, 0, -1, time.UTC), time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(-5, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Unix(1<<62, 0), time.Unix(-1<<62, 0),
	} {
		if ticks, ok := compliance.TicksOf(at); ok || ticks != 0 {
			t.Errorf("%v has ticks %d", at, ticks)
		}
	}
	e := envelope(`{}`)
	e.Stored = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
	if _, rejection := compliance.Decode(e); rejection == nil || rejection.Code() != compliance.InvalidDateTime {
		t.Errorf("a store time in the year 10000: %v", rejection)
	}
}

func TestStoreTimesHaveNineDigits(t *testing.T) {
	at := time.Date(2026, 3, 4, 6, 6, 7, 120, time.FixedZone("", 3600))
	if got, want := compliance.FormatStored(at), "2026-03-04T05:06:07.000000120Z"; got != want {
		t.Errorf("the store time is %s, want %s", got, want)
	}
}
