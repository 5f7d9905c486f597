package main_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"

	complianced "github.com/complianced/complianced/cmd/complianced"
	"github.com/complianced/complianced/internal/embedded"
	"github.com/complianced/complianced/metrics"
)

func TestACauseIsLoggedWhenItComesChangesAndGoes(t *testing.T) {
	var log bytes.Buffer
	var failure error
	read := complianced.WatchRead(slog.New(slog.NewTextHandler(&log, nil)), nil, func(context.Context) (metrics.Snapshot, error) {
		return metrics.Snapshot{}, failure
	})
	timeout := func(port int) error { return fmt.Errorf("read tcp 127.0.0.1:%d->127.0.0.1:6379: i/o timeout", port) }
	denied := errors.New("NOPERM this user has no permissions")
	for _, err := range []error{nil, timeout(40001), timeout(40002), timeout(5), denied, denied, nil, nil, denied} {
		failure = err
		if _, have := read(t.Context()); !errors.Is(have, err) {
			t.Errorf("the read says %v, want %v", have, err)
		}
	}
	var have []string
	for line := range strings.Lines(log.String()) {
		for _, word := range []string{"i/o timeout", "NOPERM", "again"} {
			if strings.Contains(line, word) {
				have = append(have, word)
			}
		}
	}
	if diff := cmp.Diff([]string{"i/o timeout", "NOPERM", "again", "NOPERM"}, have); diff != "" {
		t.Errorf("%s\n%s", diff, log.String())
	}
}

func TestAReadThatComesTooLateIsAFailure(t *testing.T) {
	var log bytes.Buffer
	ctx, cancel := context.WithCancel(t.Context())
	read := complianced.WatchRead(slog.New(slog.NewTextHandler(&log, nil)), nil, func(context.Context) (metrics.Snapshot, error) {
		cancel()
		return metrics.Snapshot{}, nil
	})
	if _, err := read(ctx); err == nil || !strings.Contains(log.String(), "longer than a scrape waits") {
		t.Errorf("%v: %s", err, log.String())
	}
}

func TestAReadThatFailsAfterTheStopIsNotLogged(t *testing.T) {
	var log bytes.Buffer
	stopped := make(chan struct{})
	read := complianced.WatchRead(slog.New(slog.NewTextHandler(&log, nil)), stopped, func(context.Context) (metrics.Snapshot, error) {
		return metrics.Snapshot{}, errors.New("closed")
	})
	close(stopped)
	if _, err := read(t.Context()); err == nil || log.Len() > 0 {
		t.Errorf("%v: %s", err, log.String())
	}
}

// ownRedis is a Redis that is not the serve's.
func ownRedis(t *testing.T, dir string) (own *embedded.Redis, raw *redis.Client) {
	t.Helper()
	own, err := embedded.StartRedis(t.Context(), embedded.RedisOptions{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = own.Close() })
	options, err := redis.ParseURL(own.URL())
	if err != nil {
		t.Fatal(err)
	}
	raw = redis.NewClient(options)
	t.Cleanup(func() { _ = raw.Close() })
	return own, raw
}

// shows waits until the metrics hold all lines.
func (s *serving) shows(lines ...string) {
	s.Helper()
	eventually(s.T, strings.Join(lines, ", "), func() bool {
		_, body := s.get("/metrics")
		for _, line := range lines {
			if !strings.Contains(body, "\n"+line+"\n") {
				return false
			}
		}
		return true
	})
}

// says waits until the log holds a line with all texts.
func (s *serving) says(texts ...string) {
	s.Helper()
	eventually(s.T, "a line of the log with "+strings.Join(texts, ", "), func() bool {
		log, err := os.ReadFile(s.log.Name())
		if err != nil {
			s.Fatal(err)
		}
	lines:
		for line := range strings.Lines(string(log)) {
			for _, text := range texts {
				if !strings.Contains(line, text) {
					continue lines
				}
			}
			return true
		}
		return false
	})
}

