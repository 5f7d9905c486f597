package store_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

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

func TestAMasterFoundBySentinelKeepsTheContract(t *testing.T) {
	address := startProcess(t, "--save", "")
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "sentinel.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, "sentinel monitor fleet %s %s 1\n", host, port), 0o600); err != nil {
		t.Fatal(err)
	}
	sentinel := startProcess(t, config, "--sentinel")
	raw := redis.NewClient(&redis.Options{Addr: address})
	defer raw.Close()
	conform(t, store.Options{URLs: []string{"redis://" + sentinel}, SentinelMaster: "fleet"},
		func(ctx context.Context) error { return raw.FlushAll(ctx).Err() })
}
