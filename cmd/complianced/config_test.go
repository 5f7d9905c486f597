package main_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
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
