package main_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/complianced/complianced/internal/fleet"
)

// simulating is a simulate that runs.
type simulating struct {
	*testing.T
	cmd         *exec.Cmd
	out, stderr locked
}

// locked is what a process wrote so far.
type locked struct {
	mu     sync.Mutex // guards buffer
	buffer bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buffer.Write(p)
}

func (l *locked) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buffer.String()
}

func simulate(t *testing.T, args ...string) *simulating {
	t.Helper()
	s := &simulating{T: t, cmd: exec.CommandContext(t.Context(), binary, append([]string{"simulate"}, args...)...)}
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.stderr
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return s
}

// ended waits for the end and returns the summary and the exit status.
func (s *simulating) ended() (fleet.Summary, int) {
	s.Helper()
	_ = s.cmd.Wait()
	var summary fleet.Summary
	if err := json.Unmarshal([]byte(s.out.String()), &summary); err != nil {
		s.Fatalf("%v: %s %s", err, s.out.String(), s.stderr.String())
	}
	return summary, s.cmd.ProcessState.ExitCode()
}

func journal(t *testing.T, path string) []fleet.Entry {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var entries []fleet.Entry
	for e, err := range fleet.ReadJournal(file) {
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, e)
	}
	return entries
}

// holds checks that the stream has every report of a journal in its place, and
// returns how many it has.
func (s *serving) holds(entries []fleet.Entry) uint64 {
	s.Helper()
	_, js := s.client()
	stream, err := js.Stream(s.Context(), "COMPLIANCE_STATUS")
	if err != nil {
		s.Fatal(err)
	}
	seen := map[uint64]bool{}
	for _, e := range entries {
		if e.Stream != "COMPLIANCE_STATUS" || seen[e.Sequence] {
			s.Fatalf("%+v is in the wrong stream, or there twice", e)
		}
		seen[e.Sequence] = true
		m, err := stream.GetMsg(s.Context(), e.Sequence)
		if err != nil {
			s.Fatalf("%+v: %v", e, err)
		}
		if m.Subject != e.Subject || m.Header.Get("ce-id") != e.ID || m.Header.Get("ce-time") != e.Time {
			s.Fatalf("%+v is not what the stream has: %s %v", e, m.Subject, m.Header)
		}
	}
	return stream.CachedInfo().State.Msgs
}

