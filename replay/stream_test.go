package replay_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/ingest"
	"github.com/complianced/complianced/replay"
)

// bodies reads a source and returns the bodies.
func bodies(t *testing.T, source replay.Source) (list []string) {
	t.Helper()
	reports, err := all(source)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range reports {
		list = append(list, string(r.Envelope.Body))
	}
	return list
}

func (b *broker) open(s replay.Selection) *replay.Streams {
	b.Helper()
	streams, err := replay.OpenStreams(b.Context(), b.js, b.streams(), s)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(streams.Close)
	return streams
}

func TestStreamsAreReadInTheOrderOfTheirStoreTimes(t *testing.T) {
	for _, partitions := range []int{1, 4} {
		b := startBroker(t, partitions)
		var want []string
		for n := range 300 {
			body := fmt.Sprintf(`{"platform":%d}`, n)
			b.publish(fmt.Sprintf("compliance.status.p.d%d", n%40), body)
			want = append(want, body)
		}
		streams := b.open(replay.Selection{})
		if streams.Total() != 300 {
			t.Errorf("%d partitions: %d in all", partitions, streams.Total())
		}
		b.publish("compliance.status.p.d1", `{}`) // It came later.
		reports, err := all(streams)
		if err != nil {
			t.Fatal(err)
		}
		var have []string
		for _, r := range reports {
			have = append(have, string(r.Envelope.Body))
			if r.Misplaced || !strings.HasPrefix(r.Envelope.Subject, "compliance.status.p.d") || !slices.Contains(b.streams(), r.Stream) {
				t.Fatalf("%+v", r)
			}
		}
		if diff := cmp.Diff(want, have); diff != "" {
			t.Errorf("%d partitions: %s", partitions, diff)
		}
		since, until := reports[100].Envelope.Stored, reports[199].Envelope.Stored
		if diff := cmp.Diff(want[100:200], bodies(t, b.open(replay.Selection{Since: since, Until: until}))); diff != "" {
			t.Errorf("%d partitions, between two times: %s", partitions, diff)
		}
		position := replay.Position{Passed: 1, Bounds: streams.Bounds(), Reached: map[string]uint64{}}
		for _, r := range reports[:120] {
			position.Reached[r.Stream] = r.Envelope.Sequence
		}
		if diff := cmp.Diff(want[120:], bodies(t, b.open(replay.Selection{Continued: position}))); diff != "" {
			t.Errorf("%d partitions, continued: %s", partitions, diff)
		}
		if partitions == 1 {
			if diff := cmp.Diff(append(want[250:], `{}`), bodies(t, b.open(replay.Selection{From: 251}))); diff != "" {
				t.Errorf("from a sequence: %s", diff)
			}
			if have := bodies(t, b.open(replay.Selection{From: 1000})); len(have) > 0 {
				t.Errorf("beyond the end: %q", have)
			}
		}
	}
}

func TestAMisplacedReportIsNotSent(t *testing.T) {
	b := startBroker(t, 2)
	key := compliance.Key{Policy: "p", Device: "d"}
	wrong := 1 - b.layout.PartitionOf(key.Device)
	b.publish(key.PartitionSubject(wrong), `{"platform":1}`)
	b.publish(key.Subject(), `{"platform":2}`)
	b.publish("compliance.status.p.d.e", `{"platform":3}`)
	reports, err := all(b.open(replay.Selection{}))
	if err != nil || len(reports) != 3 {
		t.Fatalf("%v: %v", err, reports)
	}
	for i, want := range []error{replay.ErrRefused, nil, nil} {
		o, err := replay.Resend(&reports[i])
		if !errorIs(err, want) || i == 2 && o.Subject != "compliance.status.p.d.e" {
			t.Errorf("%s: %v, %q", reports[i].Envelope.Body, err, o.Subject)
		}
	}
}

func errorIs(err, want error) bool {
	return want == nil && err == nil || want != nil && err != nil && strings.Contains(err.Error(), want.Error())
}

