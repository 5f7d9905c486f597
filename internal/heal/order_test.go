package heal_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/internal/fleet"
	"github.com/complianced/complianced/internal/oracle"
)

func TestTwoOrdersGiveOneState(t *testing.T) {
	inTurn(t)
	made := fleet.New(fleet.Options{
		Devices: length.ordered / 20, Policies: 3, Seed: 1, Start: time.Now(), Rate: float64(length.ordered) / 10,
		Partial: 0.2, Nulls: 0.2, Removed: 0.05, Bad: 0.05, Duplicates: 0.05, Reorder: 0.1, Late: 0.05, ClockSkew: 2 * time.Minute,
	})
	messages := make([]*nats.Msg, length.ordered)
	for i := range messages {
		report := made.Next()
		messages[i] = report.Message()
	}
	snapshot, metrics := feed(t, messages)
	seed := *orderSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("the second order is that of -order-seed %d", seed)
	rand.New(rand.NewPCG(seed, 0)).Shuffle(len(messages), func(i, j int) { messages[i], messages[j] = messages[j], messages[i] })
	shuffled, shuffledMetrics := feed(t, messages)
	if differences := oracle.Equal(snapshot, shuffled); len(differences) > 0 {
		t.Errorf("%d differences:\n%s", len(differences), strings.Join(differences[:min(12, len(differences))], "\n"))
	}
	if diff := cmp.Diff(metrics, shuffledMetrics); diff != "" || len(metrics) == 0 {
		t.Error("other state metrics:", diff)
	}
	t.Logf("%d reports, %d keys, %d series", len(messages), len(snapshot), len(metrics))
}

// feed publishes reports to a fresh deployment and returns its state.
func feed(t *testing.T, messages []*nats.Msg) (oracle.Snapshot, []string) {
	t.Helper()
	d := deploy(t, appendOnly...)
	js, err := jetstream.New(d.nc, jetstream.WithPublishAsyncMaxPending(1000))
	must(t, err)
	acks := make([]jetstream.PubAckFuture, len(messages))
	for i, m := range messages {
		acks[i], err = js.PublishMsgAsync(m, jetstream.WithStallWait(limit))
		must(t, err)
	}
	for _, ack := range acks {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			t.Fatal(err)
		}
	}
	d.settle()
	d.compare(inSequence)
	return d.snapshot(), d.stateMetrics()
}

// stateMetrics returns the series that tell of the state, without those of lag and
// of the time it took to collect them.
func (d *deployment) stateMetrics() []string {
	d.Helper()
	_, body, err := d.worker.Get(d.Context(), "/metrics")
	must(d.T, err)
	var series []string
	for line := range strings.Lines(body) {
		name, _, _ := strings.Cut(line, "{")
		name, _, _ = strings.Cut(name, " ")
		if slices.Contains(stateFamilies, name) {
			series = append(series, line)
		}
	}
	return series
}

var stateFamilies = []string{
	"compliance_devices", "compliance_policy_devices", "compliance_policy_devices_in_grace", "compliance_policy_devices_stale",
	"compliance_policies", "compliance_policy_series_dropped", "compliance_policy_info", "compliance_state_up",
	"compliance_stream_gap_reports", "compliance_dead_letters",
}
