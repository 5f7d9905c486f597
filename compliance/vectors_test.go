package compliance_test

import (
	"bytes"
	"os"
	"testing"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/compliance/compliancetest"
)

func TestVectors(t *testing.T) {
	for _, v := range compliancetest.Vectors(t) {
		t.Run(v.Group+"/"+v.Name, func(t *testing.T) {
			body := bytes.Clone(v.Envelope.Body)
			report, rejection := v.Rules.Decode(&v.Envelope)
			v.Check(t, report, rejection)
			if !bytes.Equal(body, v.Envelope.Body) {
				t.Error("the payload was written to")
			}
		})
	}
}

func TestEachCodeLeadsAVector(t *testing.T) {
	leads := map[compliance.Code]int{}
	vectors := compliancetest.Vectors(t)
	for _, v := range vectors {
		if len(v.Want.Violations) > 0 {
			leads[v.Want.Violations[0].Code]++
		}
	}
	for _, code := range compliance.Codes() {
		if leads[code] == 0 {
			t.Errorf("no vector has %s as its first violation", code)
		}
		delete(leads, code)
	}
	if len(leads) > 0 {
		t.Errorf("vectors have codes outside of the closed set: %v", leads)
	}
	t.Logf("%d vectors", len(vectors))
}

// documented returns the documented example with a status that is one.
func documented(tb testing.TB) []byte {
	tb.Helper()
	body, err := os.ReadFile("testdata/documented.json")
	if err != nil {
		tb.Fatal(err)
	}
	return bytes.TrimSpace(body)
}

func TestTheDocumentedExampleCutOffAnywhereIsMalformed(t *testing.T) {
	body := documented(t)
	e := envelope("")
	for n := range len(body) {
		e.Body = body[:n]
		_, rejection := compliance.Decode(e)
		if rejection == nil || len(rejection.Violations) != 1 || rejection.Code() != compliance.MalformedJSON {
			t.Fatalf("cut off after byte %d: %v", n, rejection)
		}
	}
	e.Body = body
	if _, rejection := compliance.Decode(e); rejection != nil {
		t.Fatalf("the whole example: %v", rejection)
	}
}

// A violation says where it is: the offset is that of the value, or of the name
// where the name is what is wrong.
func TestAViolationSaysWhereItIs(t *testing.T) {
	tests := []struct {
		name, body, at string
		code           compliance.Code
	}{
		{"a value", `{"userName":"x", "platform" : "8"}`, `"8"`, compliance.TypeMismatch},
		{"an object as a value", `{ "platform" :  {"a":1}}`, `{"a":1}`, compliance.TypeMismatch},
		{"a null", `{"status":null}`, `null`, compliance.NullNotAllowed},
		{"a status", `{"status": "no"}`, `"no"`, compliance.InvalidStatus},
		{"a number", `{"platform":99999999999}`, `99999999999`, compliance.OutOfRange},
		{"an unknown name", `{"platform":8, "x":1}`, `"x"`, compliance.UnknownProperty},
		{"the second of two names", `{"platform":8, "\u0070latform":9}`, `"\u0070`, compliance.DuplicateProperty},
		{"a nested name", `{"@x":{"a":1, "\u0061":2}}`, `"\u0061"`, compliance.DuplicateProperty},
		{"a type", `{"@odata.type" : "x"}`, `"x"`, compliance.WrongType},
		{"a type of another kind", `{"@odata.type" : 5}`, `5`, compliance.WrongType},
		{"a deletion", `{"@removed" : true}`, `true`, compliance.TypeMismatch},
		{"an event time", `{"x@y":1, "lastReportedDateTime" : "9999-01-01T00:00:00Z"}`, `"9999`, compliance.FutureEventTime},
		{"no object", `  [1]`, `[1]`, compliance.TypeMismatch},
		{"something after the end", `{} {"x":1}`, ` {"x"`, compliance.MalformedJSON},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, rejection := compliance.Decode(envelope(test.body))
			if rejection == nil || rejection.Code() != test.code {
				t.Fatalf("got %v, want %s", rejection, test.code)
			}
			got, want := rejection.Violations[0].Offset, bytes.Index([]byte(test.body), []byte(test.at))
			if got != want {
				t.Errorf("the offset is %d, want %d", got, want)
			}
		})
	}
}
