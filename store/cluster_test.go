package store_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/store"
	"github.com/complianced/complianced/store/storetest"
)

// cluster is a Redis Cluster of three masters on loopback.
type cluster struct {
	nodes []*redis.Client
	urls  []string
}

const slotsOfANode = 5461

func startCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{}
	for n := range 3 {
		address := startProcess(t, "--cluster-enabled", "yes", "--save", "")
		node := redis.NewClient(&redis.Options{Addr: address})
		t.Cleanup(func() { _ = node.Close() })
		last := (n+1)*slotsOfANode - 1
		if n == 2 {
			last = 16383
		}
		if err := node.ClusterAddSlotsRange(t.Context(), n*slotsOfANode, last).Err(); err != nil {
			t.Fatal(err)
		}
		c.nodes, c.urls = append(c.nodes, node), append(c.urls, "redis://"+address)
	}
	for _, node := range c.nodes[1:] {
		host, port := c.hostPort(t, 0)
		if err := node.ClusterMeet(t.Context(), host, port).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, node := range c.nodes {
		until(t, "a cluster that is whole", func(ctx context.Context) bool {
			info, err := node.ClusterInfo(ctx).Result()
			return err == nil && strings.HasPrefix(info, "cluster_state:ok") && strings.Contains(info, "cluster_slots_ok:16384")
		})
	}
	return c
}

// empty deletes all keys of all nodes.
func (c *cluster) empty(ctx context.Context) error {
	var errs []error
	for _, node := range c.nodes {
		errs = append(errs, node.FlushAll(ctx).Err())
	}
	return errors.Join(errs...)
}

func (c *cluster) hostPort(t *testing.T, node int) (host, port string) {
	t.Helper()
	host, port, err := net.SplitHostPort(c.nodes[node].Options().Addr)
	if err != nil {
		t.Fatal(err)
	}
	return host, port
}

// must sends a command to a node.
func (c *cluster) must(t *testing.T, node int, args ...any) any {
	t.Helper()
	answer, err := c.nodes[node].Do(t.Context(), args...).Result()
	if err != nil {
		t.Fatalf("%v: %v", args[:2], err)
	}
	return answer
}

// migrate moves keys of a slot from one node to another.
func (c *cluster) migrate(t *testing.T, from, to int, keys ...string) {
	t.Helper()
	host, port := c.hostPort(t, to)
	args := []any{"MIGRATE", host, port, "", 0, 5000, "KEYS"}
	for _, key := range keys {
		args = append(args, key)
	}
	c.must(t, from, args...)
}

func TestATransactionWaitsWhileItsSlotMoves(t *testing.T) {
	c := startCluster(t)
	wholeLayout := storetest.Layout()
	bucket := wholeLayout.BucketOf(documented)
	key := compliance.Key{Policy: "policy", Device: documented}
	const floorName, countsName = "cs:{3d}:|floor", "cs:{3d}:|counts"
	for _, half := range []struct {
		name       string
		floorFirst bool
	}{
		{"the record goes before the floor", false},
		{"the floor goes before the record", true},
	} {
		t.Run(half.name, func(t *testing.T) {
			if err := c.empty(t.Context()); err != nil {
				t.Fatal(err)
			}
			waiting := make(chan struct{})
			heard := &retries{first: func() { close(waiting) }}
			r, err := store.New(wholeLayout, store.Options{URLs: c.urls, Backoff: time.Millisecond, OnRetry: heard.note})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			step := func(from, to compliance.Floor, body string) []compliance.Outcome {
				effects, err := r.Apply(t.Context(), compliance.Transaction{
					Bucket: bucket, From: from, To: to, Reports: []*compliance.Report{report(t, to.Sequence, key, body)},
				})
				if err != nil {
					t.Error(err)
					return nil
				}
				return []compliance.Outcome{effects[0].Outcome}
			}
			step(compliance.Floor{}, floor(1, "a"), `{"status":"error"}`)
			slot, err := c.nodes[0].ClusterKeySlot(t.Context(), floorName).Result()
			if err != nil {
				t.Fatal(err)
			}
			from := 0 // Whoever has the floor has the slot.
			for c.nodes[from].Exists(t.Context(), floorName).Val() == 0 {
				from++
			}
			to := (from + 1) % 3
			fromID, toID := c.must(t, from, "CLUSTER", "MYID"), c.must(t, to, "CLUSTER", "MYID")
			c.must(t, to, "CLUSTER", "SETSLOT", slot, "IMPORTING", fromID)
			c.must(t, from, "CLUSTER", "SETSLOT", slot, "MIGRATING", toID)
			first, _ := c.nodes[from].Scan(t.Context(), 0, "cs:{3d}:*", 1000).Val()
			first = slices.DeleteFunc(first, func(key string) bool { return key == floorName })
			second := []string{floorName}
			if half.floorFirst {
				first, second = second, first
			}
			c.migrate(t, from, to, first...)
			var outcomes []compliance.Outcome
			var applying sync.WaitGroup
			applying.Go(func() { outcomes = step(floor(1, "a"), floor(2, "b"), `{"status":"compliant"}`) })
			<-waiting
			c.migrate(t, from, to, second...)
			for _, node := range []int{to, from, 3 - to - from} {
				c.must(t, node, "CLUSTER", "SETSLOT", slot, "NODE", toID)
			}
			applying.Wait()
			if diff := cmp.Diff([]compliance.Outcome{compliance.Applied}, outcomes); diff != "" {
				t.Error(diff)
			}
			if !strings.Contains(heard.text(), "ASK ") {
				t.Errorf("nobody was asked to ask elsewhere:\n%s", heard.text())
			}
			want := map[string]string{"policy|compliant": "1"}
			if diff := cmp.Diff(want, c.nodes[to].HGetAll(t.Context(), countsName).Val()); diff != "" {
				t.Error(diff)
			}
			if n := c.nodes[from].DBSize(t.Context()).Val(); n != 0 {
				t.Errorf("%d keys were left behind", n)
			}
			step(floor(2, "b"), floor(3, "c"), `{"status":"conflict"}`)
		})
	}
}
