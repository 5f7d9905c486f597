package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestAReplayLetsOthersGoFirst(t *testing.T) {
	s := serve(t)
	cmd := exec.Command(binary, "--data-dir", s.dir, "replay", "--file", "-")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	fmt.Fprintln(stdin, `{"complianceReports":1}`) // More may follow.
	var nice []string
	eventually(t, "that all threads have a nice value of 10", func() bool {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		nice = nil
		for _, thread := range threads {
			text, err := os.ReadFile(thread)
			if err != nil {
				continue // It has ended.
			}
			_, rest, _ := strings.Cut(string(text), ") ") // The name may have blanks.
			if value := strings.Fields(rest)[16]; value != "10" {
				nice = append(nice, value)
			}
		}
		return len(threads) > 1 && len(nice) == 0
	})
}
