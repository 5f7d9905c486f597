package spool_test

import (
	"errors"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/complianced/complianced/publisher/internal/natstest"
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
	lift := limitFiles(t, 3_000_000) // More than the log of files that go test keeps.
	accepted := 0
	var err error
	for err == nil {
		if _, err = s.Publish(t.Context(), numbered(accepted, 60_000)); err == nil {
			accepted++
		}
	}
	if accepted < 5 || errors.Is(err, spool.ErrDamaged) {
		t.Fatalf("after %d reports: %v", accepted, err)
	}
	for range 3 { // It stays so.
		if _, err := s.Publish(t.Context(), numbered(0, 60_000)); err == nil || errors.Is(err, spool.ErrDamaged) {
			t.Fatalf("with a full disk: %v", err)
		}
	}
	if stats := s.Stats(); stats.Waiting != accepted {
		t.Errorf("%+v after %d accepted reports", stats, accepted)
	}
	lift()
	publish(t, s, numbered(accepted, 60_000)) // There is room again.
	shut(t, s)
	server := natstest.New(t)
	stream := natstest.MakeStream(t, natstest.Connect(t, server.ClientURL()))
	s = open(t, dir, spool.Options{})
	run(t, s, natstest.Publisher(t, server.ClientURL(), quick))
	empty(t, s)
	if diff := cmp.Diff(upTo(accepted+1), platforms(t, stored(t, stream))); diff != "" {
		t.Errorf("reports (-want +got):\n%s", diff)
	}
}

// An operator gives an agent a folder within one that the agent may pass through, but not read.
func TestAFolderWithinOneThatCannotBeReadIsUsed(t *testing.T) {
	parent := filepath.Join(t.TempDir(), "parent")
	dir := filepath.Join(parent, "spool")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	const nobody = 65534
	if os.Geteuid() == 0 {
		for _, above := range []string{filepath.Dir(filepath.Dir(parent)), filepath.Dir(parent)} {
			if err := os.Chmod(above, 0o711); err != nil { //nolint:gosec // Another user passes through.
				t.Fatal(err)
			}
		}
		if err := os.Chown(dir, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(parent, 0o311); err != nil { //nolint:gosec // So it is meant.
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		if os.Geteuid() == 0 { // Root may read everything; this thread, which ends with the goroutine, may not.
			runtime.LockOSThread()
			if err := syscall.Setfsuid(nobody); err != nil {
				done <- err
				return
			}
		}
		s, err := spool.Open(filepath.Join(dir, "new", "levels")+"/", spool.Options{})
		if err == nil {
			err = s.Close()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := os.Chmod(parent, 0o700); err != nil { //nolint:gosec // It is removed.
		t.Error(err)
	}
}
