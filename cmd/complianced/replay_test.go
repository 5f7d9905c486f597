package main_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	complianced "github.com/complianced/complianced/cmd/complianced"
	"github.com/complianced/complianced/replay"
)

// fleetSize is how many devices send how many reports.
func fleetSize() (devices, reports int) {
	if *full {
		return 20_000, 200_000
	}
	return 400, 4_000
}

// fleet has a fleet report of which clocks are wrong and reports are bad.
func (s *serving) fleet(devices, reports int) {
	s.Helper()
	out := s.run("", "simulate", "--devices", strconv.Itoa(devices), "--reports", strconv.Itoa(reports), "--rate", "0",
		"--clock-skew", "5m", "--bad", "0.05", "--removed", "0.03", "--partial", "0.2", "--nulls", "0.2", "--late", "0.1", "--reorder", "0.1")
	if !strings.HasPrefix(out, strconv.Itoa(reports)+" reports accepted") {
		s.Fatal(out)
	}
	s.settled()
}

// versions is the state with all versions.
func (s *serving) versions() string {
	s.Helper()
	s.settled()
	text := s.run("", "export", "--versions")
	if keys := keysInOrder(s.T, text); !slices.IsSorted(keys) {
		s.Errorf("the records are not in the order of devices and policies: %q", keys[:min(len(keys), 5)])
	}
	return text
}

// keysInOrder are the devices and policies of lines of JSON.
func keysInOrder(t *testing.T, text string) (keys []string) {
	t.Helper()
	for line := range strings.Lines(text) {
		var of struct {
			Policy string `json:"policy"`
			Device string `json:"device"`
		}
		if err := json.Unmarshal([]byte(line), &of); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, of.Device+" "+of.Policy)
	}
	return keys
}

func sum(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }

// same fails where two states are not the same bytes.
func same(t *testing.T, what, want, have string) {
	t.Helper()
	if want == have {
		t.Logf("%s: sha256 %s", what, sum(have))
		return
	}
	wants, haves := strings.Split(want, "\n"), strings.Split(have, "\n")
	for i := range min(len(wants), len(haves)) {
		if wants[i] != haves[i] {
			t.Fatalf("%s: %d lines, have %d; line %d:\n%s", what, len(wants), len(haves), i, cmp.Diff(wants[i], haves[i]))
		}
	}
	t.Fatalf("%s: %d lines, have %d", what, len(wants), len(haves))
}

// table runs a replay command and returns its table.
func (s *serving) table(args ...string) (table replay.Table) {
	s.Helper()
	out := s.run("", append([]string{"replay", "-o", "json", "--rate", "0"}, args...)...)
	if err := json.Unmarshal([]byte(out), &table); err != nil {
		s.Fatal(err)
	}
	return table
}

func TestAReplayMovesNoState(t *testing.T) {
	s := serve(t)
	devices, reports := fleetSize()
	s.fleet(devices, reports)
	want := s.versions()
	if n := strings.Count(want, "\n"); n < devices/2 {
		t.Fatalf("only %d records", n)
	}
	t.Logf("before: %d records, sha256 %s", strings.Count(want, "\n"), sum(want))
	file := filepath.Join(t.TempDir(), "reports.ndjson")
	s.run("", "capture", "--file", file)
	for n := range 3 {
		args := []string{"--stream", "--shuffle", "--seed", strconv.Itoa(n)}
		if n == 2 {
			args = append(args, "--wait")
		}
		table := s.table(args...)
		if all := uint64(reports << n); table.Reports != all || table.Failed+table.NoResult+table.Applied > 0 || n == 2 && table.Rejected == 0 {
			t.Errorf("replay %d of %d reports: %+v", n, all, table)
		}
		same(t, "replayed "+strconv.Itoa(n+1)+" times", want, s.versions())
	}
	second := serve(t)
	if table := second.table("--file", file, "--shuffle", "--wait"); table.Reports != uint64(reports) || table.Applied == 0 || table.Failed+table.NoResult > 0 {
		t.Errorf("%+v", table)
	}
	same(t, "a second deployment, fed by a file", want, second.versions())
	if diff := cmp.Diff(s.codes(uint64(reports)), second.codes(uint64(reports))); diff != "" {
		t.Errorf("the dead letters have other codes: %s", diff)
	}
	s.judge()
	second.judge()
}

