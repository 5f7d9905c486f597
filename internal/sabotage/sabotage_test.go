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
	if len(bugs) < 12 {
		t.Errorf("%d bugs, want at least 12", len(bugs))
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
	const test = "Test: ./p TestX\nSays: wrong\n"
	if b, err := parseBug("x", "Bug: wrong\n"+test+patch); err != nil || len(b.tests) != 1 || len(b.files) != 1 || b.tests[0].says != "wrong" {
		t.Errorf("%v: %+v", err, b)
	}
	for _, text := range []string{
		"", "Bug: wrong\n" + patch, test + patch, "Bug: wrong\nTest: ./p\nSays: wrong\n" + patch, "Bug: wrong\n" + test + "\n", "Other: x\n" + patch,
		"Bug: wrong\nTest: ./p TestX\n" + patch, "Bug: wrong\nSays: wrong\nTest: ./p TestX\n" + patch, "Bug: wrong\n" + test + "Says: more\n" + patch,
	} {
		if _, err := parseBug("x", text); !errors.Is(err, errHead) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
