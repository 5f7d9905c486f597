package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/complianced/complianced/replay"
)

// passed is how many reports a resume file says are passed.
func passed(path string) uint64 {
	p, err := replay.ReadPosition(path)
	if err != nil {
		return 0
	}
	return p.Passed
}

// background is a command that runs until it is interrupted.
type background struct {
	*exec.Cmd
	stderr bytes.Buffer
}

func start(t *testing.T, args ...string) *background {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), limit())
	b := &background{Cmd: exec.CommandContext(ctx, binary, args...)}
	b.Stderr = &b.stderr
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = b.Wait()
	})
	return b
}

// interrupt ends the command as Ctrl-C does, and returns what it said.
func (b *background) interrupt() (stderr string, status int) {
	_ = b.Process.Signal(syscall.SIGINT)
	_ = b.Wait()
	return b.stderr.String(), b.ProcessState.ExitCode()
}

// badReports leaves a serve with so many dead letters.
func badReports(t *testing.T, n int) *serving {
	t.Helper()
	s := serve(t)
	_, js := s.client()
	for i := range n {
		s.sends(js, fmt.Sprintf("p.d%d", i), `{"status":4}`, nil)
	}
	s.settled()
	return s
}

func TestAShuffledReplayOfDeadLettersIsNotGoneOnWithAfterAPurge(t *testing.T) {
	s, second := badReports(t, 30), serve(t)
	kept := filepath.Join(t.TempDir(), "position.json")
	args := []string{"replay", "--dead", "--shuffle", "--data-dir", s.dir, "--to-data-dir", second.dir, "--resume", kept}
	first := start(t, append(args, "--rate", "5")...)
	eventually(t, "a position", func() bool { return passed(kept) > 3 })
	if stderr, status := first.interrupt(); status != 1 || !strings.Contains(stderr, "interrupted; go on with: ") {
		t.Fatalf("status %d: %s", status, stderr)
	}
	at, before := passed(kept), second.stored()
	s.run("", "dead", "purge", "7", "--yes")
	if _, stderr, status := command(t, "", args...); status != 1 || !strings.Contains(stderr, "dead letters were taken away") {
		t.Errorf("status %d: %s", status, stderr)
	}
	if now := second.stored(); now != before || passed(kept) != at {
		t.Errorf("%d reports were sent; the position went from %d to %d", now-before, at, passed(kept))
	}
	out, stderr, status := command(t, "", args[:len(args)-2]...)
	if status != 0 || !strings.Contains(out, "accepted  29\n") {
		t.Errorf("from the beginning: status %d: %s%s", status, out, stderr)
	}
}

// TestAReplayOutlivesItsServe kills NATS, Redis' parent and the worker, and starts them
// again, while a replay goes on.
func TestAReplayOutlivesItsServe(t *testing.T) {
	s := serve(t)
	s.fleet(200, 3000)
	want := s.versions()
	kept := filepath.Join(t.TempDir(), "position.json")
	var out bytes.Buffer
	b := &background{Cmd: exec.Command(binary, "replay", "--stream", "--rate", "1000", "--data-dir", s.dir, "--resume", kept, "-o", "json")}
	b.Stdout, b.Stderr = &out, &b.stderr
	if err := b.Start(); err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(limit(), func() { _ = b.Process.Kill() })
	defer kill.Stop()
	eventually(t, "a position", func() bool { return passed(kept) > 500 })
	s.kill()
	s.start()
	err := b.Wait()
	var table replay.Table
	if err != nil || json.Unmarshal(out.Bytes(), &table) != nil || table.Reports != 3000 || table.Accepted+table.Rejected != 3000 {
		t.Fatalf("%v: %s%s", err, out.String(), b.stderr.String())
	}
	if !strings.Contains(b.stderr.String(), "nats is connected again") {
		t.Errorf("there was no outage: %s", b.stderr.String())
	}
	if n := s.stored(); n < 6000-table.Rejected {
		t.Errorf("only %d reports are stored", n)
	}
	same(t, "after the outage", want, s.versions())
}

