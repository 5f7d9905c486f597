package api_test

import (
	"bytes"
	"os"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/complianced/complianced/compliance/compliancetest"
)

// schemaFile is the JSON Schema of a payload.
const schemaFile = "devicestatus.schema.json"

// jsonOf reads a file as JSON.
func jsonOf(t *testing.T, path string) any {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return value
}

// payloadSchema compiles the JSON Schema of a payload, which is a right one itself.
func payloadSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource(schemaFile, jsonOf(t, schemaFile)); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if schema.DraftVersion != 2020 {
		t.Errorf("the schema is one of the draft of %d", schema.DraftVersion)
	}
	return schema
}

// The reasons why the schema takes what the decoder refuses. It never refuses what the
// decoder takes.
const (
	ofTheSubject  = "the subject is not in the payload"
	ofTheHeaders  = "the headers are not in the payload"
	ofTheSettings = "the policies that are taken are not in the payload"
	ofTheClock    = "the time of storing is not in the payload"
	ofItsSize     = "a schema does not see the bytes of a text"
	ofTheText     = "a schema sees what a JSON parser made of the text: a member that is there twice, how deep it is, and what is no UTF-8 is the parser's to tell"
	ofTheNumber   = "a number is the same to a schema, with a fraction of 0 or an exponent or without"
	ofTheInstant  = "a pattern does not reckon: with the offset, the instant lies outside of the years 1 to 9999"
)

func TestSchemaAndDecoderAgreeOnEveryVector(t *testing.T) {
	schema := payloadSchema(t)
	listed := map[string]string{}
	for reason, names := range schemaCannotSay {
		for _, name := range names {
			if listed[name] != "" {
				t.Errorf("%q is listed twice", name)
			}
			listed[name] = reason
		}
	}
	for _, v := range compliancetest.Vectors(t) {
		_, rejection := v.Rules.Decode(&v.Envelope)
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(v.Envelope.Body))
		if err == nil {
			err = schema.Validate(value)
		}
		reason := listed[v.Name]
		delete(listed, v.Name)
		switch {
		case err != nil && rejection == nil:
			t.Errorf("%s: %q is taken, and refused by the schema: %v", v.Group, v.Name, err)
		case err == nil && rejection != nil && reason == "":
			t.Errorf("%s: %q is refused as %s, and right by the schema", v.Group, v.Name, rejection.Code())
		case (err == nil) == (rejection == nil) && reason != "":
			t.Errorf("%s: of %q schema and decoder agree, although it is listed: %s", v.Group, v.Name, reason)
		}
	}
	for name := range listed {
		t.Errorf("%q is listed and no vector", name)
	}
}
