package main_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/knadh/koanf/parsers/yaml"
	"github.com/spf13/pflag"

	complianced "github.com/complianced/complianced/cmd/complianced"
)

func TestAMapOfAFileComesThroughWhatItsTextsMayBe(t *testing.T) {
	for name, setting := range map[string]map[string]any{
		"one":                 {"p1": "First"},
		"several":             {"p1": "First", "p2": "Second"},
		"a comma":             {"p1": "First, the best", "p2": "Second"},
		"one with a comma":    {"p1": "First, the best"},
		"quotes":              {"p1": `"First"`},
		"equality signs":      {"p1": "a=b", "p2": "c=d, e=f"},
		"lines":               {"p1": "First\nline"},
		"numbers and nothing": {"p1": 1, "p2": ""},
	} {
		t.Run(name, func(t *testing.T) {
			var have map[string]string
			flags := pflag.NewFlagSet("", pflag.ContinueOnError)
			flags.StringToStringVar(&have, "names", nil, "")
			if err := complianced.SetFlag(flags.Lookup("names"), setting); err != nil {
				t.Fatal(err)
			}
			want := map[string]string{}
			for id, value := range setting {
				if want[id] = ""; value == 1 {
					want[id] = "1"
				} else if text, ok := value.(string); ok {
					want[id] = text
				}
			}
			if diff := cmp.Diff(want, have); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAListOfAFileKeepsItsEntriesWhole(t *testing.T) {
	var have []string
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	flags.StringSliceVar(&have, "list", []string{"default"}, "")
	for _, want := range [][]string{{"a,b", "c"}, {}} {
		setting := []any{}
		for _, entry := range want {
			setting = append(setting, entry)
		}
		if err := complianced.SetFlag(flags.Lookup("list"), setting); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, have); diff != "" {
			t.Error(diff)
		}
	}
}

func TestADateOfAFileComesThroughWithoutQuotes(t *testing.T) {
	settings, err := yaml.Parser().Unmarshal([]byte(`
at: 2026-01-31T12:00:00.1234567+03:00
list: [2026-01-31T12:00:00Z]
map: {p: 2026-01-31T12:00:00.5Z}
`))
	if err != nil {
		t.Fatal(err)
	}
	var at string
	var list []string
	var names map[string]string
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	flags.StringVar(&at, "at", "", "")
	flags.StringSliceVar(&list, "list", nil, "")
	flags.StringToStringVar(&names, "map", nil, "")
	for name, setting := range settings {
		if err := complianced.SetFlag(flags.Lookup(name), setting); err != nil {
			t.Fatal(err)
		}
	}
	want := []any{"2026-01-31T12:00:00.1234567+03:00", []string{"2026-01-31T12:00:00Z"}, map[string]string{"p": "2026-01-31T12:00:00.5Z"}}
	if diff := cmp.Diff(want, []any{at, list, names}); diff != "" {
		t.Error(diff)
	}
}

func TestAFlagGoesBeforeTheEnvironmentAndThatBeforeTheFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte("log-format: of-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	config, flag := []string{"--config", file}, []string{"--log-format", "of-flag"}
	for _, c := range []struct {
		args        []string
		environment string
		want        string
	}{
		{config, "", "of-file"},
		{nil, "of-environment", "of-environment"},
		{flag, "", "of-flag"},
		{config, "of-environment", "of-environment"},
		{slices.Concat(config, flag), "", "of-flag"},
		{flag, "of-environment", "of-flag"},
		{slices.Concat(config, flag), "of-environment", "of-flag"},
	} {
		if c.environment != "" {
			t.Setenv("COMPLIANCED_LOG_FORMAT", c.environment)
		} else {
			os.Unsetenv("COMPLIANCED_LOG_FORMAT")
		}
		// No format is of that name, and the error says of which.
		_, stderr, status := command(t, "", append([]string{"serve"}, c.args...)...)
		if status != 2 || !strings.Contains(stderr, `--log-format "`+c.want+`"`) {
			t.Errorf("%v and %q: status %d: %s", c.args, c.environment, status, stderr)
		}
	}
}
