package compliance_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/compliance/compliancetest"
)

// Decode never panics and never writes to the payload; it gives the same answer
// twice; a refusal is well formed; what it takes is an object for encoding/json
// too, and says the same when the record that it makes is sent as a report.
func FuzzDecode(f *testing.F) {
	for _, v := range compliancetest.Vectors(f) {
		id, at := v.Envelope.Header["ce-id"], v.Envelope.Header["ce-time"]
		f.Add(v.Envelope.Subject, strings.Join(id, ""), strings.Join(at, ""), v.Envelope.Body)
	}
	f.Fuzz(func(t *testing.T, subject, id, at string, body []byte) {
		e := &compliance.Envelope{Subject: subject, Header: map[string][]string{"ce-id": {id}}, Body: bytes.Clone(body), Stored: stored}
		if at != "" {
			e.Header["ce-time"] = []string{at}
		}
		report, rejection := compliance.Decode(e)
		if !bytes.Equal(body, e.Body) {
			t.Fatal("the payload was written to")
		}
		again, rejectionAgain := compliance.Decode(e)
		if diff := cmp.Diff(report, again) + cmp.Diff(rejection, rejectionAgain); diff != "" {
			t.Fatalf("the second time the answer is another:\n%s", diff)
		}
		if rejection != nil {
			checkRejection(t, rejection, len(body))
			return
		}
		checkReport(t, report, body)
	})
}

func checkRejection(t *testing.T, rejection *compliance.Rejection, size int) {
	t.Helper()
	if len(rejection.Violations) == 0 {
		t.Fatal("a refusal without a reason")
	}
	for _, v := range rejection.Violations {
		if v.Offset < -1 || v.Offset > size || v.Message == "" {
			t.Fatalf("the violation %+v", v)
		}
	}
	if text := rejection.ErrorObject().JSON(); len(text) > 8<<10 || !json.Valid(text) {
		t.Fatalf("the error object is %q", text)
	}
}

func checkReport(t *testing.T, report compliance.Report, body []byte) {
	t.Helper()
	var object map[string]json.RawMessage
	if err := json.Unmarshal(body, &object); err != nil {
		t.Fatalf("encoding/json does not take it: %v", err)
	}
	var record compliance.Record
	if _, outcome := record.Merge(&report); outcome != compliance.Applied {
		t.Fatalf("the first report of a record is %s", outcome)
	}
	if report.Removed {
		if _, named := object["@removed"]; !named || !record.Tombstone() {
			t.Fatalf("a deletion without @removed, or that left a record")
		}
		return
	}
	if _, outcome := record.Merge(&report); outcome != compliance.Unchanged {
		t.Fatalf("the same report again is %s", outcome)
	}
	// The record as the documented object, sent as a report, is the same record.
	e := &compliance.Envelope{Subject: report.Key.Subject(), Body: record.JSON(report.Key.Device), Stored: stored}
	if len(e.Body) > compliance.MaxBody {
		return // Characters that are escaped take more room.
	}
	e.Header = map[string][]string{"ce-time": {"2026-01-01T00:00:00Z"}}
	again, rejection := compliance.Decode(e)
	if rejection != nil {
		t.Fatalf("the record is no report: %s: %+v", e.Body, rejection.Violations)
	}
	for p, v := range report.Values {
		if v.Kind != compliance.Unset && again.Values[p] != v {
			t.Fatalf("%s is %+v, want %+v", compliance.Property(p), again.Values[p], v)
		}
	}
}

// What is read has the text that was given and means what time.Parse reads, where
// that takes it too.
func FuzzParseDateTimeOffset(f *testing.F) {
	for _, v := range compliancetest.Vectors(f) {
		var object map[string]any
		if v.Group != "datetime" && v.Group != "time" || json.Unmarshal(v.Envelope.Body, &object) != nil {
			continue
		}
		for _, value := range object {
			if text, ok := value.(string); ok {
				f.Add(text)
			}
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := compliance.ParseDateTimeOffset(text)
		want, parseErr := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			if got != (compliance.DateTimeOffset{}) {
				t.Fatalf("an error with the value %v", got)
			}
			return
		}
		if got.String() != text {
			t.Fatalf("%q became %q", text, got)
		}
		if parseErr == nil && !got.Ticks().Time().Equal(want.Truncate(100*time.Nanosecond)) {
			t.Fatalf("%q is %v, want %v", text, got.Ticks().Time(), want)
		}
		canonical := got.Ticks().Time().Format("2006-01-02T15:04:05.0000000Z")
		if again, err := compliance.ParseDateTimeOffset(canonical); err != nil || again.Ticks() != got.Ticks() {
			t.Fatalf("%q is %d, but %q is %d, %v", text, got.Ticks(), canonical, again.Ticks(), err)
		}
		if seconds := text[len("2006-01-02T15:04")] == ':'; seconds && parseErr != nil {
			t.Fatalf("%q was taken, time.Parse says %v", text, parseErr)
		}
	})
}

// A subject that is read is written back as it was.
func FuzzParseSubject(f *testing.F) {
	for _, v := range compliancetest.Vectors(f) {
		f.Add(v.Envelope.Subject)
	}
	f.Fuzz(func(t *testing.T, subject string) {
		key, partition, err := compliance.ParseSubject(subject)
		if err != nil {
			if key != (compliance.Key{}) {
				t.Fatalf("an error with the key %+v", key)
			}
			return
		}
		back := key.Subject()
		if partition != compliance.Unpartitioned {
			back = key.PartitionSubject(partition)
		}
		if back != subject || !key.Valid() || partition >= compliance.MaxBuckets {
			t.Fatalf("%q is %+v in %d and becomes %q", subject, key, partition, back)
		}
		if status := compliance.StatusSubject(subject); status != key.Subject() {
			t.Fatalf("%q is published to %q, want %q", subject, status, key.Subject())
		}
	})
}
