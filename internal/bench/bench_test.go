package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestMain lets the test's program be the bare work, which bench starts itself as.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == bareCommand {
		main()
		return
	}
	code := m.Run()
	_ = os.RemoveAll(programsDir) // "" is nothing.
	os.Exit(code)
}

func TestASmallRunMeasuresEverythingAndIsRight(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts servers")
	}
	file := filepath.Join(t.TempDir(), "bench.json")
	args := []string{
		"--reports", "3000", "--devices", "500", "--count", "1", "--backlog", "3000", "--records", "3000", "--for", "300ms", "--rate-kept", "0",
		"--appendonly", "yes", "--mix", "steady", "--dir", t.TempDir(), "--json", file,
	}
	var out, progress bytes.Buffer
	if err := run(t.Context(), args, nil, &out, &progress); err != nil {
		t.Fatalf("%v\n%s", err, &progress)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	settings, _ := got["settings"].(map[string]any)
	delete(settings, "rate_kept")
	for _, place := range unset("", got) {
		t.Errorf("no figure at %s", place)
	}
	for part, n := range map[string]int{"speed": 1, "latency": 1, "memory": 4, "backlog": 1, "profiles": 1, "derived": 1, "reads": 1, "targets": 15} {
		if all, _ := got[part].([]any); len(all) != n {
			t.Errorf("%d results of %s, not %d", len(all), part, n)
		}
	}
	for _, want := range []string{"reports/s", "bare work = 1", "p99.9", "its own version", "64 KiB", "a scrape", "a page of", "GOGC", "cum%", "at most 20 ms", "as they must be"} {
		if !bytes.Contains(out.Bytes(), []byte(want)) {
			t.Errorf("the text has no %q:\n%s", want, &out)
		}
	}
}

// unset returns the places in a JSON text without a value. What is measured in steps
// of 10 ms, or ends in time, may be 0 in a run as small as this one.
func unset(place string, value any) []string {
	var places []string
	switch value := value.(type) {
	case map[string]any:
		for name, member := range value {
			if name != "redis" && name != "nats" {
				places = append(places, unset(place+"/"+name, member)...)
			}
		}
	case []any:
		if len(value) == 0 {
			return []string{place}
		}
		for i, element := range value {
			places = append(places, unset(fmt.Sprintf("%s/%d", place, i), element)...)
		}
	case nil:
		return []string{place}
	case float64:
		if value <= 0 {
			return []string{place}
		}
	case string:
		if value == "" || value == unknown {
			return []string{place}
		}
	}
	return places
}

func TestFlagsThatAreWrongAreNamed(t *testing.T) {
	for _, args := range [][]string{
		{"--only", "speed,nothing"},
		{"--mix", "best"},
		{"--appendonly", "maybe"},
		{"--count", "0"},
		{"--buckets", "300"},
		{"--bare-connections", "1000"},
		{"--rate-kept", "1.1"},
		{"more"},
	} {
		if _, err := parse(args, new(bytes.Buffer)); err == nil {
			t.Errorf("%v is taken", args)
		}
	}
}

func TestFiguresAreTheMedianLeastAndGreatest(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   Figure
	}{
		{[]float64{3}, Figure{3, 3, 3}},
		{[]float64{9, 1, 4}, Figure{4, 1, 9}},
		{[]float64{4, 1, 2, 9}, Figure{3, 1, 9}},
	} {
		if got := figureOf(test.values); got != test.want {
			t.Errorf("figureOf(%v) = %v, want %v", test.values, got, test.want)
		}
	}
}
