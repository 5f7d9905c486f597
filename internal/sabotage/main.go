package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Stdout, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "sabotage:", err)
		os.Exit(1)
	}
}

var (
	errNotCaught = errors.New("a bug was not caught")
	errNoPatch   = errors.New("no such bug in testdata")
)

// run tries the bugs with these names, or all.
func run(ctx context.Context, w io.Writer, names []string) error {
	root, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	bugs, err := readBugs(filepath.Join(root, "internal", "sabotage", "testdata"))
	if err != nil {
		return err
	}
	if len(names) > 0 {
		bugs = slices.DeleteFunc(bugs, func(b bug) bool { return !slices.Contains(names, b.name) })
		if len(bugs) != len(names) {
			return errNoPatch
		}
	}
	dir, err := os.MkdirTemp("", "sabotage")
	if err != nil {
		return err
	}
	err = tryAll(ctx, w, root, dir, testLimit, bugs)
	return errors.Join(err, os.RemoveAll(dir))
}

// testLimit is how long one test may take.
const testLimit = 5 * time.Minute

func tryAll(ctx context.Context, w io.Writer, root, dir string, limit time.Duration, bugs []bug) error {
	var all error
	for _, b := range bugs {
		overlay, err := b.overlay(ctx, root, filepath.Join(dir, b.name))
		if err == nil {
			err = b.builds(ctx, root, overlay)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", b.name, err)
		}
		for _, t := range b.tests {
			healthy, _, err := t.run(ctx, root, "", limit)
			if err != nil {
				return fmt.Errorf("%s: %w", b.name, err)
			}
			sick, out, err := t.run(ctx, root, overlay, limit)
			if err != nil {
				return fmt.Errorf("%s: %w", b.name, err)
			}
			verdict := "caught"
			if healthy != passes || sick != fails {
				verdict = "NOT CAUGHT"
				all = errors.Join(all, fmt.Errorf("%w: %s", errNotCaught, b.name))
			}
			fmt.Fprintf(w, "%-10s  %s\n            %s %s: %s without the bug, %s with it\n", verdict, b.text, t.pkg, t.name, healthy, sick)
			if sick == breaks {
				fmt.Fprintf(w, "            it was to say %q, and said:\n%s\n", t.says, end(out))
			}
		}
	}
	return all
}

// end is the last lines of a text.
func end(text string) string {
	const most = 30
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-most):], "\n")
}
