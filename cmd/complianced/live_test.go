package main_test

import (
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// live reports at a rate and measures how long each takes to be applied, from before it
// is published until its result is heard.
type live struct {
	nc   *nats.Conn
	rate int

	mu   sync.Mutex // guards what follows
	sent map[uint64]time.Time
	took []time.Duration
}

func (s *serving) newLive(rate int) *live {
	s.Helper()
	nc, _ := s.client()
	l := &live{nc: nc, rate: rate, sent: map[uint64]time.Time{}}
	if _, err := nc.Subscribe("compliance.result.*.live.*", func(m *nats.Msg) {
		n, err := strconv.ParseUint(m.Subject[strings.LastIndexByte(m.Subject, '.')+1:], 10, 64)
		if err != nil {
			return
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if at, ok := l.sent[n]; ok {
			l.took = append(l.took, time.Since(at))
			delete(l.sent, n)
		}
	}); err != nil {
		s.Fatal(err)
	}
	return l
}

// run reports until ctx ends.
func (l *live) run(ctx context.Context) {
	began := time.Now()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for n := uint64(0); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for ; float64(n) < time.Since(began).Seconds()*float64(l.rate); n++ {
			now := time.Now()
			l.mu.Lock()
			l.sent[n] = now
			l.mu.Unlock()
			_ = l.nc.PublishMsg(&nats.Msg{
				Subject: fmt.Sprintf("compliance.status.live.live-%d", n%5000),
				Header:  nats.Header{"ce-time": {now.UTC().Format(time.RFC3339Nano)}, "Compliance-Reply": {fmt.Sprintf("live.%d", n)}},
				Data:    []byte(`{"status":"compliant","userName":"user ` + strconv.FormatUint(n, 10) + `"}`),
			})
		}
	}
}

// take takes what was measured since the last call.
func (l *live) take() []time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	took := l.took
	l.took = nil
	return took
}

func p99(took []time.Duration) time.Duration {
	if len(took) == 0 {
		return 0
	}
	took = slices.Sorted(slices.Values(took))
	return took[int(math.Ceil(.99*float64(len(took))))-1]
}

// TestLiveReportsDuringAReplay prints how much slower live reports are while a replay
// runs. It asserts that all are applied, and no time.
func TestLiveReportsDuringAReplay(t *testing.T) {
	replayed, devices, rate, alone := 20_000, 2000, 500, 3*time.Second
	if *full {
		replayed, devices, rate, alone = 1_000_000, 50_000, 2000, time.Minute
	}
	s := serve(t)
	s.run("", "simulate", "--devices", strconv.Itoa(devices), "--reports", strconv.Itoa(replayed), "--rate", "0")
	s.settled()
	l := s.newLive(rate)
	ctx, stop := context.WithCancel(t.Context())
	var reporting sync.WaitGroup
	reporting.Go(func() { l.run(ctx) })
	pause := func(d time.Duration) {
		timer := time.NewTimer(d)
		defer timer.Stop()
		<-timer.C
	}
	pause(alone / 3) // What is cold gets warm.
	l.take()
	pause(alone)
	before := l.take()
	t.Logf("alone: %d live reports, p99 %s", len(before), p99(before))
	began := time.Now()
	cmd := exec.Command(binary, "replay", "--stream", "--until", time.Now().UTC().Format(time.RFC3339), "--data-dir", s.dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	took := time.Since(began)
	during := l.take()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
	t.Logf("during a replay of %d reports at its default rate in %s (%.0f a second): %d live reports, p99 %s",
		replayed, took.Round(time.Second), float64(replayed)/took.Seconds(), len(during), p99(during))
	pause(alone)
	after := l.take()
	t.Logf("alone again: %d live reports, p99 %s", len(after), p99(after))
	if len(before) == 0 || len(during) == 0 || len(after) == 0 {
		t.Fatal("nothing was measured")
	}
	t.Logf("p99 with the replay is %.2f times that without", p99(during).Seconds()/p99(slices.Concat(before, after)).Seconds())
	stop()
	reporting.Wait()
	eventually(t, "the results of all live reports", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return len(l.sent) == 0
	})
}