func TestAnotherStreamIsNotContinued(t *testing.T) {
	b := startBroker(t, 1)
	for n := range 10 {
		b.publish("compliance.status.p.d", fmt.Sprintf(`{"platform":%d}`, n))
	}
	first := b.open(replay.Selection{})
	bounds := first.Bounds()
	first.Close()
	stream, err := b.js.Stream(t.Context(), "COMPLIANCE_STATUS")
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	config.MaxMsgs = 5
	if _, err := b.js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	byNumber := replay.Position{Passed: 2, Bounds: bounds, Digest: "00"}
	if _, err := replay.Run(t.Context(), b.open(replay.Selection{Continued: byNumber}), b.sender(), replay.Options{From: byNumber}); err == nil ||
		!strings.Contains(err.Error(), "the stream has lost some") {
		t.Errorf("by number: %v", err)
	}
	byPlace := replay.Selection{Continued: replay.Position{Passed: 2, Bounds: bounds, Reached: map[string]uint64{"COMPLIANCE_STATUS": 2}}}
	if have := bodies(t, b.open(byPlace)); len(have) != 5 || have[0] != `{"platform":5}` {
		t.Errorf("by place: %q", have)
	}
	gone := bounds["COMPLIANCE_STATUS"]
	gone.Last = 4
	byPlace.Continued.Bounds = map[string]replay.Bounds{"COMPLIANCE_STATUS": gone}
	if have := bodies(t, b.open(byPlace)); len(have) > 0 {
		t.Errorf("all that is left came later: %q", have)
	}
	setBack := bounds["COMPLIANCE_STATUS"]
	setBack.Last = 11
	byPlace.Continued.Bounds = map[string]replay.Bounds{"COMPLIANCE_STATUS": setBack}
	if _, err := replay.OpenStreams(t.Context(), b.js, b.streams(), byPlace); err == nil || !strings.Contains(err.Error(), "set back") {
		t.Errorf("set back: %v", err)
	}
	byPlace.Continued.Bounds = bounds
	if err := b.js.DeleteStream(t.Context(), "COMPLIANCE_STATUS"); err != nil {
		t.Fatal(err)
	}
	if err := ingest.Provision(t.Context(), b.js, ingest.Provisioning{Layout: b.layout}); err != nil {
		t.Fatal(err)
	}
	if _, err := replay.OpenStreams(t.Context(), b.js, b.streams(), byPlace); err == nil || !strings.Contains(err.Error(), "made anew") {
		t.Errorf("made anew: %v", err)
	}
}

// TestWhatIsNotReplayedMayGo goes on with a shuffled replay of the last reports when the
// first ones are gone.
func TestWhatIsNotReplayedMayGo(t *testing.T) {
	b := startBroker(t, 1)
	for n := range 20 {
		b.publish(fmt.Sprintf("compliance.status.p.d%d", n), `{}`)
	}
	reports, err := all(b.open(replay.Selection{}))
	if err != nil {
		t.Fatal(err)
	}
	since := reports[10].Envelope.Stored
	first := b.open(replay.Selection{Since: since})
	var position replay.Position
	stop := errors.New("enough")
	_, err = replay.Run(t.Context(), &breaking{source: replay.Shuffle(first, 1, 0), left: 4, err: stop}, b.sender(), replay.Options{
		From: replay.Position{Bounds: first.Bounds()}, Save: func(p replay.Position) error {
			position = p
			return nil
		},
	})
	if !errors.Is(err, stop) || position.Passed != 4 {
		t.Fatalf("%v: %+v", err, position)
	}
	stream, err := b.js.Stream(t.Context(), "COMPLIANCE_STATUS")
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	config.MaxMsgs = 20 // Four came again: the first four go.
	if _, err := b.js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	rest := b.open(replay.Selection{Since: since, Continued: position})
	table, err := replay.Run(t.Context(), replay.Shuffle(rest, 1, 0), b.sender(), replay.Options{From: position})
	if err != nil || table != (replay.Table{Reports: 10, Accepted: 10}) || rest.Gone() > 0 {
		t.Errorf("%v: %+v, %d gone", err, table, rest.Gone())
	}
}

// TestReportsThatAreGoneBeforeTheyAreReadAreCounted has a stream lose its oldest reports
// while it is read: some of those to come, and all of them.
func TestReportsThatAreGoneBeforeTheyAreReadAreCounted(t *testing.T) {
	for _, left := range []int64{100, 0} {
		b := startBroker(t, 1)
		const n = 2000
		for i := range n {
			b.publish(fmt.Sprintf("compliance.status.p.d%d", i), `{}`)
		}
		streams := b.open(replay.Selection{})
		if _, err := streams.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
		stream, err := b.js.Stream(t.Context(), "COMPLIANCE_STATUS")
		if err != nil {
			t.Fatal(err)
		}
		config := stream.CachedInfo().Config
		config.MaxMsgs = max(left, 1)
		if _, err := b.js.UpdateStream(t.Context(), config); err != nil {
			t.Fatal(err)
		}
		if left == 0 { // What is kept came later.
			b.publish("compliance.status.p.d", `{}`)
		}
		reports, err := all(streams)
		if err != nil {
			t.Fatal(err)
		}
		read := 1 + uint64(len(reports))
		if gone := streams.Gone(); gone == 0 || read+gone != n {
			t.Errorf("%d are left: %d were read and %d gone, of %d", left, read, gone, n)
		}
	}
}
