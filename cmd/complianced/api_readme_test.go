package main_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestTheSessionOfTheREADMEIsReal pastes the command lines of the README's section on
// HTTP into a shell, in their order, and holds what they print against what it says.
func TestTheSessionOfTheREADMEIsReal(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Fatal("curl is needed: it is what the README shows")
	}
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n## Over HTTP\n")
	section, _, _ = strings.Cut(section, "\n## ")
	section, _, _ = strings.Cut(section, "$ complianced token --new")
	var script, want []string
	for line := range strings.Lines(section) {
		line, isSession := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "    ")
		command, isCommand := strings.CutPrefix(line, "$ ")
		switch {
		case isSession && isCommand:
			script = append(script, command)
		case isSession && line != "":
			want = append(want, line)
		}
	}
	if !found || len(script) < 6 || len(want) < 4 {
		t.Fatalf("the README has %d commands and %d lines of output", len(script), len(want))
	}
	s := serve(t)
	const shown = "http://127.0.0.1:8080"
	function := `c() { "$COMPLIANCED" --data-dir "$DIR" "$@"; }`
	shell := exec.CommandContext(t.Context(), "sh", "-e", "-c", function+"\n"+strings.ReplaceAll(strings.Join(script, "\n"), shown, s.HTTP))
	shell.Env = append(os.Environ(), "COMPLIANCED="+binary, "DIR="+s.dir)
	out, err := shell.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var have []string
	for line := range strings.Lines(strings.ReplaceAll(string(out), s.HTTP, shown)) {
		have = append(have, strings.TrimSpace(line))
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("the output is another one (-README +have):\n%s", diff)
	}
}
