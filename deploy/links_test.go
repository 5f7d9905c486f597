package deploy_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

func TestEveryRelativeLinkLeadsSomewhere(t *testing.T) {
	for _, name := range []string{"README.md", "CONTRIBUTING.md"} {
		text, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range link.FindAllStringSubmatch(string(text), -1) {
			target, _, _ := strings.Cut(match[1], "#")
			if target == "" || strings.Contains(target, "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join("..", filepath.FromSlash(target))); err != nil {
				t.Errorf("%s links to %s: %v", name, target, err)
			}
		}
	}
}

// row matches a row of the README's table of commands, which may name several.
var row = regexp.MustCompile("(?m)^\\| (`[a-z][^|]*) \\|")

func TestTheReadmeNamesEveryCommand(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var named string
	for _, match := range row.FindAllStringSubmatch(string(text), -1) {
		named += match[1]
	}
	files, err := filepath.Glob("../cmd/complianced/*.go")
	if err != nil {
		t.Fatal(err)
	}
	use := regexp.MustCompile(`(?m)^\s+Use:\s+"([a-z]+)`)
	n := 0
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range use.FindAllStringSubmatch(string(source), -1) {
			if match[1] == "complianced" {
				continue
			}
			if n++; !strings.Contains(named, "`"+match[1]) {
				t.Errorf("the README does not name the command %s", match[1])
			}
		}
	}
	if n < 8 {
		t.Errorf("only %d commands were found", n)
	}
}
