package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/deadletter"
)

const asyncFile = "asyncapi.yaml"

// asyncAPI is asyncapi.yaml.
type asyncAPI struct {
	*testing.T
	doc      any
	compiler *jsonschema.Compiler
}

func readAsyncAPI(t *testing.T) *asyncAPI {
	t.Helper()
	text, err := os.ReadFile(asyncFile)
	if err != nil {
		t.Fatal(err)
	}
	var value any
	if err := yaml.Unmarshal(text, &value); err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(asJSON))
	if err != nil {
		t.Fatal(err)
	}
	a := &asyncAPI{T: t, doc: doc, compiler: jsonschema.NewCompiler()}
	for name, resource := range map[string]any{asyncFile: doc, schemaFile: jsonOf(t, schemaFile)} {
		if err := a.compiler.AddResource(name, resource); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

// at returns what a JSON pointer points to.
func (a *asyncAPI) at(pointer string) any {
	a.Helper()
	value := a.doc
	for token := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		token = strings.NewReplacer("~1", "/", "~0", "~").Replace(token)
		object, ok := value.(map[string]any)
		if !ok || object[token] == nil {
			a.Fatalf("nothing is at %s", pointer)
		}
		value = object[token]
	}
	return value
}

// schema compiles a schema of the document.
func (a *asyncAPI) schema(name string) *jsonschema.Schema {
	a.Helper()
	schema, err := a.compiler.Compile(asyncFile + "#/components/schemas/" + name)
	if err != nil {
		a.Fatal(err)
	}
	return schema
}

// right reports a value that a schema refuses.
func (a *asyncAPI) right(schema *jsonschema.Schema, value any) {
	a.Helper()
	if err := schema.Validate(value); err != nil {
		a.Errorf("%v: %v", value, err)
	}
}

// example is an example of a message.
type example struct {
	Name    string            `json:"name"`
	Headers map[string]string `json:"headers"`
	Payload any               `json:"payload"`
}

func (a *asyncAPI) examples(message string) (list []example) {
	a.Helper()
	text, err := json.Marshal(a.at("/components/messages/" + message + "/examples"))
	if err != nil {
		a.Fatal(err)
	}
	if err := json.Unmarshal(text, &list); err != nil || len(list) == 0 {
		a.Fatal(len(list), err)
	}
	return list
}

// anyOf returns headers as a schema sees them.
func anyOf(headers map[string]string) any {
	values := map[string]any{}
	for name, value := range headers {
		values[name] = value
	}
	return values
}

func envelopeOf(t *testing.T, e *example) compliance.Envelope {
	t.Helper()
	body, err := json.Marshal(e.Payload)
	if err != nil {
		t.Fatal(err)
	}
	header := map[string][]string{}
	for name, value := range e.Headers {
		header[name] = []string{value}
	}
	return compliance.Envelope{
		Subject: "compliance.status.my-policy.my-device", Header: header, Body: body, Sequence: 7, Stored: time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC),
	}
}

// Every reference of the document leads somewhere.
func TestEveryReferenceResolves(t *testing.T) {
	a := readAsyncAPI(t)
	n := 0
	var walk func(value any)
	walk = func(value any) {
		switch value := value.(type) {
		case []any:
			for _, one := range value {
				walk(one)
			}
		case map[string]any:
			for name, one := range value {
				if ref, ok := one.(string); ok && name == "$ref" {
					n++
					if pointer, local := strings.CutPrefix(ref, "#"); local {
						a.at(pointer)
					} else if ref != "./"+schemaFile {
						t.Errorf("%s leads nowhere", ref)
					}
					continue
				}
				walk(one)
			}
		}
	}
	walk(a.doc)
	if n < 25 {
		t.Errorf("only %d references were found", n)
	}
}

func TestTheReportsThatAreExamplesAreRight(t *testing.T) {
	a := readAsyncAPI(t)
	payload, headers := payloadSchema(t), a.schema("ReportHeaders")
	for _, e := range a.examples("report") {
		a.right(payload, e.Payload)
		a.right(headers, anyOf(e.Headers))
		envelope := envelopeOf(t, &e)
		report, rejection := compliance.Decode(&envelope)
		if rejection != nil || report.Reply != e.Headers["Compliance-Reply"] {
			t.Errorf("%s: reply %q, %v", e.Name, report.Reply, rejection)
		}
	}
}

func TestTheResultsThatAreExamplesAreRight(t *testing.T) {
	a := readAsyncAPI(t)
	schema := a.schema("Result")
	for _, e := range a.examples("result") {
		a.right(schema, e.Payload)
		text, err := json.Marshal(e.Payload)
		if err != nil {
			t.Fatal(err)
		}
		result, err := compliance.ParseResult(text)
		if err != nil {
			t.Fatal(err)
		}
		again, err := result.JSON()
		if err != nil {
			t.Fatal(err)
		}
		a.sameJSON(e.Name, text, again)
		if record := result.Record; record != nil {
			a.sameJSON(e.Name, record, recordOf(t, `{"status":"compliant"}`))
		}
	}
}

