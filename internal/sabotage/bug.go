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
type test struct{ pkg, name string }

var errHead = errors.New("the head of a patch is lines of «Bug: what is wrong» and «Test: package name», then the patch")

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
		switch {
		case kind == "Bug" && rest != "":
			b.text = rest
		case kind == "Test" && function != "":
			b.tests = append(b.tests, test{pkg, function})
		default:
			return bug{}, errHead
		}
	}
	for line := range strings.Lines(patch) {
		if file, ok := strings.CutPrefix(line, "--- a/"); ok {
			b.files = append(b.files, strings.TrimSpace(file))
		}
	}
	if b.text == "" || len(b.tests) == 0 || len(b.files) == 0 {
		return bug{}, errHead
	}
	return b, nil
}

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
		return "", fmt.Errorf("git apply: %w: %s", err, out)
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
		return fmt.Errorf("go build: %w: %s", err, out)
	}
	return nil
}

var errNoVerdict = errors.New("go test neither passed nor failed the test")

// fails tells whether the test fails, with an overlay where that is not empty. The
// overlay goes by the environment, so that a test that builds the program builds
// it with the bug.
func (t test) fails(ctx context.Context, root, overlay string) (bool, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "-timeout=5m", "-v", "-run", "^"+t.name+"$", t.pkg)
	cmd.Dir, cmd.Env = root, os.Environ()
	if overlay != "" {
		cmd.Env = append(cmd.Env, "GOFLAGS="+strings.TrimSpace(os.Getenv("GOFLAGS")+" -overlay="+overlay))
	}
	out, err := cmd.CombinedOutput()
	lines := strings.Split(string(out), "\n")
	began := func(with string) bool {
		return slices.ContainsFunc(lines, func(line string) bool { return strings.HasPrefix(line, with+t.name) })
	}
	switch _, exited := errors.AsType[*exec.ExitError](err); {
	case err == nil && began("--- PASS: "):
		return false, nil
	case exited && (began("--- FAIL: ") || strings.Contains(string(out), "panic: ")):
		return true, nil
	}
	return false, fmt.Errorf("%s %s: %w: %w\n%s", t.pkg, t.name, errNoVerdict, err, out)
}

func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("go list: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}
