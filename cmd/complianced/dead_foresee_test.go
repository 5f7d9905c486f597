package main_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/compliance"
)

// told is a line of dead retry -o json.
type told struct {
	Letter uint64 `json:"letter"`
	Result string `json:"result"`
	Error  struct {
		Inner struct {
			Code string `json:"code"`
		} `json:"innerError"`
	} `json:"error"`
	Reason string `json:"reason"`
}

func tolds(t *testing.T, out string) (list []told) {
	t.Helper()
	for line := range strings.Lines(out) {
		var one told
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Fatal(line, err)
		}
		list = append(list, one)
	}
	slices.SortFunc(list, func(a, b told) int { return int(a.Letter) - int(b.Letter) })
	return list
}

// sequences are the last ones of the streams.
func (s *serving) sequences(js jetstream.JetStream) (last [2]uint64) {
	s.Helper()
	for i, name := range []string{"COMPLIANCE_STATUS", compliance.DeadStream} {
		stream, err := js.Stream(s.Context(), name)
		if err != nil {
			s.Fatal(err)
		}
		last[i] = stream.CachedInfo().State.LastSeq + stream.CachedInfo().State.Msgs<<32
	}
	return last
}

// TestADryRunOfARetryPredictsIt compares what it says with what the retry then says.
func TestADryRunOfARetryPredictsIt(t *testing.T) {
	s := serve(t, "--allow-policies", "disk")
	_, js := s.client()
	soon := time.Now().Add(compliance.MaxFuture + 3*time.Second)
	for _, r := range []struct {
		subject, body string
		header        map[string]string
	}{
		{"disk.early", `{"status":"error"}`, map[string]string{"ce-time": compliance.FormatStored(soon)}},
		{"other.d1", `{"status":"compliant"}`, nil},
		{"disk.d2", `{"status":"compliant","platform":"8"}`, map[string]string{"ce-id": "\u202e"}},
		{"disk.d3.more", `{"status":"compliant"}`, nil},
		{"disk.d4", `["\u001b[2J"]`, nil},
		{"disk.d5", `{"status":"compliant","platform":"8","userName":5}`, nil},
	} {
		s.sends(js, r.subject, r.body, r.header)
		s.settled()
	}
	eventually(t, "what was early is due", func() bool { return time.Now().Add(compliance.MaxFuture).After(soon) })
	before := s.sequences(js)
	patch := `{"platform":8}`
	args := []string{"dead", "retry", "--patch", patch}
	dry := append(args, "--dry-run", "--allow-policies", "disk")
	out, stderr, status := s.tries(dry...)
	want := []string{
		"1  would be taken",
		"2  would be rejected: policyNotAllowed: ",
		"3  would be taken",
		"4  would not be sent: its subject names no record",
		"5  would not be sent: the payload is no JSON object",
		"6  would be rejected: typeMismatch: ",
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	slices.Sort(lines)
	for i, line := range lines {
		if !strings.HasPrefix(line, want[i]) || strings.Contains(line, "\x1b") {
			t.Errorf("%q, want %q", line, want[i])
		}
	}
	if status != 1 || len(lines) != len(want) ||
		!strings.HasSuffix(stderr, "nothing was sent: of 6 dead letters 2 would be taken, 2 would be rejected, 2 would not be sent\n"+
			"complianced: not every report would be taken\n") {
		t.Errorf("status %d: %s%s", status, out, stderr)
	}
	out, _, _ = s.tries(append(dry, "-o", "json")...)
	foreseen := tolds(t, out)
	if after := s.sequences(js); after != before {
		t.Fatalf("the dry run wrote: %v, then %v", before, after)
	}

	out, _, _ = s.tries(append(args, "-o", "json")...)
	came := tolds(t, out)
	for i := range came {
		if slices.Contains([]string{"applied", "unchanged", "stale"}, came[i].Result) {
			came[i].Result = "taken"
		}
	}
	if diff := cmp.Diff(came, foreseen); diff != "" {
		t.Errorf("-came +foreseen:\n%s", diff)
	}
}

func TestADryRunOfARetrySaysWhatItDoesNotKnow(t *testing.T) {
	s := serve(t, "--allow-policies", "disk")
	_, js := s.client()
	s.sends(js, "other.d1", `{"status":"compliant"}`, nil)
	s.settled()
	const known = "whether serve takes their policies is not known: give its --allow-policies"
	if out, stderr, status := s.tries("dead", "retry", "1", "--dry-run"); status != 0 || out != "1  would be taken\n" || !strings.Contains(stderr, known) {
		t.Errorf("status %d: %s%s", status, out, stderr)
	}
	if _, stderr, status := s.tries("dead", "retry", "1", "--dry-run", "--allow-policies", "other"); status != 0 || strings.Contains(stderr, known) {
		t.Errorf("status %d: %s", status, stderr)
	}
	if _, stderr, status := s.tries("dead", "retry", "9", "--dry-run"); status != 1 || !strings.Contains(stderr, "1 would not be sent") {
		t.Errorf("status %d: %s", status, stderr)
	}
	for _, args := range [][]string{{"--allow-policies", "other"}, {"--dry-run", "--allow-policies", "["}, {"--dry-run", "--allow-policies="}} {
		if _, stderr, status := s.tries(append([]string{"dead", "retry"}, args...)...); status != 2 {
			t.Errorf("%v: status %d: %s", args, status, stderr)
		}
	}
}