// codes counts the dead letters of the reports up to a sequence by their codes.
func (s *serving) codes(last uint64) map[string]int {
	s.Helper()
	_, js := s.client()
	stream, err := js.Stream(s.Context(), "COMPLIANCE_DEAD")
	if err != nil {
		s.Fatal(err)
	}
	info, err := stream.Info(s.Context(), jetstream.WithSubjectFilter("compliance.dead.>"))
	if err != nil {
		s.Fatal(err)
	}
	codes := map[string]int{}
	for subject := range info.State.Subjects {
		tokens := strings.Split(subject, ".")
		if sequence, err := strconv.ParseUint(tokens[4], 10, 64); err == nil && sequence <= last {
			codes[tokens[2]]++
		}
	}
	return codes
}

func TestADryRunPredictsTheTable(t *testing.T) {
	s := serve(t)
	s.fleet(300, 4000)
	file := filepath.Join(t.TempDir(), "reports.ndjson")
	s.run("", "capture", "--file", file)
	// One whose id cannot be sent as it is, and one that did not come by the mapping.
	unsendable := `{"stored":"2026-01-31T12:00:00.000000000Z","subject":"compliance.status.p.d","headers":{"ce-id":["x "]},"payload":"{}"}` + "\n" +
		`{"stored":"2026-01-31T12:00:00.000000000Z","subject":"compliance.status.p.d","misplaced":true,"payload":"{}"}` + "\n"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(text, unsendable...), 0o600); err != nil {
		t.Fatal(err)
	}
	second := serve(t)
	// A part of them is there already, so that not all are applied.
	second.table("--file", file, "--device", strings.Split(s.someRecord(), ".")[1], "--shuffle", "--wait")
	half := filepath.Join(t.TempDir(), "half.ndjson")
	lines := strings.SplitAfter(string(text), "\n")
	if err := os.WriteFile(half, []byte(strings.Join(lines[:len(lines)/2], "")), 0o600); err != nil {
		t.Fatal(err)
	}
	second.table("--file", half, "--wait")
	for _, args := range [][]string{{"--file", file, "--shuffle", "--seed", "7"}, {"--file", file}} {
		before := second.versions()
		predicted, stderr, status := command(t, "", append([]string{"replay", "-o", "json", "--dry-run", "--data-dir", second.dir}, args...)...)
		if status != 1 || !strings.Contains(stderr, "1 reports failed") {
			t.Errorf("status %d: %s", status, stderr)
		}
		same(t, "after the dry run", before, second.versions())
		told, _, _ := command(t, "", append([]string{"replay", "-o", "json", "--wait", "--rate", "0", "--data-dir", second.dir}, args...)...)
		t.Logf("%v: %s", args, told)
		if diff := cmp.Diff(predicted, told); diff != "" {
			t.Errorf("%v: -predicted +real:\n%s", args, diff)
		}
	}
	var table replay.Table
	out, _, _ := command(t, "", "replay", "-o", "json", "--dry-run", "--each", "--file", file, "--data-dir", second.dir)
	each := strings.Split(strings.TrimSpace(out), "\n")
	if err := json.Unmarshal([]byte(each[len(each)-1]), &table); err != nil || table.Reports != uint64(len(each)-1) {
		t.Errorf("%v: %d lines, %+v", err, len(each), table)
	}
}

// someRecord is the policy and the device of a record.
func (s *serving) someRecord() string {
	s.Helper()
	state := s.state()
	names := make([]string, 0, len(state))
	for name := range state {
		names = append(names, name)
	}
	return slices.Min(names)
}

