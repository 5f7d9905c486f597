package api_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/compliance/compliancetest"
)

var update = flag.Bool("update", false, "write conformance/v1.json anew from the test vectors")

const kitFile = "conformance/v1.json"

// kit is the conformance kit as conformance/README.md describes it.
type kit struct {
	Format  int    `json:"format"`
	Reports []item `json:"reports"`
}

type item struct {
	Name       string              `json:"name"`
	Group      string              `json:"group"`
	Partitions int                 `json:"partitions,omitempty"`
	Partition  int                 `json:"partition,omitempty"`
	Allow      []string            `json:"allow,omitempty"`
	Subject    string              `json:"subject"`
	Headers    map[string][]string `json:"headers,omitempty"`
	Body       *string             `json:"body,omitempty"`
	BodyBase64 []byte              `json:"bodyBase64,omitempty"`
	Stored     string              `json:"stored"`
	Refused    *refusal            `json:"refused,omitempty"`
	Taken      *taking             `json:"taken,omitempty"`
	Reply      string              `json:"reply,omitempty"`
}

type refusal struct {
	Violations []violation `json:"violations"`
}

type violation struct {
	Code   compliance.Code `json:"code"`
	Target string          `json:"target"`
	Offset *int            `json:"offset,omitempty"`
}

type taking struct {
	Time    string             `json:"time"`
	ID      string             `json:"id"`
	Removed bool               `json:"removed,omitempty"`
	Set     map[string]*string `json:"set,omitempty"`
	Record  json.RawMessage    `json:"record,omitempty"`
}

// itemOf returns a vector as the kit has it. What it says is what the vector wants; only
// places and the record are of the decoder, which the vector does not hold.
func itemOf(v *compliancetest.Vector) item {
	it := item{
		Name: v.Name, Group: v.Group, Partitions: v.Rules.Partitions, Partition: v.Rules.Partition, Allow: v.Rules.Allow,
		Subject: v.Envelope.Subject, Headers: v.Envelope.Header, Stored: compliance.FormatStored(v.Envelope.Stored), Reply: v.Want.Reply,
	}
	if text := string(v.Envelope.Body); utf8.ValidString(text) {
		it.Body = &text
	} else {
		it.BodyBase64 = v.Envelope.Body
	}
	report, rejection := v.Rules.Decode(&v.Envelope)
	if rejection != nil {
		it.Refused = &refusal{}
		for i, want := range v.Want.Violations {
			found := violation{Code: want.Code, Target: want.Target}
			if at := rejection.Violations[i].Offset; at >= 0 {
				found.Offset = &at
			}
			it.Refused.Violations = append(it.Refused.Violations, found)
		}
		return it
	}
	it.Taken = &taking{
		Time: strconv.FormatUint(uint64(v.Want.Version.Time), 10), ID: fmt.Sprintf("%016x", v.Want.Version.ID), Removed: v.Want.Removed,
		Set: map[string]*string{},
	}
	for _, p := range compliance.Properties() {
		switch value := v.Want.Values[p]; value.Kind {
		case compliance.Text:
			it.Taken.Set[p.String()] = &value.Text
		case compliance.Null:
			it.Taken.Set[p.String()] = nil
		case compliance.Unset, compliance.Cleared, compliance.Unread:
		}
	}
	if !v.Want.Removed {
		var record compliance.Record
		record.Merge(&report)
		it.Taken.Record = record.JSON(report.Key.Device)
	}
	return it
}

// The kit is what the vectors say, one report a line.
func TestTheKitIsUpToDate(t *testing.T) {
	var text bytes.Buffer
	text.WriteString("{\"format\": 1, \"reports\": [\n")
	vectors := compliancetest.Vectors(t)
	for i := range vectors {
		line := json.NewEncoder(&text)
		line.SetEscapeHTML(false)
		if err := line.Encode(itemOf(&vectors[i])); err != nil {
			t.Fatal(err)
		}
		if i < len(vectors)-1 {
			text.Truncate(text.Len() - 1)
			text.WriteString(",\n")
		}
	}
	text.WriteString("]}\n")
	if *update {
		if err := os.WriteFile(kitFile, text.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(kitFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, text.Bytes()) {
		t.Errorf("%s is not what the vectors say: go test ./api -update writes it anew; a change of what is there already is a new format", kitFile)
	}
}

// The kit alone, read as another language reads it, says what the decoder says.
func TestTheKitHoldsForTheDecoder(t *testing.T) {
	text, err := os.ReadFile(kitFile)
	if err != nil {
		t.Fatal(err)
	}
	var k kit
	reader := json.NewDecoder(bytes.NewReader(text))
	reader.DisallowUnknownFields()
	if err := reader.Decode(&k); err != nil {
		t.Fatal(err)
	}
	if k.Format != 1 || len(k.Reports) != len(compliancetest.Vectors(t)) {
		t.Fatalf("format %d with %d reports", k.Format, len(k.Reports))
	}
	for _, it := range k.Reports {
		body := it.BodyBase64
		if it.Body != nil {
			body = []byte(*it.Body)
		}
		stored, err := time.Parse(time.RFC3339Nano, it.Stored)
		if err != nil {
			t.Fatal(err)
		}
		e := compliance.Envelope{Subject: it.Subject, Header: it.Headers, Body: body, Sequence: 1, Stored: stored}
		report, rejection := compliance.Rules{Partitions: it.Partitions, Partition: it.Partition, Allow: it.Allow}.Decode(&e)
		switch {
		case rejection == nil && it.Taken != nil && it.Refused == nil:
			it.checkTaken(t, &report)
		case rejection != nil && it.Taken == nil && it.Refused != nil:
			it.checkRefused(t, rejection)
		default:
			t.Errorf("%s: %v, want %+v", it.Name, rejection, it.Refused)
		}
	}
}

func (it *item) checkTaken(t *testing.T, report *compliance.Report) {
	t.Helper()
	want := it.Taken
	if strconv.FormatUint(uint64(report.Version.Time), 10) != want.Time || fmt.Sprintf("%016x", report.Version.ID) != want.ID ||
		report.Removed != want.Removed || report.Reply != it.Reply {
		t.Errorf("%s: %+v, want %+v", it.Name, report.Version, want)
	}
	if report.Removed {
		return
	}
	var record compliance.Record
	record.Merge(report)
	if diff := cmp.Diff(string(want.Record), string(record.JSON(report.Key.Device))); diff != "" {
		t.Errorf("%s: %s", it.Name, diff)
	}
}

func (it *item) checkRefused(t *testing.T, rejection *compliance.Rejection) {
	t.Helper()
	var have []violation
	for _, v := range rejection.Violations {
		found := violation{Code: v.Code, Target: v.Target}
		if v.Offset >= 0 {
			found.Offset = &v.Offset
		}
		have = append(have, found)
	}
	if diff := cmp.Diff(it.Refused.Violations, have); diff != "" || rejection.Reply != it.Reply {
		t.Errorf("%s: %s", it.Name, diff)
	}
}
