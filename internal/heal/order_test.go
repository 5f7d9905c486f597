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
	const span = 3 * 24 * time.Hour // Records have their newest events on several days.
	made := fleet.New(fleet.Options{
		Devices: length.ordered / 20, Policies: 3, Seed: 1, Start: time.Now().Add(-span), Rate: float64(length.ordered) / span.Seconds(),
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
	wantEveryKind(t, snapshot)
	if differences := oracle.Equal(snapshot, shuffled); len(differences) > 0 {
		t.Errorf("%d differences:\n%s", len(differences), strings.Join(differences[:min(12, len(differences))], "\n"))
	}
	if diff := cmp.Diff(metrics, shuffledMetrics); diff != "" || len(metrics) == 0 {
		t.Error("other state metrics:", diff)
	}
	t.Logf("%d reports, %d keys, %d series", len(messages), len(snapshot), len(metrics))
}

// wantEveryKind wants that the state has all that can follow from records, so that the
// comparison says something of each.
func wantEveryKind(t *testing.T, snapshot oracle.Snapshot) {
	t.Helper()
	const some = 20
	have, perDevice := map[string]int{}, 0
	for key, e := range snapshot {
		name := key[strings.LastIndex(key, ":")+1:]
		have[name] += len(e.Fields) + len(e.Scores)
		if name == "|rollup" {
			for _, policies := range e.Fields {
				perDevice = max(perDevice, len(policies)/17) // Each takes 17 bytes.
			}
		}
	}
	for _, name := range []string{"|counts", "|worst", "|days", "|gracedays", "|grace", "|attention", "|devices", "|rollup", "|tombs"} {
		if have[name] < some {
			t.Errorf("%s has %d entries, which shows little", name, have[name])
		}
	}
	if perDevice < 2 {
		t.Error("no device has several policies")
	}
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
// of the time it took to collect them. How many records are in grace is left aside too:
// it depends on the clock. The keys that it is counted from do not.
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
	"compliance_devices", "compliance_policy_devices", "compliance_policy_devices_stale",
	"compliance_policies", "compliance_policy_series_dropped", "compliance_policy_info", "compliance_state_up",
	"compliance_stream_gap_reports", "compliance_dead_letters",
}