func TestTwoReplaysDoNotShareAResumeFile(t *testing.T) {
	s, second := badReports(t, 30), serve(t)
	kept := filepath.Join(t.TempDir(), "position.json")
	args := []string{"replay", "--stream", "--data-dir", s.dir, "--to-data-dir", second.dir, "--resume", kept}
	first := start(t, append(args, "--rate", "5")...)
	eventually(t, "a position", func() bool { return passed(kept) > 3 })
	if _, stderr, status := command(t, "", args...); status != 1 || !strings.Contains(stderr, "another replay keeps its position there") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("status %d: %s", status, stderr)
	}
	if stderr, status := first.interrupt(); status != 1 {
		t.Fatalf("status %d: %s", status, stderr)
	}
	out, stderr, status := command(t, "", append(args, "-o", "json")...)
	var table replay.Table
	if err := json.Unmarshal([]byte(out), &table); err != nil || status != 0 || table.Reports != 30 || second.stored() != 30 {
		t.Errorf("status %d, %d stored: %s%s", status, second.stored(), out, stderr)
	}
	if left, err := os.ReadDir(filepath.Dir(kept)); err != nil || len(left) > 0 {
		t.Errorf("%v: %v", err, left)
	}
}

func TestAReplayThatCannotKeepItsPositionSendsNothing(t *testing.T) {
	s := badReports(t, 1)
	full := filepath.Join(t.TempDir(), "full")
	if err := os.Symlink("/dev/full", full+".new"); err != nil {
		t.Fatal(err)
	}
	for kept, say := range map[string]string{
		filepath.Join(t.TempDir(), "missing", "position.json"): "no such file or directory; give --resume a file that can be written",
		t.TempDir(): "is a directory; give --resume a file that can be written",
		full:        "no space left on device; give --resume a file that can be written",
	} {
		if _, stderr, status := s.tries("replay", "--stream", "--resume", kept); status != 1 || !strings.Contains(stderr, say) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: status %d: %s", kept, status, stderr)
		}
	}
	if n := s.stored(); n != 1 {
		t.Errorf("%d reports were sent", n-1)
	}
}

// TestAPositionThatCannotBeKeptAnyMoreIsTold has the disk fail on the way, and at the end.
func TestAPositionThatCannotBeKeptAnyMoreIsTold(t *testing.T) {
	s, second := badReports(t, 30), serve(t)
	for _, interrupted := range []bool{false, true} {
		kept := filepath.Join(t.TempDir(), "position.json")
		args := []string{"replay", "--stream", "--data-dir", s.dir, "--to-data-dir", second.dir, "--resume", kept}
		first := start(t, append(args, "--rate", "5")...)
		eventually(t, "a position", func() bool { return passed(kept) > 3 })
		if err := os.Mkdir(kept+".new", 0o700); err != nil {
			t.Fatal(err)
		}
		if interrupted {
			_ = first.Process.Signal(os.Interrupt)
		}
		_ = first.Wait()
		stderr := first.stderr.String()
		_, last, _ := strings.Cut(stderr, "complianced: ")
		if first.ProcessState.ExitCode() != 1 || strings.Count(stderr, "is a directory") != 1 || strings.Count(last, "; go on with: ")+strings.Count(last, ", go on with: ") != 1 {
			t.Errorf("interrupted: %v: %s: %s", interrupted, first.ProcessState, stderr)
		}
		if err := os.Remove(kept + ".new"); err != nil {
			t.Fatal(err)
		}
		if out, stderr, status := command(t, "", args...); status != 0 || !strings.Contains(out, "accepted  30\n") || !strings.Contains(stderr, "going on after ") {
			t.Errorf("status %d: %s%s", status, out, stderr)
		}
	}
}