// TestAReplayGoesOnWhereItWas kills it and goes on, then interrupts it and runs the
// command that it prints.
func TestAReplayGoesOnWhereItWas(t *testing.T) {
	s, second := serve(t), serve(t)
	s.fleet(200, 3000)
	want := s.versions()
	for _, order := range [][]string{nil, {"--shuffle"}} {
		kept := filepath.Join(t.TempDir(), "position.json")
		args := append([]string{"replay", "--stream", "--data-dir", s.dir, "--to-data-dir", second.dir, "--resume", kept, "-o", "json"}, order...)
		position := func() uint64 {
			p, err := replay.ReadPosition(kept)
			if err != nil {
				return 0
			}
			return p.Passed
		}
		first := exec.Command(binary, append(args, "--rate", "500")...)
		if err := first.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a position", func() bool { return position() > 300 })
		_ = first.Process.Kill()
		_ = first.Wait()
		at := position()
		if _, stderr, status := s.tries(append(slices.Clip(args), "--wait")...); status != 2 || !strings.Contains(stderr, "another replay") {
			t.Errorf("with --wait from now on: status %d: %s", status, stderr)
		}

		var stderr strings.Builder
		next := exec.Command(binary, append(args, "--rate", "500")...)
		next.Stderr = &stderr
		if err := next.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a later position", func() bool { return position() > at+300 })
		_ = next.Process.Signal(syscall.SIGINT)
		if err := next.Wait(); err == nil {
			t.Error("an interrupted replay says that all is well")
		}
		_, line, found := strings.Cut(stderr.String(), "interrupted; go on with: ")
		if !found || !strings.Contains(stderr.String(), fmt.Sprintf("going on after %d reports", at)) {
			t.Fatal(stderr.String())
		}
		line = strings.Replace(strings.TrimSpace(line), "complianced ", binary+" ", 1)
		line = strings.Replace(line, "--rate=500", "--rate=0", 1)
		out, err := exec.Command("sh", "-c", line).Output()
		var table replay.Table
		if err != nil || json.Unmarshal(out, &table) != nil || table.Reports != 3000 || table.Accepted+table.Rejected != 3000 {
			t.Fatalf("%s: %v: %s", line, err, out)
		}
		if _, err := os.Stat(kept); !os.IsNotExist(err) {
			t.Errorf("the position is still there: %v", err)
		}
		same(t, "after three runs", want, second.versions())
		_, js := second.client()
		stream, err := js.Stream(t.Context(), "COMPLIANCE_STATUS")
		if err != nil {
			t.Fatal(err)
		}
		// Each kill sends at most a second and what is in flight again; the interruption nothing.
		if n := stream.CachedInfo().State.Msgs; n < 3000 || n > 3000+2000 {
			t.Errorf("%d reports were sent for 3000", n)
		}
		if order == nil {
			second.stop()
			second = serve(t)
		}
	}
}

