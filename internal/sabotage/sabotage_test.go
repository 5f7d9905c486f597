package main

import (
	"errors"
	"path/filepath"
	"testing"
)

// A patch that does not apply or build any more would show nothing.
func TestEveryBugAppliesAndBuilds(t *testing.T) {
	root, err := moduleRoot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	bugs, err := readBugs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	if len(bugs) < 10 {
		t.Errorf("%d bugs, want at least 10", len(bugs))
	}
	for _, b := range bugs {
		t.Run(b.name, func(t *testing.T) {
			overlay, err := b.overlay(t.Context(), root, filepath.Join(t.TempDir(), "files"))
			if err != nil {
				t.Fatal(err)
			}
			if err := b.builds(t.Context(), root, overlay); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAHeadThatSaysTooLittleIsRefused(t *testing.T) {
	const patch = "\n--- a/x.go\n+++ b/x.go\n"
	if b, err := parseBug("x", "Bug: wrong\nTest: ./p TestX\n"+patch); err != nil || len(b.tests) != 1 || len(b.files) != 1 {
		t.Errorf("%v: %+v", err, b)
	}
	for _, text := range []string{"", "Bug: wrong\n" + patch, "Test: ./p TestX\n" + patch, "Bug: wrong\nTest: ./p\n" + patch, "Bug: wrong\nTest: ./p TestX\n\n", "Other: x\n" + patch} {
		if _, err := parseBug("x", text); !errors.Is(err, errHead) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
