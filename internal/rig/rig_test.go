package rig_test

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/internal/rig"
)

func TestADeploymentIsStartedKilledAndStartedAgain(t *testing.T) {
	ctx := t.Context()
	programs, err := rig.Build(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	n, errNATS := programs.NewNATS(ctx, t.TempDir())
	r, errRedis := programs.NewRedis(ctx, t.TempDir(), "--appendonly", "yes")
	if err := errors.Join(errNATS, errRedis); err != nil {
		t.Fatal(err)
	}
	w, err := programs.NewWorker(ctx, t.TempDir(), n, r)
	if err != nil {
		t.Fatal(err)
	}
	processes := []*rig.Process{n.Process, r.Process, w.Process}
	defer func() {
		for _, p := range processes {
			if err := p.Stop(); err != nil {
				t.Error(err)
			}
		}
	}()
	if err := errors.Join(n.Start(ctx), r.Start(ctx)); err != nil {
		t.Fatal(err)
	}
	if out, err := w.Command(ctx, "provision", "--max-age", "0"); err != nil {
		t.Fatal(err, out)
	}
	if err := w.Start(ctx); err != nil {
		t.Fatal(err)
	}
	for _, p := range processes {
		cpu, errCPU := p.CPU()
		memory, errMemory := p.PeakMemory()
		if err := errors.Join(errCPU, errMemory); err != nil || memory < 1<<20 || cpu < 0 || cpu > time.Minute {
			t.Errorf("%v: %s of processor time, %d bytes", err, cpu, memory)
		}
		if err := p.Kill(); err != nil || p.Running() {
			t.Fatal("not killed:", err)
		}
	}
	for _, p := range processes {
		if err := p.Start(ctx); err != nil {
			t.Fatal(err)
		}
	}
	nc, err := nats.Connect(n.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if _, err := nc.Request("compliance.status.p.d", []byte(`{"status":"compliant"}`), 5*time.Second); err != nil {
		t.Fatal(err)
	}
	// compliant is the third of the statuses; behind them is their sum.
	row := regexp.MustCompile(`(?m)^ *p +0 +0 +1( +0){5} +1 +0 +0 *$`)
	out, limit := "", time.Now().Add(time.Minute)
	for !row.MatchString(out) {
		if time.Now().After(limit) {
			t.Fatalf("no row of the policy with its count:\n%s", out)
		}
		if out, err = w.Command(ctx, "summary"); err != nil {
			t.Fatal(err)
		}
	}
	watched := make(chan error, 1)
	go func() { watched <- w.Watch(ctx) }()
	if err := w.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := <-watched; err == nil || !strings.Contains(err.Error(), w.LogFile()) {
		t.Errorf("Watch: %v", err)
	}
	if _, err := os.Stat(n.StoreDir()); err != nil {
		t.Error(err)
	}
}

func TestAProgramThatEndsIsAnError(t *testing.T) {
	r, err := rig.Programs{Redis: "/bin/false"}.NewRedis(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(t.Context()); err == nil || !strings.Contains(err.Error(), r.LogFile()) {
		t.Errorf("Start: %v", err)
	}
}

// No device is kept, so that ten million take no more than ten. What there is are
// reports under way and garbage.
func TestSimulateOfTenMillionDevicesStaysSmall(t *testing.T) {
	if testing.Short() {
		t.Skip("it sends 300,000 reports")
	}
	ctx := t.Context()
	programs, err := rig.Build(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	n, err := programs.NewNATS(ctx, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	const reports = 300_000
	load, err := programs.NewLoad(t.TempDir(), n, "--devices", "10000000", "--rate", "0", "--reports", fmt.Sprint(reports))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(load.Stop(), n.Stop()); err != nil {
			t.Error(err)
		}
	}()
	if err := n.Start(ctx); err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(n.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "LOAD", Subjects: []string{"compliance.status.>"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := load.Start(ctx); err != nil {
		t.Fatal(err)
	}
	var peak int64
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for load.Running() {
		if now, err := load.PeakMemory(); err == nil { // It may have ended meanwhile.
			peak = max(peak, now)
		}
		<-tick.C
	}
	if status := load.ExitStatus(); status != 0 {
		text, _ := os.ReadFile(load.LogFile())
		t.Fatalf("simulate ended with %d: %s", status, text)
	}
	info, err := stream.Info(ctx)
	if err != nil || info.State.Msgs < reports {
		t.Errorf("%v: the stream has %d reports", err, info.State.Msgs)
	}
	const most = 64 << 20
	if peak == 0 || peak > most {
		t.Errorf("peak resident memory is %d MiB, want at most %d", peak>>20, most>>20)
	}
	t.Logf("peak resident memory: %d MiB", peak>>20)
}
