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
	err = tryAll(ctx, w, root, dir, bugs)
	return errors.Join(err, os.RemoveAll(dir))
}

func tryAll(ctx context.Context, w io.Writer, root, dir string, bugs []bug) error {
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
			healthy, err := t.fails(ctx, root, "")
			if err != nil {
				return fmt.Errorf("%s: %w", b.name, err)
			}
			sick, err := t.fails(ctx, root, overlay)
			if err != nil {
				return fmt.Errorf("%s: %w", b.name, err)
			}
			verdict := "caught"
			if healthy || !sick {
				verdict = "NOT CAUGHT"
				all = errors.Join(all, fmt.Errorf("%w: %s", errNotCaught, b.name))
			}
			fmt.Fprintf(w, "%-10s  %s\n            %s %s: %s without the bug, %s with it\n", verdict, b.text, t.pkg, t.name, said(healthy), said(sick))
		}
	}
	return all
}

func said(fails bool) string {
	if fails {
		return "fails"
	}
	return "passes"
}
