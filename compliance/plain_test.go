package compliance_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/compliance/compliancetest"
)

// What is read as a plain payload is what the JSON reader makes of it.
func FuzzPlain(f *testing.F) {
	for _, v := range compliancetest.Vectors(f) {
		f.Add(v.Envelope.Body)
	}
	f.Fuzz(func(t *testing.T, body []byte) { samePlainly(t, body) })
}

func samePlainly(t *testing.T, body []byte) bool {
	t.Helper()
	one, other, plain := compliance.Bodies(body, "device")
	if diff := cmp.Diff(other, one); diff != "" {
		t.Errorf("%q (-by the JSON reader +plainly):\n%s", body, diff)
	}
	return plain
}

func TestPlainPayloadsAreReadAsByTheJSONReader(t *testing.T) {
	n := 0
	for _, v := range compliancetest.Vectors(t) {
		if samePlainly(t, v.Envelope.Body) {
			n++
		}
	}
	if !samePlainly(t, documented(t)) || n < 50 {
		t.Errorf("%d vectors are plain payloads", n)
	}
	// One byte of a plain payload changed, left out or doubled.
	body := string(documented(t))
	for at := range body {
		for _, in := range []string{"", "\x00", "\"", "\\", ",", "}", " ", "0", "-", "n", "\xff", "é", "[", body[at : at+1]} {
			samePlainly(t, []byte(body[:at]+in+body[at+1:]))
			samePlainly(t, []byte(body[:at]+in+body[at:]))
		}
		samePlainly(t, []byte(body[:at]))
	}
	for number := range strings.FieldsSeq("0 -0 00 01 -01 - 1. 1e1 4294967296 2147483648 99999999999 +1") {
		samePlainly(t, []byte(`{"platform":`+number+`}`))
	}
}
