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

// conform runs the conformance cases, each on an emptied store.
func conform(t *testing.T, options store.Options, empty func(ctx context.Context) error) {
	t.Helper()
	options.Tombstones = keepTombstones
	open := func(t *testing.T) *store.Redis {
		t.Helper()
		if err := empty(t.Context()); err != nil {
			t.Fatal(err)
		}
		r, err := store.New(layout, options)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() })
		if err := r.SelfTest(t.Context()); err != nil {
			t.Fatal(err)
		}
		return r
	}
	inSequence(t, open(t))
	tombstones(t, open(t))
	fenced(t, open(t))
	gaps(t, open(t))
}

func TestAClusterOfThreeConforms(t *testing.T) {
	var addresses []string
	var nodes []*redis.Client
	for n := range 3 {
		address := startProcess(t, "--cluster-enabled", "yes", "--save", "")
		node := redis.NewClient(&redis.Options{Addr: address})
		t.Cleanup(func() { _ = node.Close() })
		first, last := n*5461, (n+1)*5461-1
		if n == 2 {
			last = 16383
		}
		if err := node.ClusterAddSlotsRange(t.Context(), first, last).Err(); err != nil {
			t.Fatal(err)
		}
		addresses, nodes = append(addresses, "redis://"+address), append(nodes, node)
	}
	for _, node := range nodes[1:] {
		host, port, err := net.SplitHostPort(nodes[0].Options().Addr)
		if err != nil {
			t.Fatal(err)
		}
		if err := node.ClusterMeet(t.Context(), host, port).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, node := range nodes {
		until(t, "a cluster that is whole", func(ctx context.Context) bool {
			info, err := node.ClusterInfo(ctx).Result()
			shards, errSlots := node.ClusterShards(ctx).Result()
			return err == nil && errSlots == nil && len(shards) == 3 && len(info) > 0 && info[:16] == "cluster_state:ok"
		})
	}
	conform(t, store.Options{URLs: addresses}, func(ctx context.Context) error {
		for _, node := range nodes {
			if err := node.FlushAll(ctx).Err(); err != nil {
				return err
			}
		}
		return nil
	})
}

func TestAMasterFoundBySentinelConforms(t *testing.T) {
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
