package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tiny is a module with one promise and a test of it.
var tiny = map[string]string{
	"go.mod": "module example.com/tiny\n\ngo 1.26\n",
	"tiny.go": `package tiny

func Two() int {
	return 2
}
`,
	"tiny_test.go": `package tiny

import "testing"

func TestTwo(t *testing.T) {
	if n := Two(); n != 2 {
		t.Errorf("two is %d", n)
	}
}
`,
}

// change is a bug that puts lines in the place of the function's only one.
func change(name, says string, lines ...string) bug {
	text := "Bug: " + name + "\nTest: . TestTwo\nSays: " + says + "\n\n--- a/tiny.go\n+++ b/tiny.go\n" +
		"@@ -1,5 +1," + string(rune('0'+4+len(lines))) + " @@\n package tiny\n \n func Two() int {\n-\treturn 2\n"
	for _, line := range lines {
		text += "+\t" + line + "\n"
	}
	b, err := parseBug(strings.ReplaceAll(name, " ", "-"), text+" }\n")
	if err != nil {
		panic(err)
	}
	return b
}

func TestABugIsCaughtWhereItsTestFailsAndSaysSo(t *testing.T) {
	root := t.TempDir()
	for name, text := range tiny {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		bug  bug
		want error
		says string
	}{
		{change("caught", "two is 3", "return 3"), nil, "caught      caught"},
		{change("not caught", "two is 3", "return 1 + 1"), errNotCaught, "passes without the bug, passes with it"},
		{change("another message", "two is 3", "return 4"), errNotCaught, "two is 4"},
		{change("never ends", "goroutine", "select {}"), errNotCaught, string(breaks)},
		{change("a panic elsewhere", "two is 3", `go func() { panic("two is 3") }()`, "select {}"), errNotCaught, string(breaks)},
		{change("does not apply", "two is 3", "return 3"), errNoApply, ""},
		{change("does not compile", "two is 3", "return three"), errNoBuild, ""},
	} {
		t.Run(test.bug.name, func(t *testing.T) {
			if errors.Is(test.want, errNoApply) {
				test.bug.patch = strings.Replace(test.bug.patch, "return 2", "return 5", 1)
			}
			var out strings.Builder
			err := tryAll(t.Context(), &out, root, t.TempDir(), 5*time.Second, []bug{test.bug})
			if !errors.Is(err, test.want) || !strings.Contains(out.String(), test.says) {
				t.Errorf("%v:\n%s", err, &out)
			}
		})
	}
}

func TestATestThatFailsWithoutTheBugCatchesNothing(t *testing.T) {
	root := t.TempDir()
	for name, text := range tiny {
		if err := os.WriteFile(filepath.Join(root, name), []byte(strings.Replace(text, "n != 2", "true", 1)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out strings.Builder
	err := tryAll(t.Context(), &out, root, t.TempDir(), time.Minute, []bug{change("bug", "two is", "return 3")})
	if !errors.Is(err, errNotCaught) {
		t.Errorf("%v: %s", err, &out)
	}
	gone := change("bug", "two is", "return 3")
	gone.tests[0].name = "TestThatIsNotThere"
	if err := tryAll(t.Context(), &out, root, t.TempDir(), time.Minute, []bug{gone}); !errors.Is(err, errNoVerdict) {
		t.Errorf("a test that is not there: %v", err)
	}
}