// recordOf returns the documented object that a report makes.
func recordOf(t *testing.T, body string) []byte {
	t.Helper()
	e := envelopeOf(t, &example{Payload: json.RawMessage(body)})
	report, rejection := compliance.Decode(&e)
	if rejection != nil {
		t.Fatal(rejection)
	}
	var record compliance.Record
	record.Merge(&report)
	return record.JSON("my-device")
}

func (a *asyncAPI) sameJSON(name string, want, have []byte) {
	a.Helper()
	var w, h any
	if err := json.Unmarshal(want, &w); err != nil {
		a.Fatal(err)
	}
	if err := json.Unmarshal(have, &h); err != nil {
		a.Fatal(err)
	}
	if diff := cmp.Diff(w, h); diff != "" {
		a.Errorf("%s: %s", name, diff)
	}
}

func TestTheDeadLettersThatAreExamplesAreRight(t *testing.T) {
	a := readAsyncAPI(t)
	headers, object := a.schema("DeadLetterHeaders"), a.schema("Error")
	for _, e := range a.examples("deadLetter") {
		a.right(headers, anyOf(e.Headers))
		body, ok := e.Payload.(string)
		if !ok {
			t.Fatalf("%s: the payload is no text", e.Name)
		}
		m := deadletter.Message{Header: map[string][]string{}, Body: []byte(body), Sequence: 1}
		for name, value := range e.Headers {
			m.Header[name] = []string{value}
		}
		m.Subject = fmt.Sprintf("compliance.dead.%s.%s.%s.1800000000000000005", e.Headers["Compliance-Code"], e.Headers["Compliance-Stream"], e.Headers["Compliance-Sequence"])
		letter, err := deadletter.Parse(m)
		if err != nil {
			t.Fatal(err)
		}
		// The error is the one that the decoder gives.
		_, rejection := compliance.Decode(&letter.Envelope)
		if rejection == nil {
			t.Fatalf("%s: the report is right", e.Name)
		}
		if diff := cmp.Diff(rejection.ErrorObject(), letter.Error); diff != "" {
			t.Errorf("%s: %s", e.Name, diff)
		}
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(e.Headers["Compliance-Error"]))
		if err != nil {
			t.Fatal(err)
		}
		a.right(object, value)
	}
}

// What the document lists is what the program has.
func TestTheDocumentListsAllThereIs(t *testing.T) {
	a := readAsyncAPI(t)
	var codes, outcomes []any
	for _, code := range compliance.Codes() {
		codes = append(codes, string(code))
	}
	for _, outcome := range compliance.Outcomes() {
		outcomes = append(outcomes, string(outcome))
	}
	for pointer, want := range map[string][]any{
		"/components/schemas/Code/enum":                      codes,
		"/channels/deadLetters/parameters/code/enum":         codes,
		"/components/schemas/Result/properties/outcome/enum": outcomes,
	} {
		if diff := cmp.Diff(want, a.at(pointer)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", pointer, diff)
		}
	}
	for pointer, want := range map[string][]string{
		"/components/schemas/ReportHeaders/properties": {
			compliance.HeaderEventID, compliance.HeaderMsgID, compliance.HeaderEventTime, compliance.HeaderStored, compliance.HeaderReply,
			compliance.HeaderRetryOf, "traceparent",
		},
		"/components/schemas/DeadLetterHeaders/properties": {
			compliance.HeaderCode, compliance.HeaderProperty, compliance.HeaderError, compliance.HeaderSubject, compliance.HeaderStream,
			compliance.HeaderSequence, compliance.HeaderStored, compliance.HeaderRetryOf, compliance.HeaderDropped, compliance.HeaderEventID,
			compliance.HeaderReportPrefix + compliance.HeaderMsgID, compliance.HeaderReportPrefix + compliance.HeaderStored,
		},
	} {
		object, ok := a.at(pointer).(map[string]any)
		if !ok {
			t.Fatal(pointer)
		}
		var have []string
		for name := range object {
			have = append(have, name)
		}
		slices.Sort(have)
		slices.Sort(want)
		if diff := cmp.Diff(want, have); diff != "" {
			t.Errorf("%s (-want +got):\n%s", pointer, diff)
		}
	}
	for pointer, want := range map[string]string{
		"/channels/reports/address": compliance.StatusPrefix, "/channels/results/address": compliance.ResultPrefix, "/channels/deadLetters/address": compliance.DeadPrefix,
	} {
		if have := fmt.Sprint(a.at(pointer)); !strings.HasPrefix(have, want+"{") {
			t.Errorf("%s is %s", pointer, have)
		}
	}
}
