package spool_test

import (
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/complianced/complianced/publisher/internal/natstest"
	"github.com/complianced/complianced/publisher/spool"
)

// Who is first does the work of those behind, and may not take them along.
func TestAPanicOfTheClockAcceptsNoReport(t *testing.T) {
	began, behind := make(chan struct{}), make(chan struct{})
	calls := 0 // of a transaction at a time
	s := open(t, t.TempDir(), spool.Options{NoSync: true, Now: func() time.Time {
		switch calls++; calls {
		case 1: // While this one is made, all others wait for the next.
			close(began)
			<-behind
		case 2:
			panic("the clock")
		}
		return time.Now()
	}})
	var accepted, refused, panicked atomic.Int64
	var wg sync.WaitGroup
	report := func() {
		defer func() {
			if recover() != nil {
				panicked.Add(1)
			}
		}()
		if _, err := s.Publish(t.Context(), numbered(0, 0)); err != nil {
			refused.Add(1)
		} else {
			accepted.Add(1)
		}
	}
	wg.Go(report)
	<-began
	for range 10 {
		wg.Go(report)
	}
	eventually(t, "ten reports waiting for the next transaction", func() bool { return spool.Waiters(s) == 10 })
	close(behind)
	wg.Wait()
	if panicked.Load() != 1 || refused.Load() != 9 || accepted.Load() != 1 || s.Stats().Waiting != 1 {
		t.Errorf("%d panicked, %d refused, %d accepted, %+v", panicked.Load(), refused.Load(), accepted.Load(), s.Stats())
	}
	publish(t, s, numbered(1, 0))
}

func TestTheFileStaysSmallWhenManyReportsComeAtOnce(t *testing.T) {
	dir := t.TempDir()
	o := spool.Options{NoSync: true, MaxBytes: 4 << 20}
	s := open(t, dir, o)
	const writers, reports = 300, 4
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for n := range reports {
				publish(t, s, numbered(n, 60_000))
			}
		})
	}
	wg.Wait()
	info, err := os.Stat(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > 5*o.MaxBytes/2 {
		t.Errorf("the file has %d bytes with MaxBytes %d", info.Size(), o.MaxBytes)
	}
	if stats := s.Stats(); stats.Waiting+int(stats.Dropped) != writers*reports || stats.Waiting < 60 {
		t.Errorf("%+v", stats)
	}
}

// A report that no stream takes holds up Run with all others settled: what a kill -9 would find then.
func TestAtMostABatchIsSentAgain(t *testing.T) {
	server := natstest.New(t)
	dir := t.TempDir()
	s := open(t, dir, spool.Options{NoSync: true})
	const reports = 400
	for n := range reports / 2 {
		publish(t, s, numbered(n, 0))
	}
	run(t, s, natstest.Publisher(t, server.ClientURL(), quick))
	eventually(t, "an attempt", func() bool { return attempts(t, server) > 0 }) // The first half is read, and waits for the stream.
	for n := range reports / 2 {
		publish(t, s, numbered(n, 0))
	}
	other := numbered(0, 0)
	other.Key.Policy = "other"
	publish(t, s, other)
	natstest.MakeStream(t, natstest.Connect(t, server.ClientURL()), disk)
	eventually(t, "all but the last report sent", func() bool { return s.Stats().Waiting == 1 })
	content, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	killed := t.TempDir()
	if err := os.WriteFile(filepath.Join(killed, file), content, 0o600); err != nil {
		t.Fatal(err)
	}
	if stats := open(t, killed, spool.Options{}).Stats(); stats.Waiting > 257 || int(stats.Sent)+stats.Waiting != reports+1 {
		t.Errorf("a kill -9 would leave %+v", stats)
	}
}