func TestRedisThatGoesAndComesShowsWithoutIngest(t *testing.T) {
	dir := t.TempDir()
	own, _ := ownRedis(t, dir)
	s := serve(t, "--roles", "state", "--redis-url", own.URL())
	s.shows("compliance_redis_connected 1", "compliance_state_up 1")
	if err := own.Close(); err != nil {
		t.Fatal(err)
	}
	s.shows("compliance_redis_connected 0", "compliance_state_up 0")
	s.says("the state cannot be read", "address=/", "/redis.sock ")
	ownRedis(t, dir)
	s.shows("compliance_redis_connected 1", "compliance_state_up 1")
	s.says("the state can be read again")
}

func TestAUserWhoOnlyReadsIsEnoughForTheState(t *testing.T) {
	own, raw := ownRedis(t, t.TempDir())
	err := raw.Do(t.Context(), "ACL", "SETUSER", "reader", "on", ">word", "~cs:*", "+@read", "+@connection", "+multi", "+exec").Err()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("COMPLIANCED_REDIS_URL", strings.Replace(own.URL(), "unix://", "unix://reader:word@", 1))
	s := serve(t, "--roles", "state")
	s.shows("compliance_redis_connected 1", "compliance_state_up 1")
	if n, err := raw.DBSize(t.Context()).Result(); err != nil || n > 0 {
		t.Errorf("%d keys (%v): the state was only to be read", n, err)
	}
}

func TestAnotherLayoutIsRefusedWithoutIngestToo(t *testing.T) {
	own, raw := ownRedis(t, t.TempDir())
	for _, buckets := range []int{256, -1} {
		if err := raw.HSet(t.Context(), "cs:|meta", "layout", 1, "partitions", 1, "buckets", buckets).Err(); err != nil {
			t.Fatal(err)
		}
		_, stderr, status := command(t, "", "serve", "--roles", "state", "--redis-url", own.URL(),
			"--nats-listen", freeAddress(t), "--metrics-listen", freeAddress(t))
		if status != 1 || !strings.Contains(stderr, "redis holds layout version") {
			t.Errorf("%d buckets: status %d: %s", buckets, status, stderr)
		}
	}
}

func TestARedisThatRefusesAWriteIsNamedInTheLog(t *testing.T) {
	own, raw := ownRedis(t, t.TempDir())
	s := serve(t, "--redis-url", own.URL())
	if err := raw.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	_, js := s.client()
	if _, err := js.Publish(t.Context(), "compliance.status.p.d", []byte(`{"status":"error"}`)); err != nil {
		t.Fatal(err)
	}
	s.says("redis does not answer as it must", "address=/", "/redis.sock ")
	if err := raw.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	s.shows(`compliance_policy_devices{policy="p",status="error"} 1`)
}

func TestTheLogSaysWhatAStandInMeans(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	s := serve(t)
	s.says(embedded.StandInWarning)
}

func TestWhatNATSRefusesIsLoggedWithoutTheDevice(t *testing.T) {
	b := startBroker(t, `
  {user: admin, password: word}
  {user: worker, password: word, permissions: {publish: {deny: "compliance.result.>"}}}`)
	own, _ := ownRedis(t, t.TempDir())
	admin := b.provision("admin:word", own)
	t.Setenv("COMPLIANCED_NATS_URL", b.url("worker:word"))
	s := serve(t, "--redis-url", own.URL())
	nc, err := nats.Connect(admin)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	report := nats.NewMsg("compliance.status.p.laptop-7")
	report.Header.Set("Compliance-Reply", "my-reply")
	report.Data = []byte(`{}`)
	if _, err := js.PublishMsg(t.Context(), report); err != nil {
		t.Fatal(err)
	}
	s.says("nats reports an error", "Permissions Violation", "address="+b.url(""))
	log, err := os.ReadFile(s.log.Name())
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"laptop-7", "my-reply", "word@"} {
		if strings.Contains(string(log), secret) {
			t.Errorf("the log holds %s", secret)
		}
	}
	if status, body := s.get("/readyz"); status != http.StatusOK {
		t.Errorf("/readyz: %d %s", status, body)
	}
}
