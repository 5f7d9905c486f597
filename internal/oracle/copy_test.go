package oracle_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/internal/oracle"
)

var single = compliance.Layout{Partitions: 1, Buckets: 4}

// copy returns a copy of all streams that does not run.
func (b *broker) copy() *oracle.Copy {
	b.Helper()
	own, err := oracle.NewCopy(b.nc, b.streams()...)
	if err != nil {
		b.Fatal(err)
	}
	return own
}

// follow runs a copy until the test ends.
func (b *broker) follow() *oracle.Copy {
	b.Helper()
	own := b.copy()
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error)
	go func() { done <- own.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	return own
}

func (b *broker) catchUp(own *oracle.Copy) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 30*time.Second)
	defer cancel()
	if err := own.CatchUp(ctx); err != nil {
		b.Fatal(err)
	}
}

func (b *broker) restart(between func()) {
	b.Helper()
	b.server.Close()
	between()
	b.start()
	eventually(b, "a new connection", b.nc.IsConnected)
}

// publishNumbers publishes a report for each number.
func (b *broker) publishNumbers(from, to int) {
	b.Helper()
	for n := from; n < to; n++ {
		b.publish(b.subject("p", fmt.Sprint("d", n)), fmt.Sprintf(`{"platform":%d}`, n), "ce-id", fmt.Sprint(n))
	}
}

// wantNumbers checks that a copy holds exactly these, in order, and where the
// stream ends.
func wantNumbers(t *testing.T, own *oracle.Copy, end uint64, numbers ...int) {
	t.Helper()
	h := own.History()
	var want, have []string
	for _, n := range numbers {
		want = append(want, fmt.Sprintf("compliance.status.p.d%d %d", n, n))
	}
	for _, m := range h.Messages {
		have = append(have, m.Subject+" "+m.Header["ce-id"][0])
		if m.Stream != "COMPLIANCE_STATUS" || m.Created.IsZero() || m.Stored.IsZero() || len(m.Header) != 1 ||
			string(m.Body) != fmt.Sprintf(`{"platform":%s}`, m.Header["ce-id"][0]) {
			t.Errorf("%+v", m)
		}
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("messages (-want +have):\n%s", diff)
	}
	if len(h.Ends) != 1 || h.Ends[0].Sequence != end || !h.Ends[0].Stored.Equal(h.Messages[len(h.Messages)-1].Stored) {
		t.Errorf("ends %+v", h.Ends)
	}
}

func numbers(from, to int) []int {
	var all []int
	for n := from; n < to; n++ {
		all = append(all, n)
	}
	return all
}

func TestACopyOutlivesTheServer(t *testing.T) {
	b := startBroker(t, single)
	own := b.follow()
	b.publishNumbers(0, 10)
	b.restart(func() {})
	b.publishNumbers(10, 20)
	b.catchUp(own)
	wantNumbers(t, own, 20, numbers(0, 20)...)
}

func TestACopyKeepsWhatADeletedStreamHeld(t *testing.T) {
	b := startBroker(t, single)
	own := b.follow()
	for round := range 3 {
		if round > 0 {
			b.makeAnew()
		}
		b.publishNumbers(round*10, round*10+10)
		b.catchUp(own)
		wantNumbers(t, own, 10, numbers(0, round*10+10)...)
	}
}

func TestACopyKeepsWhatARollbackTookAway(t *testing.T) {
	b := startBroker(t, single)
	own := b.copy() // It sees the stream only when it is asked to catch up.
	saved := t.TempDir()
	b.publishNumbers(0, 10)
	b.restart(func() { copyDir(t, saved, b.options.StoreDir) })
	b.publishNumbers(10, 20)
	b.catchUp(own)
	for round, more := range []int{5, 5, 15} { // Behind, level with and ahead of where the copy is.
		b.restart(func() {
			if err := os.RemoveAll(b.options.StoreDir); err != nil {
				t.Fatal(err)
			}
			copyDir(t, b.options.StoreDir, saved)
		})
		from := 100 * (round + 1)
		b.publishNumbers(from, from+more)
		b.catchUp(own)
		want := numbers(0, 20)
		for i, n := range []int{5, 5, 15}[:round+1] {
			want = append(want, numbers(100*(i+1), 100*(i+1)+n)...)
		}
		wantNumbers(t, own, uint64(10+more), want...)
	}
}

func copyDir(t *testing.T, to, from string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

func TestACopyIsLevelWithAStreamThatHoldsNothingAnyMore(t *testing.T) {
	b := startBroker(t, single)
	if _, err := b.js.Publish(t.Context(), "compliance.dead.x.y.1.2", nil); err != nil {
		t.Fatal(err)
	}
	if len(b.letters()) != 1 {
		t.Error("one dead letter is not there")
	}
	stream, err := b.js.Stream(t.Context(), "COMPLIANCE_DEAD")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if letters := b.letters(); len(letters) > 0 {
		t.Error(letters)
	}
}

func TestACopyTakesNoMessageForAnAnswerOfTheServer(t *testing.T) {
	b := startBroker(t, single)
	for _, status := range []string{"100", "204", "404", "408", "409", "503"} {
		b.publish("compliance.status.p.d", "", "Status", status, "Description", "Idle Heartbeat", "Nats-Sequence", "5", "Nats-Subject", "s")
	}
	h := b.history()
	if len(h.Messages) != 6 {
		t.Fatalf("%+v", h)
	}
	for i, m := range h.Messages {
		if m.Sequence != uint64(i+1) || m.Subject != "compliance.status.p.d" || len(m.Header) != 4 || m.Header["Nats-Sequence"][0] != "5" {
			t.Errorf("%+v", m)
		}
	}
}

// TestACopyReadsAMessageWithoutReadableHeaders publishes what no driver would.
func TestACopyReadsAMessageWithoutReadableHeaders(t *testing.T) {
	b := startBroker(t, single)
	b.publishNumbers(0, 2)
	b.publishRaw("compliance.status.p.raw", "NATS/1.0\r\nno header at all\r\n\r\n", "{}")
	eventually(t, "the raw message", func() bool { return b.history().Ends[0].Sequence == 3 })
	b.publishNumbers(2, 4)
	h := b.history()
	n := slices.IndexFunc(h.Messages, func(m oracle.Message) bool { return m.Subject == "compliance.status.p.raw" })
	if n != 2 || len(h.Messages) != 5 || string(h.Messages[n].Body) != "{}" || len(h.Messages[n].Header) != 0 {
		t.Errorf("%+v", h)
	}
}
