package main_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	complianced "github.com/complianced/complianced/cmd/complianced"
)

// child returns the process id of the Redis at a URL.
func child(t *testing.T, url string) int {
	t.Helper()
	options, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	raw := redis.NewClient(options)
	defer raw.Close()
	info, err := raw.Info(t.Context(), "server").Result()
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(regexp.MustCompile(`process_id:(\d+)`).FindStringSubmatch(info)[1])
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func TestASecondSignalEndsAServeThatHangs(t *testing.T) {
	s := serve(t)
	pid := child(t, s.Redis)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil { // The serve waits for its child now, for seconds.
		t.Fatal(err)
	}
	defer syscall.Kill(pid, syscall.SIGCONT)
	ended := make(chan error, 1)
	go func() { ended <- s.cmd.Wait() }()
	eventually(t, "the end of the serve", func() bool {
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
			return true
		default:
			return false
		}
	})
	if status, ok := s.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() {
		t.Errorf("serve ended with %s, not by the second signal", s.cmd.ProcessState)
	}
}

func TestTheLogTellsThatTheChildHadToBeKilled(t *testing.T) {
	s := serve(t)
	pid := child(t, s.Redis)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(pid, syscall.SIGCONT)
	s.stop() // After the ten seconds that a child has.
	s.says("the embedded redis did not end as it must", "was killed")
}

func TestPublishCanBeInterruptedWhileItReads(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "publish", "p", "d")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	body, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close() // Only after the command has ended.
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// More than a pipe holds: when it is written, the command reads.
	if _, err := body.Write(make([]byte, 256<<10)); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // Killed where it reads on.
	if cmd.ProcessState.ExitCode() != 1 || stderr.String() != "complianced: interrupted before the end of the body\n" {
		t.Errorf("%s: %s", cmd.ProcessState, stderr.String())
	}
}

// demo is a complianced demo, in the folder demo of a new one.
func demo(t *testing.T) *serving {
	t.Helper()
	s := prepare(t)
	s.args[0] = "demo"
	s.dir = filepath.Join(s.dir, "demo")
	return s
}

func TestADemoThatWasKilledStartsAgainAtOnce(t *testing.T) {
	s := demo(t)
	s.start()
	for range 4 {
		before := child(t, s.Redis)
		if err := syscall.Kill(before, syscall.SIGSTOP); err != nil { // It outlives its parent for a while.
			t.Fatal(err)
		}
		s.kill()
		started := make(chan struct{})
		go func() {
			defer close(started)
			eventually(t, "the lock of the folder", func() bool { return folderLocked(filepath.Join(s.dir, "lock")) })
			_ = syscall.Kill(before, syscall.SIGCONT)
		}()
		s.start()
		<-started
		eventually(t, "the end of the child before", func() bool { return !alive(before) })
		if now := child(t, s.Redis); now == before {
			t.Error("the child before still answers")
		}
	}
}

func folderLocked(path string) bool {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer file.Close()
	return errors.Is(syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB), syscall.EWOULDBLOCK)
}

// alive says whether a process is there. A zombie counts as gone.
func alive(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return syscall.Kill(pid, 0) == nil
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func TestAnEmptiedFolderKeepsItsLocks(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"redis.lock", "redis.log", "leftover"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := complianced.EmptyDir(dir); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, entry := range entries {
		have = append(have, entry.Name())
	}
	if diff := cmp.Diff([]string{"lock", "redis.lock"}, have); diff != "" {
		t.Error(diff)
	}
}
