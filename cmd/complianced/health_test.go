package main_test

import (
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"
)

func TestReadinessIsLive(t *testing.T) {
	b := startBroker(t, "")
	dir := t.TempDir()
	own, _ := ownRedis(t, dir)
	b.provision("", own)
	s := serve(t, "--nats-url", b.url(""), "--redis-url", own.URL())
	s.shows("compliance_nats_connected 1", "compliance_redis_connected 1")
	alive := func() {
		t.Helper()
		if status, body := s.get("/livez"); status != http.StatusOK || body != "ok\n" {
			t.Errorf("/livez: %d %s", status, body)
		}
	}
	alive()
	if err := own.Close(); err != nil {
		t.Fatal(err)
	}
	s.answers("/readyz", http.StatusServiceUnavailable)
	alive()
	ownRedis(t, dir)
	s.answers("/readyz", http.StatusOK)

	b.stop()
	s.answers("/readyz", http.StatusServiceUnavailable)
	s.shows("compliance_nats_connected 0")
	if _, body := s.get("/readyz"); !strings.Contains(body, "nats at "+b.url("")+": not connected") {
		t.Errorf("/readyz does not say what is down: %s", body)
	}
	alive()
	b.start("")
	s.answers("/readyz", http.StatusOK)
	s.shows("compliance_nats_connected 1", "compliance_redis_connected 1")
}

// gate is a TCP proxy before a Redis, whose answers it holds back while it is shut.
type gate struct {
	listener net.Listener
	redis    string
	shut     atomic.Pointer[chan struct{}] // Closed when the gate opens again.
	held     atomic.Int64
}

func startGate(t *testing.T, redisURL string) *gate {
	t.Helper()
	options, err := redis.ParseURL(redisURL)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{listener: listener, redis: options.Addr}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() { g.serve(client) })
		}
	})
	t.Cleanup(func() { listener.Close(); all.Wait() })
	return g
}

func (g *gate) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("unix", g.redis)
	if err != nil {
		return
	}
	go func() {
		defer server.Close()
		_, _ = io.Copy(server, client)
	}()
	buffer := make([]byte, 64<<10)
	for {
		n, err := server.Read(buffer)
		if err != nil {
			return
		}
		if shut := g.shut.Load(); shut != nil {
			g.held.Add(1)
			<-*shut
		}
		if _, err := client.Write(buffer[:n]); err != nil {
			return
		}
	}
}

func TestACleanStopWaitsForAScrapeAndWarnsOfNothing(t *testing.T) {
	own, _ := ownRedis(t, t.TempDir())
	g := startGate(t, own.URL())
	s := serve(t, "--roles", "state", "--redis-url", "redis://"+g.listener.Addr().String())
	s.shows("compliance_state_up 1")
	open := make(chan struct{})
	g.shut.Store(&open)
	var scrape sync.WaitGroup
	var body string
	scrape.Go(func() { _, body = s.get("/metrics") })
	eventually(t, "a scrape that waits", func() bool { return g.held.Load() > 0 })
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.answers("/livez", 0) // The stop has begun.
	g.shut.Store(nil)
	close(open)
	if err := s.end(); err != nil {
		t.Errorf("serve ended with %v", err)
	}
	scrape.Wait()
	if !strings.Contains(body, "\ncompliance_state_up 1\n") {
		t.Errorf("the scrape was cut off: %q", body)
	}
	log, err := os.ReadFile(s.log.Name())
	if err != nil || strings.Contains(string(log), "level=WARN") {
		t.Errorf("%v: a clean stop warns: %s", err, log)
	}
}
