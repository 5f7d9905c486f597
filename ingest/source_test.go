package ingest_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/ingest"
)

// source returns a source on the only stream.
func (b *broker) source() *ingest.JetStream {
	s := ingest.NewJetStream(b.js, "COMPLIANCE_STATUS")
	b.Cleanup(s.Close)
	return s
}

func TestWhatIsReadAheadIsBoundedByBytesWithHeaders(t *testing.T) {
	b := startBroker(t, single)
	const size, reports = 60 << 10, 330 // 19 MiB, nearly all in headers.
	for range reports {
		m := nats.NewMsg("compliance.status.p.d")
		m.Header["ce-x"] = []string{strings.Repeat("x", size/2), strings.Repeat("y", size/2)}
		if _, err := b.js.PublishMsgAsync(m, jetstream.WithStallWait(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the reports in the stream", func() bool { return b.js.PublishAsyncPending() == 0 })
	source := b.source()
	if err := source.Seek(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	ahead := 0
	eventually(t, "the bound", func() bool {
		have, full := source.Ahead(size)
		ahead = have
		return full || have == reports
	})
	if ahead > ingest.AheadBytes/size {
		t.Errorf("%d reports of %d bytes were read ahead", ahead, size)
	}
	// Nothing is lost by it, and no batch is larger than it may be.
	for have := 0; have < reports; {
		batch, err := source.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n := len(batch.Envelopes); n > ingest.MaxBatchBytes/size+1 {
			t.Errorf("a batch has %d reports", n)
		}
		for _, e := range batch.Envelopes {
			if have++; e.Sequence != uint64(have) {
				t.Fatalf("want report %d, have %d", have, e.Sequence)
			}
		}
	}
}

func TestWhatIsReadAheadIsBoundedByReports(t *testing.T) {
	b := startBroker(t, single)
	const more = 10
	for range ingest.AheadReports + more {
		if _, err := b.js.PublishAsync("compliance.status.p.d", []byte(`{}`), jetstream.WithStallWait(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the reports in the stream", func() bool { return b.js.PublishAsyncPending() == 0 })
	source := b.source()
	if err := source.Seek(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the bound", func() bool { _, full := source.Ahead(1); return full })
	if have, _ := source.Ahead(1); have != ingest.AheadReports {
		t.Errorf("%d reports were read ahead", have)
	}
	for _, want := range []int{ingest.AheadReports, more} { // A batch takes all that is read ahead.
		// The reader goes on by itself once there is room.
		eventually(t, "the next reports", func() bool { have, _ := source.Ahead(1); return have >= want })
		batch, err := source.Next(t.Context())
		if err != nil || len(batch.Envelopes) != want {
			t.Errorf("a batch of %d, %v; want %d", len(batch.Envelopes), err, want)
		}
	}
}

func TestAnErrorComesAfterAllThatWasRead(t *testing.T) {
	b := startBroker(t, single)
	for range 5 {
		b.publish("compliance.status.p.d", `{}`)
	}
	source := b.source()
	if err := source.Seek(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the reports", func() bool { have, _ := source.Ahead(1); return have == 5 })
	b.nc.Close()
	eventually(t, "the end of the reader", source.Ended)
	if batch, err := source.Next(t.Context()); err != nil || len(batch.Envelopes) != 5 {
		t.Errorf("%d reports, %v", len(batch.Envelopes), err)
	}
	for range 2 { // And it stays, until the next Seek.
		if batch, err := source.Next(t.Context()); !errors.Is(err, jetstream.ErrConnectionClosed) {
			t.Errorf("%d reports, %v", len(batch.Envelopes), err)
		}
	}
}

func TestABatchDoesNotSpanTwoConsumers(t *testing.T) {
	b := startBroker(t, single)
	for range 5 {
		b.publish("compliance.status.p.d", `{}`)
	}
	source := b.source()
	if err := source.Seek(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	waiting := func(n int) {
		t.Helper()
		eventually(t, "the reports", func() bool { have, _ := source.Ahead(1); return have == n })
	}
	waiting(5)
	stream, err := b.js.Stream(t.Context(), "COMPLIANCE_STATUS")
	if err != nil {
		t.Fatal(err)
	}
	for name := range stream.ConsumerNames(t.Context()).Name() {
		if err := stream.DeleteConsumer(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 {
		b.publish("compliance.status.p.d", `{}`)
	}
	waiting(10)
	var sequences [2][]uint64
	var instances []string
	for n := range sequences {
		batch, err := source.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		instances = append(instances, batch.Instance)
		for _, e := range batch.Envelopes {
			sequences[n] = append(sequences[n], e.Sequence)
		}
	}
	if diff := cmp.Diff([2][]uint64{{1, 2, 3, 4, 5}, {6, 7, 8, 9, 10}}, sequences); diff != "" {
		t.Error(diff)
	}
	if slices.Contains(instances, "") || instances[0] == instances[1] {
		t.Errorf("instances %q", instances)
	}
}

// fakeStream is a server's word on a stream.
type fakeStream struct {
	jetstream.Stream

	info jetstream.StreamInfo
}

func (s fakeStream) CachedInfo() *jetstream.StreamInfo { return &s.info }

type fakeStreams struct {
	jetstream.JetStream
	stream fakeStream
}

func (s fakeStreams) Stream(context.Context, string) (jetstream.Stream, error) { return s.stream, nil }

func TestTheFirstReportOfAnEmptyStreamIsTheNextOne(t *testing.T) {
	for _, c := range []struct {
		name        string
		state       jetstream.StreamState
		first, last uint64
	}{
		{"a new one", jetstream.StreamState{}, 1, 0},
		{"all aged out", jetstream.StreamState{FirstSeq: 8, LastSeq: 7}, 8, 7},
		{"all aged out, and the first one not moved", jetstream.StreamState{FirstSeq: 3, LastSeq: 7}, 8, 7},
		{"one that holds something", jetstream.StreamState{Msgs: 2, FirstSeq: 3, LastSeq: 7}, 3, 7},
	} {
		t.Run(c.name, func(t *testing.T) {
			js := fakeStreams{stream: fakeStream{info: jetstream.StreamInfo{State: c.state}}}
			info, err := ingest.NewJetStream(js, "X").Info(t.Context())
			if err != nil || info.First != c.first || info.Last != c.last {
				t.Errorf("%+v, %v", info, err)
			}
		})
	}
	t.Run("on a server", func(t *testing.T) {
		b := startBroker(t, single)
		if _, err := b.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "SHORT", Subjects: []string{"short"}, MaxAge: 100 * time.Millisecond}); err != nil {
			t.Fatal(err)
		}
		b.publish("short", "1")
		b.publish("short", "2")
		source := ingest.NewJetStream(b.js, "SHORT")
		eventually(t, "the end of the last report", func() bool {
			info, err := source.Info(t.Context())
			return err == nil && info.First == 3 && info.Last == 2
		})
		if stored, err := source.StoredAt(t.Context(), 2); err != nil || !stored.IsZero() {
			t.Errorf("a report that is not there was stored at %v, %v", stored, err)
		}
	})
}