func TestDeadLettersAreReplayed(t *testing.T) {
	s := serve(t, "--allow-policies", "good*")
	_, js := s.client()
	for _, subject := range []string{"good.a", "bad.a", "bad.b"} {
		for _, body := range []string{`{"status":"compliant"}`, `{"status":4}`} {
			if _, err := js.Publish(t.Context(), "compliance.status."+subject, []byte(body)); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.settled()
	if table := s.table("--dead", "--wait"); table.Reports != 5 || table.Rejected != 5 {
		t.Errorf("to the same deployment: %+v", table)
	}
	second := serve(t)
	if table := s.table("--dead", "--code", "policyNotAllowed", "--to-data-dir", second.dir, "--wait"); table.Reports != 8 || table.Applied != 2 || table.Rejected != 4 {
		t.Errorf("to a deployment that takes all policies: %+v", table)
	}
	second.settled()
	if state := second.state(); len(state) != 2 {
		t.Errorf("%v", state)
	}
}

func TestAFileThatIsWrongIsRefusedBeforeAnythingIsSent(t *testing.T) {
	s := serve(t)
	s.reported([4]string{"p", "d", ago(time.Hour), `{"status":"error"}`}, [4]string{"p", "e", ago(time.Hour), `{"status":"error"}`})
	dir := t.TempDir()
	file := filepath.Join(dir, "reports.ndjson")
	s.run("", "capture", "--file", file)
	if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
		t.Fatalf("%v: %v", err, list)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if out := s.run("", "capture"); out != string(text) {
		t.Errorf("standard output has other bytes: %s", out)
	}
	for _, c := range []struct{ name, text, say string }{
		{"cut off", string(text[:len(text)-5]), "line 3: the line is cut off"},
		{"no JSON", strings.Replace(string(text), `"stored"`, `stored`, 1), "line 2: not one JSON object"},
		{"empty", "", "line 1: this is no file of complianced capture"},
		{"another version", strings.Replace(string(text), ":1}", ":2}", 1), "line 1: this is no file of complianced capture"},
	} {
		wrong := filepath.Join(dir, "wrong.ndjson")
		if err := os.WriteFile(wrong, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, stderr, status := command(t, "", "replay", "--file", wrong, "--data-dir", s.dir)
		if status != 1 || !strings.Contains(stderr, c.say) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: status %d: %s", c.name, status, stderr)
		}
	}
	_, js := s.client()
	stream, err := js.Stream(t.Context(), "COMPLIANCE_STATUS")
	if err != nil || stream.CachedInfo().State.Msgs != 2 {
		t.Errorf("%v: something was sent", err)
	}
	if out := s.run(string(text), "replay", "--file", "-", "--wait"); !strings.Contains(out, "unchanged  2\n") {
		t.Error(out)
	}
	if out := s.run("", "capture", "--device", "d", "--until", "2020-01-01"); out != `{"complianceReports":1}`+"\n" {
		t.Error(out)
	}
	if out := s.run("", "capture", "--from-seq", "2"); strings.Count(out, "\n") != 4 {
		t.Error(out)
	}
}

func TestProgressTellsHowFastItGoesAndWhatIsLeft(t *testing.T) {
	for _, c := range []struct {
		from, done, total int
		want              string
	}{
		{0, 300, 1200, "replaying 300 of 1200, 30 a second, 30s left"},
		{200, 300, 1200, "replaying 300 of 1200, 10 a second, 1m30s left"},
		{0, 0, 1200, "replaying 0 of 1200, 0 a second"},
		{0, 300, -1, "replaying 300, 30 a second"},
	} {
		if have := complianced.RateLine(c.from, c.done, c.total, 10*time.Second); have != c.want {
			t.Errorf("%q, want %q", have, c.want)
		}
	}
}

func TestAWordIsQuotedAsAShellTakesIt(t *testing.T) {
	for _, word := range []string{"", "a b", "it's", "$HOME", "a*", "`x`", "plain-1.2/_:@", "\n", "a;b", "ü", "--x=\"y\""} {
		out, err := exec.Command("sh", "-c", "printf %s "+complianced.Quoted(word)).Output()
		if err != nil || string(out) != word {
			t.Errorf("%q comes back as %q: %v", word, out, err)
		}
	}
}

func TestWrongFlagsOfReplay(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"--stream", "--rate", "NaN"}, {"--stream", "--rate", "-1"}, {"--file", os.DevNull}, {"--file", "nothing-is-here"}, {}} {
		if _, stderr, status := command(t, "", append([]string{"replay"}, args...)...); status != 2 {
			t.Errorf("%v: status %d: %s", args, status, stderr)
		}
	}
}

// The flags are those of a script whose variable is not set.
func TestEmptyFlagsOfReplayAndCaptureAreWrongUsage(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"replay", "--stream", "--policy="},
		{"replay", "--stream", "--device="},
		{"replay", "--stream", "--code="},
		{"replay", "--stream", "--since="},
		{"replay", "--stream", "--until="},
		{"replay", "--stream", "--allow-policies="},
		{"replay", "--stream", "--resume="},
		{"replay", "--stream", "--to-data-dir="},
		{"replay", "--stream", "--to-nats-url="},
		{"replay", "--stream", "--to-redis-url="},
		{"capture", "--policy="},
		{"capture", "--file="},
		{"capture", "--since="},
	} {
		if _, stderr, status := command(t, "", args...); status != 2 || !strings.Contains(stderr, "is empty") {
			t.Errorf("%v: status %d: %s", args, status, stderr)
		}
	}
}
