package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// bug is a patch and what must catch it.
type bug struct {
	name  string
	text  string
	tests []test
	patch string
	// files are those that the patch changes, from the module's root.
	files []string
}

// test is one test function of a package.
type test struct {
	pkg, name string
	// says is what the test prints where it fails because of the bug.
	says string
}

var errHead = errors.New("the head of a patch is a line «Bug: what is wrong» and then, for each test, " +
	"«Test: package name» and «Says: what it prints because of the bug»; then comes the patch")

func readBugs(dir string) ([]bug, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.patch"))
	if err != nil {
		return nil, err
	}
	var bugs []bug
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		b, err := parseBug(strings.TrimSuffix(filepath.Base(path), ".patch"), string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		bugs = append(bugs, b)
	}
	return bugs, nil
}

func parseBug(name, text string) (bug, error) {
	head, patch, _ := strings.Cut(text, "\n\n")
	b := bug{name: name, patch: patch}
	for line := range strings.Lines(head) {
		kind, rest, _ := strings.Cut(strings.TrimSpace(line), ": ")
		pkg, function, _ := strings.Cut(rest, " ")
		last := len(b.tests) - 1
		switch {
		case kind == "Bug" && rest != "":
			b.text = rest
		case kind == "Test" && function != "":
			b.tests = append(b.tests, test{pkg: pkg, name: function})
		case kind == "Says" && rest != "" && last >= 0 && b.tests[last].says == "":
			b.tests[last].says = rest
		default:
			return bug{}, errHead
		}
	}
	for line := range strings.Lines(patch) {
		if file, ok := strings.CutPrefix(line, "--- a/"); ok {
			b.files = append(b.files, strings.TrimSpace(file))
		}
	}
	silent := slices.ContainsFunc(b.tests, func(t test) bool { return t.says == "" })
	if b.text == "" || len(b.tests) == 0 || silent || len(b.files) == 0 {
		return bug{}, errHead
	}
	return b, nil
}

// A patch that fits no more shows nothing.
var (
	errNoApply = errors.New("git apply")
	errNoBuild = errors.New("go build")
)

// overlay writes the patched files below dir, and returns the path of the file
// that tells the go command to take them.
func (b bug) overlay(ctx context.Context, root, dir string) (string, error) {
	replace := map[string]string{}
	for _, file := range b.files {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			return "", err
		}
		patched := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(patched), 0o700); err != nil {
			return "", err
		}
		if err := os.WriteFile(patched, text, 0o600); err != nil {
			return "", err
		}
		replace[filepath.Join(root, file)] = patched
	}
	apply := exec.CommandContext(ctx, "git", "apply", "-")
	apply.Dir, apply.Stdin = dir, strings.NewReader(b.patch)
	// Nothing above the folder is taken for a repository.
	apply.Env = append(os.Environ(), "GIT_CEILING_DIRECTORIES="+filepath.Dir(dir))
	if out, err := apply.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %w: %s", errNoApply, err, out)
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, text, 0o600)
}

// builds is an error where the changed packages do not build with the bug: what
// does not build catches nothing.
func (b bug) builds(ctx context.Context, root, overlay string) error {
	args := []string{"build", "-overlay", overlay}
	for _, file := range b.files {
		args = append(args, "./"+filepath.Dir(file))
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %w: %s", errNoBuild, err, out)
	}
	return nil
}

// outcome is how a test ended.
type outcome string

const (
	passes outcome = "passes"
	// fails is a failure of this test that says what it is to say.
	fails outcome = "fails"
	// breaks is any other failure: this test with another message, a panic of
	// something else, or the end of the time.
	breaks outcome = "breaks without saying so"
)

var errNoVerdict = errors.New("go test neither passed nor failed the test")

// run runs the test, with an overlay where that is not empty. The overlay goes by the
// environment, so that a test that builds the program builds it with the bug.
func (t test) run(ctx context.Context, root, overlay string, limit time.Duration) (outcome, string, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "-timeout="+limit.String(), "-v", "-run", "^"+t.name+"$", t.pkg)
	cmd.Dir, cmd.Env = root, os.Environ()
	if overlay != "" {
		cmd.Env = append(cmd.Env, "GOFLAGS="+strings.TrimSpace(os.Getenv("GOFLAGS")+" -overlay="+overlay))
	}
	text, err := cmd.CombinedOutput()
	out := string(text)
	ended := func(with string) bool {
		return slices.ContainsFunc(strings.Split(out, "\n"), func(line string) bool { return strings.HasPrefix(line+" ", with+t.name+" ") })
	}
	_, exited := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil && ended("--- PASS: "):
		return passes, out, nil
	case exited && ended("--- FAIL: ") && strings.Contains(out, t.says) && !strings.Contains(out, "panic: test timed out"):
		return fails, out, nil
	case exited && ended("=== RUN   ") || exited && strings.Contains(out, "panic: "):
		return breaks, out, nil
	}
	return "", out, fmt.Errorf("%s %s: %w: %w\n%s", t.pkg, t.name, errNoVerdict, err, out)
}

func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("go list: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}