func TestAReplayToNowhereSaysSo(t *testing.T) {
	s := badReports(t, 1)
	kept := filepath.Join(t.TempDir(), "position.json")
	for args, say := range map[[4]string]string{
		{"--to-nats-url", "nats://127.0.0.1:1", "--to-redis-url", "redis://127.0.0.1:1"}: "complianced: nats at nats://127.0.0.1:1: nats: no servers available for connection; is the server running?",
		{"--to-data-dir", t.TempDir(), "--rate", "1"}:                                    "complianced: no complianced serves in ",
	} {
		_, stderr, status := s.tries(append([]string{"replay", "--stream", "--resume", kept}, args[:]...)...)
		if status != 1 || !strings.Contains(stderr, say) {
			t.Errorf("%v: status %d: %s", args, status, stderr)
		}
	}
	if left, err := os.ReadDir(filepath.Dir(kept)); err != nil || len(left) > 0 {
		t.Errorf("%v: %v", err, left)
	}
}

func TestAReplayOfStandardInputCanBeInterrupted(t *testing.T) {
	s := badReports(t, 3)
	file := s.run("", "capture")
	first := exec.Command(binary, "replay", "--file", "-", "--data-dir", s.dir)
	input, err := first.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer input.Close() // Only after the command has ended.
	var stderr strings.Builder
	first.Stderr = &stderr
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := input.Write([]byte(file)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what was read is sent", func() bool { return s.stored() == 6 })
	if err := first.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(limit(), func() { _ = first.Process.Kill() })
	defer kill.Stop()
	_ = first.Wait()
	_, line, found := strings.Cut(stderr.String(), "complianced: interrupted; go on with: ")
	if first.ProcessState.ExitCode() != 1 || !found {
		t.Fatalf("%s: %s", first.ProcessState, stderr.String())
	}
	next := exec.Command("sh", "-c", strings.Replace(line, "complianced ", binary+" ", 1))
	next.Stdin = strings.NewReader(file)
	if out, err := next.CombinedOutput(); err != nil || s.stored() != 6 {
		t.Errorf("%v, %d stored: %s", err, s.stored(), out)
	}
}

func TestADryRunThatIsInterruptedSaysThatItIsNotWhole(t *testing.T) {
	s := badReports(t, 1)
	file := s.run("", "capture")
	cmd := exec.Command(binary, "replay", "--file", "-", "--dry-run", "--data-dir", s.dir)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer input.Close() // Only after the command has ended.
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := time.AfterFunc(limit(), func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	_, line, _ := strings.Cut(file, "\n")
	// More than a pipe holds: when it is written, the command reads.
	if _, err := input.Write([]byte(file + strings.Repeat(line, 1000))); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Signal(os.Interrupt)
	_ = cmd.Wait()
	if cmd.ProcessState.ExitCode() != 1 || stderr.String() != "complianced: interrupted; these are the reports that were looked at until then\n" {
		t.Errorf("%s: %s", cmd.ProcessState, stderr.String())
	}
}

func TestWhatIsNoDeadLetterIsNotReplayedInSilence(t *testing.T) {
	s, _ := letters(t)
	for _, args := range [][]string{{"--dry-run"}, {}} {
		_, stderr, status := s.tries(append([]string{"replay", "--dead"}, args...)...)
		if status != 1 || !strings.Contains(stderr, "message 5 of COMPLIANCE_DEAD is no dead letter") || !strings.Contains(stderr, "dead purge takes away") {
			t.Errorf("%v: status %d: %s", args, status, stderr)
		}
	}
}

func TestACaptureReplacesNothingThatIsNoFile(t *testing.T) {
	s := badReports(t, 1)
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, stderr, status := s.tries("capture", "--file", pipe); status != 2 || !strings.Contains(stderr, "is no file") {
		t.Errorf("status %d: %s", status, stderr)
	}
	if info, err := os.Stat(pipe); err != nil || info.Mode().IsRegular() {
		t.Errorf("%v: the pipe is a file now", err)
	}
}