func TestTheJournalOfSimulateAgreesWithTheStream(t *testing.T) {
	s := serve(t)
	file := filepath.Join(t.TempDir(), "load.ndjson")
	load := simulate(t, "--data-dir", s.dir, "-o", "json", "--journal", file, "--rate", "0", "--reports", "2500", "--devices", "100",
		"--partial", "0.2", "--duplicates", "0.1", "--reorder", "0.2", "--late", "0.1", "--bad", "0.1", "--removed", "0.05", "--clock-skew", "1m")
	summary, status := load.ended()
	if status != 0 || summary.Sent != 2500 || summary.Accepted != 2500 || summary.Failed != 0 || summary.Rate <= 0 || load.stderr.String() != "" {
		t.Fatalf("status %d: %+v %s", status, summary, load.stderr.String())
	}
	if summary.Duplicates < 100 || summary.Bad < 100 || summary.Removed < 50 || summary.Partial < 200 || summary.Late < 100 || summary.Reordered < 200 {
		t.Errorf("the shares are not there: %+v", summary)
	}
	entries := journal(t, file)
	if have := s.holds(entries); have != 2500 || len(entries) != 2500 {
		t.Errorf("%d entries, %d in the stream", len(entries), have)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	s.settled()
	if _, body := s.get("/metrics"); !strings.Contains(body, `compliance_reports_rejected_total{code="futureEventTime"}`) ||
		strings.Contains(body, `compliance_reports_rejected_total{code="futureEventTime"} 0`) {
		t.Error("no report was refused")
	}
}

func TestSimulateSurvivesAnOutageAndAcceptsOnlyWhatIsStored(t *testing.T) {
	s := serve(t)
	file := filepath.Join(t.TempDir(), "load.ndjson")
	load := simulate(t, "--data-dir", s.dir, "-o", "json", "--journal", file, "--rate", "3000", "--reports", "4000", "--devices", "200")
	_, js := s.client()
	eventually(t, "reports", func() bool {
		stream, err := js.Stream(t.Context(), "COMPLIANCE_STATUS")
		return err == nil && stream.CachedInfo().State.Msgs > 1000
	})
	s.kill()
	eventually(t, "a line that says so", func() bool { return strings.Contains(load.stderr.String(), "trying again") })
	s.start()
	summary, status := load.ended()
	if status != 0 || summary.Sent != 4000 || summary.Accepted != 4000 || summary.Failed != 0 {
		t.Fatalf("status %d: %+v %s", status, summary, load.stderr.String())
	}
	entries := journal(t, file)
	if have := s.holds(entries); have < 4000 || len(entries) != 4000 {
		t.Errorf("%d entries, %d in the stream", len(entries), have)
	}
}

func TestAnInterruptedSimulateEndsWithItsSummary(t *testing.T) {
	s := serve(t)
	file := filepath.Join(t.TempDir(), "load.ndjson")
	load := simulate(t, "--data-dir", s.dir, "-o", "json", "--journal", file, "--rate", "500")
	eventually(t, "a flushed journal", func() bool {
		info, err := os.Stat(file)
		return err == nil && info.Size() > 0
	})
	_ = load.cmd.Process.Signal(os.Interrupt)
	summary, status := load.ended()
	if status != 0 || summary.Sent == 0 || summary.Accepted != summary.Sent || len(journal(t, file)) != int(summary.Accepted) {
		t.Errorf("status %d: %+v %s", status, summary, load.stderr.String())
	}
	if out := s.run("", "simulate", "--reports", "3", "--rate", "0"); !strings.HasPrefix(out, "3 reports accepted, 3 sent, 0 failed; ") {
		t.Error(out)
	}

	away := simulate(t, "--nats-url", "nats://"+freeAddress(t), "--data-dir", t.TempDir(), "-o", "json")
	eventually(t, "a line that says so", func() bool { return strings.Contains(away.stderr.String(), "trying again") })
	_ = away.cmd.Process.Signal(syscall.SIGTERM)
	if summary, status := away.ended(); status != 0 || summary.Sent != 0 {
		t.Errorf("status %d: %+v %s", status, summary, away.stderr.String())
	}
}

func TestWrongUseOfSimulateIsOneClearLineAndStatusTwo(t *testing.T) {
	for say, args := range map[string][]string{
		"--devices":                         {"--devices", "0"},
		"--policies":                        {"--policies", "0"},
		"--rate is from":                    {"--rate", "-1"},
		"--duration":                        {"--duration", "-1s"},
		"--late is a share":                 {"--late", "1.5"},
		"--partial, removed and bad":        {"--partial", "0.6", "--bad", "0.6"},
		"--clock-skew is from":              {"--clock-skew", "6m"},
		"--mix":                             {"--mix", "best"},
		"--bad goes with --mix default":     {"--mix", "worst", "--bad", "0"},
		"--reports":                         {"--reports", "-1"},
		"--start: not a DateTimeOffset":     {"--start", "yesterday"},
		"in the future":                     {"--start", "2999-01-01T00:00:00Z"},
		"--start lies before 1970":          {"--start", "0001-01-01T00:00:00Z"},
		"-o \"xml\" is not table or json":   {"-o", "xml"},
		"--log-format \"x\" is not text or": {"--log-format", "x"},
	} {
		_, stderr, status := command(t, "", append([]string{"simulate", "--nats-url", "nats://127.0.0.1:1"}, args...)...)
		if status != 2 || !strings.Contains(stderr, say) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%v: status %d, %q", args, status, stderr)
		}
	}
}
