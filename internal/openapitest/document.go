// Package openapitest holds answers of the HTTP API against its description,
// api/openapi.yaml.
package openapitest

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

const (
	file       = "openapi.yaml"
	reportFile = "devicestatus.schema.json"
	mediaType  = "application/json"
	components = "#/components/"
)

// Document is api/openapi.yaml. Package openapi3 reads it and sees that it is right OpenAPI.
// Package jsonschema, as with asyncapi.yaml, holds values against its schemas: openapi3
// refuses members that the patternProperties of devicestatus.schema.json allow.
type Document struct {
	*openapi3.T

	test     *testing.T
	compiler *jsonschema.Compiler

	mutex    sync.Mutex // Guards what follows, and the compiler in Check.
	seen     map[Outcome]bool
	used     map[Parameter]bool
	examples map[string]bool
}

// Outcome is an answer that an operation may have.
type Outcome struct {
	Operation string
	Status    int
	// Code is that of the inner error; empty where the answer is none.
	Code string
}

// Read reads the document in a folder, which is right OpenAPI.
func Read(t *testing.T, dir string) *Document {
	t.Helper()
	loader := openapi3.NewLoader()
	loader.IsExternalRefsAllowed = true
	doc, err := loader.LoadFromFile(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context(), openapi3.DisableExamplesValidation()); err != nil {
		t.Fatal(err)
	}
	d := &Document{
		test: t, T: doc, compiler: jsonschema.NewCompiler(), seen: map[Outcome]bool{}, used: map[Parameter]bool{}, examples: map[string]bool{},
	}
	d.compiler.AssertFormat()
	for _, name := range []string{file, reportFile} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		var value any
		if err := yaml.Unmarshal(text, &value); err != nil { // JSON is a part of YAML.
			t.Fatal(err)
		}
		if err := d.compiler.AddResource(name, d.plain(value)); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// plain returns a value as package jsonschema wants it.
func (d *Document) plain(value any) any {
	d.test.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		d.test.Fatal(err)
	}
	return d.parse(text)
}

func (d *Document) parse(text []byte) any {
	d.test.Helper()
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		d.test.Fatalf("%s: %v", text, err)
	}
	return value
}

// Fits holds a value against the schema at a JSON pointer.
func (d *Document) Fits(pointer string, value any) error {
	d.test.Helper()
	schema, err := d.compiler.Compile(file + pointer)
	if err != nil {
		d.test.Fatal(err)
	}
	return schema.Validate(d.plain(value))
}

// Example returns an example of the components, and notes that it is one of something.
func (d *Document) Example(name string) any {
	d.test.Helper()
	example := d.Components.Examples[name]
	if example == nil {
		d.test.Fatalf("the document has no example %q", name)
	}
	d.mutex.Lock()
	defer d.mutex.Unlock()
	d.examples[name] = true
	return example.Value.Value
}

// Unused returns the examples that were never asked for.
func (d *Document) Unused() (names []string) {
	for name := range d.Components.Examples {
		if !d.examples[name] {
			names = append(names, name)
		}
	}
	return names
}

// bodySchema is where the schema of a response is.
func bodySchema(response *openapi3.ResponseRef) string {
	return response.Ref + "/content/" + escape(mediaType) + "/schema"
}

// RequestSchema is where the schema of the body of a request is.
func RequestSchema(path, method string) string {
	return "#/paths/" + escape(path) + "/" + strings.ToLower(method) + "/requestBody/content/" + escape(mediaType) + "/schema"
}

func escape(token string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(token) }
