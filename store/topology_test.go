package store_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/store"
)

// startProcess runs a redis-server on a free port until the test ends.
func startProcess(t *testing.T, args ...string) (address string) {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal("the test needs redis-server in PATH: run make deps")
	}
	port := freePort(t)
	args = append(args, "--bind", "127.0.0.1", "--port", fmt.Sprint(port), "--dir", t.TempDir())
	cmd := exec.CommandContext(t.Context(), path, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	address = fmt.Sprintf("127.0.0.1:%d", port)
	raw := redis.NewClient(&redis.Options{Addr: address})
	defer raw.Close()
	until(t, "a server that answers", func(ctx context.Context) bool { return raw.Ping(ctx).Err() == nil })
	return address
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	address, ok := listener.Addr().(*net.TCPAddr)
	if !ok || address.Port > 55000 { // A cluster's bus is 10,000 higher.
		return freePort(t)
	}
	return address.Port
}

func until(t *testing.T, what string, ok func(ctx context.Context) bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok(t.Context()) {
		if time.Now().After(deadline) {
			t.Fatalf("never came: %s", what)
		}
		<-tick.C
	}
}

func TestAClusterOfThreeKeepsTheContract(t *testing.T) {
	c := startCluster(t)
	conform(t, store.Options{URLs: c.urls}, c.empty)
}

// startSentinel watches a master under the name of fleet.
func startSentinel(t *testing.T, master string) (address string) {
	t.Helper()
	host, port, err := net.SplitHostPort(master)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "sentinel.conf")
	text := fmt.Sprintf("sentinel monitor fleet %s %s 1\nsentinel down-after-milliseconds fleet 300\nsentinel failover-timeout fleet 3000\n", host, port)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return startProcess(t, config, "--sentinel")
}

func connectRaw(t *testing.T, address string) *redis.Client {
	t.Helper()
	raw := redis.NewClient(&redis.Options{Addr: address})
	t.Cleanup(func() { _ = raw.Close() })
	return raw
}

func TestAMasterFoundBySentinelKeepsTheContract(t *testing.T) {
	master := startProcess(t, "--save", "")
	raw := connectRaw(t, master)
	conform(t, store.Options{URLs: []string{"redis://" + startSentinel(t, master)}, SentinelMaster: "fleet"},
		func(ctx context.Context) error { return raw.FlushAll(ctx).Err() })
}

func TestATransactionGoesOnAtTheMasterThatAFailoverMade(t *testing.T) {
	master := startProcess(t, "--save", "")
	host, port, err := net.SplitHostPort(master)
	if err != nil {
		t.Fatal(err)
	}
	replica := connectRaw(t, startProcess(t, "--save", "", "--replicaof", host+" "+port))
	sentinel := startSentinel(t, master)
	seen := redis.NewSentinelClient(&redis.Options{Addr: sentinel})
	defer seen.Close()
	until(t, "a Sentinel that knows the replica", func(ctx context.Context) bool {
		replicas, err := seen.Replicas(ctx, "fleet").Result()
		return err == nil && len(replicas) == 1 && replicas[0]["master-link-status"] == "ok"
	})
	heard := &retries{}
	r, err := store.New(layout, store.Options{
		URLs: []string{"redis://" + sentinel}, SentinelMaster: "fleet", Backoff: 10 * time.Millisecond, OnRetry: heard.note,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	apply(t, r, compliance.Floor{}, floor(1, "a"), report(t, 1, device, `{"status":"error"}`))
	until(t, "a replica with the floor", func(ctx context.Context) bool {
		return replica.Exists(ctx, "cs:{00}:|floor").Val() == 1
	})
	var down sync.WaitGroup
	down.Go(func() {
		_ = connectRaw(t, master).ShutdownNoSave(t.Context()) // It waits for its replica and answers by going away.
	})
	at := floor(1, "a")
	until(t, "a transaction that lived through the failover", func(context.Context) bool {
		to := floor(at.Sequence+1, "w")
		have := apply(t, r, at, to, report(t, to.Sequence, device, `{"status":"compliant"}`))
		at = to
		if diff := cmp.Diff([]compliance.Outcome{compliance.Applied}, have); diff != "" {
			t.Error(diff)
		}
		return heard.n() > 0
	})
	down.Wait()
	want := map[string]string{"policy|compliant": "1"}
	if diff := cmp.Diff(want, replica.HGetAll(t.Context(), "cs:{00}:|counts").Val()); diff != "" {
		t.Errorf("the replica is not the new master: %s", diff)
	}
}
