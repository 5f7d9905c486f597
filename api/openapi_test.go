package api_test

import (
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/graph"
	"github.com/complianced/complianced/internal/openapitest"
)

const mediaType = "application/json"

func TestTheExamplesOfTheHTTPAPIAreRight(t *testing.T) {
	d := openapitest.Read(t, ".")
	n := 0
	fits := func(pointer string, names map[string]any) {
		t.Helper()
		for name, value := range names {
			n++
			if err := d.Fits(pointer, value); err != nil {
				t.Errorf("%s, %s: %v", pointer, name, err)
			}
		}
	}
	for name, response := range d.Components.Responses {
		if content := response.Value.Content[mediaType]; content != nil {
			examples := map[string]any{}
			for name, example := range content.Examples {
				examples[name] = example.Value.Value
			}
			if len(examples) == 0 {
				t.Errorf("%s has no example", name)
			}
			fits("#/components/responses/"+name+"/content/application~1json/schema", examples)
		}
	}
	for path, item := range d.Paths.Map() {
		for method, operation := range item.Operations() {
			if operation.RequestBody != nil {
				examples := map[string]any{}
				for name, example := range operation.RequestBody.Value.Content[mediaType].Examples {
					examples[name] = example.Value.Value
				}
				fits(openapitest.RequestSchema(path, method), examples)
			}
		}
	}
	if n < 30 {
		t.Errorf("only %d examples were found", n)
	}
}

// What the document lists is what the program has.
func TestTheDocumentOfTheHTTPAPIListsAllThereIs(t *testing.T) {
	d := openapitest.Read(t, ".")
	routes := map[string][]string{}
	for path, item := range d.Paths.Map() {
		routes[path] = slices.Sorted(maps.Keys(item.Operations()))
		for method, operation := range item.Operations() {
			var scopes []string
			for _, requirement := range *operation.Security {
				scopes = append(scopes, requirement["bearer"]...)
			}
			want := []string{graph.ScopeReadWrite}
			if method == http.MethodGet {
				want = []string{graph.ScopeRead, graph.ScopeReadWrite}
			}
			if diff := cmp.Diff(want, scopes); diff != "" {
				t.Errorf("%s %s: scopes (-want +got):\n%s", method, path, diff)
			}
		}
	}
	want := graph.Routes()
	for _, methods := range want {
		slices.Sort(methods)
	}
	if diff := cmp.Diff(want, routes); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}

	// Those of net/http are beside those of the handler.
	statuses := append(graph.Statuses(), http.StatusExpectationFailed, http.StatusRequestHeaderFieldsTooLarge,
		http.StatusNotImplemented, http.StatusHTTPVersionNotSupported)
	found := map[int]bool{http.StatusMethodNotAllowed: true}
	for outcome := range d.Outcomes() {
		found[outcome.Status] = true
	}
	slices.Sort(statuses)
	if diff := cmp.Diff(statuses, slices.Sorted(maps.Keys(found))); diff != "" {
		t.Errorf("statuses (-want +got):\n%s", diff)
	}
}

// errorCode is the schema ErrorCode. It is read apart, for the order of what it says.
type errorCode struct {
	Components struct {
		Schemas struct {
			ErrorCode struct {
				Enum         []string  `yaml:"enum"`
				Descriptions yaml.Node `yaml:"x-enumDescriptions"`
			} `yaml:"ErrorCode"`
		} `yaml:"schemas"`
	} `yaml:"components"`
}

func TestEveryCodeOfTheHTTPAPIHasItsStatusesAndItsMeaning(t *testing.T) {
	text, err := os.ReadFile("openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var document errorCode
	if err := yaml.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, code := range compliance.Codes() {
		want = append(want, string(code))
	}
	want = append(want, graph.Codes()...)
	schema := &document.Components.Schemas.ErrorCode
	if diff := cmp.Diff(want, schema.Enum); diff != "" {
		t.Errorf("codes (-want +got):\n%s", diff)
	}

	statuses := map[string]map[string]bool{}
	add := func(code string, status int) {
		if statuses[code] == nil {
			statuses[code] = map[string]bool{}
		}
		statuses[code][strconv.Itoa(status)] = true
	}
	for outcome := range openapitest.Read(t, ".").Outcomes() {
		if outcome.Code != "" {
			add(outcome.Code, outcome.Status)
		}
	}
	// No operation has a method that is not there, and an outer code alone is no inner one.
	add("MethodNotAllowed", http.StatusMethodNotAllowed)
	add("RequestEntityTooLarge", http.StatusRequestEntityTooLarge)

	meaning := regexp.MustCompile(`^([0-9]{3}(?:, [0-9]{3})*): [A-Z@a-z].*\.$`)
	var described []string
	for i := 0; i < len(schema.Descriptions.Content); i += 2 {
		code, words := schema.Descriptions.Content[i].Value, schema.Descriptions.Content[i+1].Value
		described = append(described, code)
		parts := meaning.FindStringSubmatch(words)
		if parts == nil {
			t.Errorf("%s has no status or meaning: %q", code, words)
			continue
		}
		if diff := cmp.Diff(slices.Sorted(maps.Keys(statuses[code])), strings.Split(parts[1], ", ")); diff != "" {
			t.Errorf("statuses of %s (-want +got):\n%s", code, diff)
		}
	}
	if diff := cmp.Diff(schema.Enum, described); diff != "" {
		t.Errorf("meanings (-want +got):\n%s", diff)
	}
}
