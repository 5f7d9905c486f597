package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/ingest"
	"github.com/complianced/complianced/internal/fleet"
	"github.com/complianced/complianced/internal/rig"
)

// programs are built once, into a folder that TestMain removes.
var (
	programsDir string
	programs    = sync.OnceValues(func() (rig.Programs, error) {
		var err error
		if programsDir, err = os.MkdirTemp("", "bench-test-"); err != nil {
			return rig.Programs{}, err
		}
		return rig.Build(context.Background(), programsDir)
	})
)

// deployed is a deployment with little to wait for, and a number of reports that wait.
func deployed(t *testing.T, reports int) (*deployment, sent) {
	t.Helper()
	if testing.Short() {
		t.Skip("it starts servers")
	}
	p, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	d, err := deploy(t.Context(), p, Settings{Partitions: 1, Buckets: 16, dir: t.TempDir()}, "no")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.close(); err != nil {
			t.Error(err)
		}
	})
	f := fleet.New(fleet.Options{Mix: fleet.Worst, Devices: 100, Start: time.Now()})
	want, err := d.preload(t.Context(), newExpected(100), reports, 0, func(int) fleet.Report { return f.Next() })
	if err != nil {
		t.Fatal(err)
	}
	return d, want
}

// never moves the goal to where no floor comes.
func (d *deployment) never() {
	for bucket := range d.goal.last {
		d.goal.last[bucket] = 1 << 40
	}
}

func noStart(context.Context) error { return nil }

// namesLog checks that an error says where to look.
func (d *deployment) namesLog(t *testing.T, err error) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), d.worker.LogFile()) {
		t.Errorf("the error does not name the log: %v", err)
	}
}

func TestADrainEndsWhereTheWorkerDoesNotComeUp(t *testing.T) {
	d, want := deployed(t, 100)
	var err error
	if d.worker, err = (rig.Programs{Complianced: "/bin/false"}).NewWorker(t.Context(), t.TempDir(), d.nats, d.redis); err != nil {
		t.Fatal(err)
	}
	_, err = d.drain(t.Context(), want)
	d.namesLog(t, err)
}

func TestADrainEndsWhereTheWorkerDiesOrStalls(t *testing.T) {
	d, _ := deployed(t, 100)
	d.never()
	if err := d.worker.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.limits.stall = 100 * time.Millisecond
	wait := func(ctx context.Context) error {
		_, err := d.await(ctx)
		return err
	}
	err := d.watched(t.Context(), noStart, wait)
	if !errors.Is(err, errWrong) {
		t.Errorf("a worker that stalls: %v", err)
	}
	d.namesLog(t, err)

	d.limits = defaultLimits
	err = d.watched(t.Context(), noStart, func(ctx context.Context) error { return errors.Join(d.worker.Kill(), wait(ctx)) })
	if errors.Is(err, errWrong) {
		t.Errorf("a worker that died: %v", err)
	}
	d.namesLog(t, err)
}

func TestServersThatDoNotComeToRestAreAnError(t *testing.T) {
	d, want := deployed(t, 100)
	// However little they do, it is too much.
	d.limits.settle, d.limits.rest = time.Millisecond, -1
	if _, err := d.drain(t.Context(), want); !errors.Is(err, errWrong) {
		t.Errorf("busy: %v", err)
	}
	d.limits = defaultLimits
	if r, err := d.drain(t.Context(), want); err != nil || r.reports != 100 {
		t.Errorf("at rest: %v", err)
	}
}

func TestAReportThatIsNeverAcknowledgedIsAnError(t *testing.T) {
	d, _ := deployed(t, 1)
	if err := d.js.DeleteStream(t.Context(), ingest.StreamName(d.layout, 0)); err != nil {
		t.Fatal(err)
	}
	// Somebody takes the reports, so that the server does not say that nobody does.
	if _, err := d.nc.Subscribe("compliance.status.>", func(*nats.Msg) {}); err != nil {
		t.Fatal(err)
	}
	d.limits.ack = 100 * time.Millisecond
	f := fleet.New(fleet.Options{Mix: fleet.Worst, Devices: 100, Start: time.Now()})
	_, err := d.preload(t.Context(), newExpected(100), 10, 0, func(int) fleet.Report { return f.Next() })
	if !errors.Is(err, jetstream.ErrAsyncPublishTimeout) {
		t.Error(err)
	}
}

func TestLargeReportsComeInBlocks(t *testing.T) {
	for _, n := range []int{1_000_000, 3_000, 100} {
		large, longest, block := 0, 0, 0
		for i := range n {
			if !isLarge(i, n) {
				block = 0
				continue
			}
			large, block = large+1, block+1
			longest = max(longest, block)
		}
		if large != n/largeEvery || longest != min(largeBlock, large) {
			t.Errorf("of %d reports %d are large, in blocks of %d", n, large, longest)
		}
	}
}

// The worker and the bare work must ask NATS for the same, or they are not compared.
func TestTheBareWorkReadsAsTheWorkerDoes(t *testing.T) {
	d, _ := deployed(t, 100)
	asked := make(chan *nats.Msg, 100)
	for _, subject := range []string{"$JS.API.CONSUMER.CREATE.>", "$JS.API.CONSUMER.MSG.NEXT.>"} {
		if _, err := d.nc.ChanSubscribe(subject, asked); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	// requests are the first of each kind, without what is drawn at random.
	requests := func() []map[string]any {
		var all []map[string]any
		for range 2 {
			select {
			case m := <-asked:
				var request map[string]any
				if err := json.Unmarshal(m.Data, &request); err != nil {
					t.Fatal(err)
				}
				if config, is := request["config"].(map[string]any); is {
					delete(config, "name")
					delete(config, "metadata")
				}
				all = append(all, request)
			case <-time.After(10 * time.Second): //nolint:forbidigo // A deadline, in a test.
				t.Fatalf("only %v was asked for", all)
			}
		}
		return all
	}
	source := ingest.NewJetStream(d.js, ingest.StreamName(d.layout, 0))
	if err := source.Seek(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if _, err := source.Next(t.Context()); err != nil {
		t.Fatal(err)
	}
	worker := requests()
	source.Close()
	for len(asked) > 0 {
		<-asked
	}
	w := &bareWork{options: BareOptions{Partitions: 1, Buckets: 16}, js: d.js}
	messages, err := w.messages(t.Context(), 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer messages.Stop()
	if _, err := messages.Next(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(worker, requests()); diff != "" || worker[1]["batch"] == nil {
		t.Errorf("worker %v\n%s", worker, diff)
	}
}
