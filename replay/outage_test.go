package replay_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/replay"
)

// TestAReplayOutlivesItsServer has the only server, of source and destination, go away
// three times while reports are read and sent.
func TestAReplayOutlivesItsServer(t *testing.T) {
	t.Parallel()
	for _, partitions := range []int{1, 2} {
		t.Run(fmt.Sprintf("%d partitions", partitions), func(t *testing.T) {
			t.Parallel()
			b := startBroker(t, partitions)
			const n = 4000
			for i := range n {
				b.publish(fmt.Sprintf("compliance.status.p.d%d", i%500), fmt.Sprintf(`{"platform":%d}`, i))
			}
			passed, outages := 0, make(chan struct{}, 3)
			ended := make(chan error)
			go func() {
				var failed error
				for range outages {
					b.stop()
					failed = errors.Join(failed, b.start())
				}
				ended <- failed
			}()
			streams := b.open(replay.Selection{})
			table, err := replay.Run(t.Context(), streams, b.sender(), replay.Options{Rate: 4000, Passed: func() {
				if passed++; passed%1000 == 0 && passed < n {
					outages <- struct{}{}
				}
			}})
			close(outages)
			if failed := <-ended; failed != nil {
				t.Fatal(failed)
			}
			if err != nil || table != (replay.Table{Reports: n, Accepted: n}) || passed != n || streams.Gone() > 0 {
				t.Fatalf("%v: %+v, %d passed, %d gone", err, table, passed, streams.Gone())
			}
			reports, err := all(b.open(replay.Selection{}))
			if err != nil {
				t.Fatal(err)
			}
			want, have := map[string]bool{}, map[string]bool{}
			for i := range n {
				want[fmt.Sprintf(`{"platform":%d}`, i)] = true
			}
			sent := 0
			for _, r := range reports {
				if r.Envelope.Header[compliance.HeaderStored] != nil {
					sent++
					have[string(r.Envelope.Body)] = true
				}
			}
			if diff := cmp.Diff(want, have); diff != "" {
				t.Errorf("not all came: %s", diff)
			}
			t.Logf("%d sent for %d", sent, n)
		})
	}
}

// TestAConnectionThatIsClosedEndsTheReading has the client give up the server for good.
func TestAConnectionThatIsClosedEndsTheReading(t *testing.T) {
	b := startBroker(t, 1)
	for range 700 {
		b.publish("compliance.status.p.d", `{}`)
	}
	streams, nc := b.readBy(b.server.ClientURL())
	nc.Close()
	if _, err := all(streams); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Error(err)
	}
}
