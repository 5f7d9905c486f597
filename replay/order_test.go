package replay_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/replay"
)

// list is a source on reports in memory.
type list []replay.Report

func (l *list) Next(context.Context) (replay.Report, error) {
	if len(*l) == 0 {
		return replay.Report{}, io.EOF
	}
	r := (*l)[0]
	*l = (*l)[1:]
	return r, nil
}

func numbered(n int) *list {
	l := make(list, n)
	for i := range l {
		l[i].Envelope = compliance.Envelope{
			Subject: fmt.Sprintf("compliance.status.p%d.d%d", i%3, i%5), Sequence: uint64(i), Stored: stored, Body: fmt.Appendf(nil, `{"platform":%d}`, i),
		}
	}
	return &l
}

func sequences(t *testing.T, source replay.Source) (list []int) {
	t.Helper()
	reports, err := all(source)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range reports {
		list = append(list, int(r.Envelope.Sequence))
	}
	return list
}

func TestAShuffleHasEveryReportOnce(t *testing.T) {
	const n = 2000
	for _, window := range []int{0, 1, 50_000} {
		first := sequences(t, replay.Shuffle(numbered(n), 7, window))
		if diff := cmp.Diff(first, sequences(t, replay.Shuffle(numbered(n), 7, window))); diff != "" {
			t.Errorf("the same seed gives another order: %s", diff)
		}
		if window != 1 && slices.Equal(first, sequences(t, replay.Shuffle(numbered(n), 8, window))) {
			t.Error("another seed gives the same order")
		}
		early := 0
		for at, sequence := range first {
			early = max(early, sequence-at)
		}
		// A report takes some 500 bytes of the window.
		if window == 50_000 && (early > 100 || early < 20) || window == 0 && early < n/2 || window == 1 && early > 0 {
			t.Errorf("window %d: a report comes %d early", window, early)
		}
		slices.Sort(first)
		for i, sequence := range first {
			if i != sequence {
				t.Fatalf("report %d is there %d times or not at all", i, sequence)
			}
		}
	}
}

func TestAFilterTakesWhatItNames(t *testing.T) {
	reports := list{}
	for _, r := range []struct{ subject, body string }{
		{"p.d", `{}`}, {"p.e", `{}`}, {"q.d", `{}`}, {"p.d", `{"status":4,"x":1}`}, {"p.d.e", `{}`}, {"q.e", `{"@removed":{}}`},
	} {
		reports = append(reports, replay.Report{Envelope: compliance.Envelope{
			Subject: "compliance.status." + r.subject, Sequence: uint64(len(reports)), Stored: stored, Body: []byte(r.body),
		}})
	}
	reports = append(reports, replay.Report{Misplaced: true, Envelope: compliance.Envelope{
		Subject: "compliance.status.p.d", Sequence: 6, Stored: stored, Body: []byte(`{}`),
	}})
	for _, c := range []struct {
		filter replay.Filter
		want   []int
	}{
		{replay.Filter{}, []int{0, 1, 2, 3, 4, 5, 6}},
		{replay.Filter{Policy: "p"}, []int{0, 1, 3, 6}},
		{replay.Filter{Device: "d"}, []int{0, 2, 3, 6}},
		{replay.Filter{Policy: "q", Device: "d"}, []int{2}},
		{replay.Filter{Codes: []compliance.Code{compliance.TypeMismatch}}, []int{3}},
		{replay.Filter{Codes: []compliance.Code{compliance.UnknownProperty}}, []int{3}},
		{replay.Filter{Codes: []compliance.Code{compliance.InvalidSubject}}, []int{4, 6}},
		{replay.Filter{Codes: []compliance.Code{compliance.PolicyNotAllowed}}, nil},
		{replay.Filter{Codes: []compliance.Code{compliance.PolicyNotAllowed}, Allow: compliance.Patterns{"p"}}, []int{2}},
	} {
		source := slices.Clone(reports)
		seen, taken := 0, 0
		have := sequences(t, &replay.Filtered{Source: &source, Filter: c.filter, Seen: func(is bool) {
			seen++
			if is {
				taken++
			}
		}})
		if diff := cmp.Diff(c.want, have); diff != "" || seen != len(reports) || taken != len(have) {
			t.Errorf("%+v: %d of %d: %s", c.filter, taken, seen, diff)
		}
	}
}
