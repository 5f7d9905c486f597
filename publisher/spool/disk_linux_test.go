package spool_test

import (
	"errors"
	"os/signal"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/complianced/complianced/publisher/spool"
)

// limitFiles lets no file of this process grow beyond a size, as a full disk does.
func limitFiles(tb testing.TB, size uint64) (lift func()) {
	tb.Helper()
	signal.Ignore(syscall.SIGXFSZ)
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		tb.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: size, Max: before.Max}); err != nil {
		tb.Fatal(err)
	}
	lift = func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
			tb.Error(err)
		}
		signal.Reset(syscall.SIGXFSZ)
	}
	tb.Cleanup(lift)
	return lift
}

func TestAFullDiskIsAnErrorAndLosesNothing(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, spool.Options{})
	lift := limitFiles(t, 300_000)
	accepted := 0
	var err error
	for err == nil {
		if _, err = s.Publish(t.Context(), numbered(accepted, 10_000)); err == nil {
			accepted++
		}
	}
	if accepted < 5 || errors.Is(err, spool.ErrDamaged) {
		t.Fatalf("after %d reports: %v", accepted, err)
	}
	for range 3 { // It stays so.
		if _, err := s.Publish(t.Context(), numbered(0, 10_000)); err == nil || errors.Is(err, spool.ErrDamaged) {
			t.Fatalf("with a full disk: %v", err)
		}
	}
	if stats := s.Stats(); stats.Waiting != accepted {
		t.Errorf("%+v after %d accepted reports", stats, accepted)
	}
	lift()
	publish(t, s, numbered(accepted, 10_000)) // There is room again.
	shut(t, s)
	server := startServer(t)
	stream := makeStream(t, server.ClientURL())
	s = open(t, dir, spool.Options{})
	run(t, s, connect(t, server.ClientURL(), quick))
	empty(t, s)
	if diff := cmp.Diff(upTo(accepted+1), platforms(t, stored(t, stream))); diff != "" {
		t.Errorf("reports (-want +got):\n%s", diff)
	}
}
