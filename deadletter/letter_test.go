package deadletter_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/deadletter"
)

// message is a dead letter as a worker writes it.
func message() deadletter.Message {
	return deadletter.Message{
		Subject: "compliance.dead.nullNotAllowed.COMPLIANCE_STATUS.7.1800000000000000005", Body: []byte(`{"platform":null}`), Sequence: 3, Stored: began,
		Header: map[string][]string{
			"Compliance-Code": {"nullNotAllowed"}, "Compliance-Property": {"platform"}, "Compliance-Subject": {"compliance.status.p.d"},
			"Compliance-Stream": {"COMPLIANCE_STATUS"}, "Compliance-Sequence": {"7"}, "Compliance-Stored": {"2027-01-15T08:00:00.000000005Z"},
			"Compliance-Error": {`{"code":"badRequest","message":"m","details":[{"code":"nullNotAllowed","message":"m"}],"innerError":{"code":"nullNotAllowed"}}`},
		},
	}
}

func TestALetterIsReadStrictly(t *testing.T) {
	right := message()
	letter, err := deadletter.Parse(right)
	if err != nil || letter.Property != "platform" || letter.Dropped != 0 {
		t.Fatal(letter, err)
	}
	const broken, about = `{"code":"secret`, `{"details":[{}],"innerError":{"code":"typeMismatch"}}`
	for name, values := range map[string][]string{
		"Compliance-Code": {"typeMismatch"}, "Compliance-Stream": {"S", "S"}, "Compliance-Sequence": {"07"}, "Compliance-Stored": nil,
		"Compliance-Subject": nil, "Compliance-Error": {broken}, "Compliance-Property": {"a", "b"}, "Compliance-Dropped-Headers": {"-1"},
	} {
		m := message()
		m.Header[name] = values
		if _, err := deadletter.Parse(m); err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s %q: %v", name, values, err)
		}
	}
	for name, values := range map[string][]string{
		"Compliance-Subject": {""}, "Compliance-Error": {about}, "Compliance-Dropped-Headers": {"x"},
	} {
		m := message()
		m.Header[name] = values
		if _, err := deadletter.Parse(m); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s %q: %v", name, values, err)
		}
	}
	m := message()
	m.Header["Compliance-Dropped-Headers"] = []string{"2"}
	if letter, err := deadletter.Parse(m); err != nil || letter.Dropped != 2 {
		t.Error(letter.Dropped, err)
	}
}

// FuzzParse tries headers of any kind: what is taken says of itself what its subject says.
func FuzzParse(f *testing.F) {
	m := message()
	f.Add(m.Subject, "Compliance-Code", "nullNotAllowed", m.Body)
	f.Add(m.Subject, "Compliance-Dropped-Headers", "1", m.Body)
	f.Add("compliance.dead.tooLarge.S.1.2", "ce-id", "\x00", []byte(nil))
	f.Fuzz(func(t *testing.T, subject, name, value string, body []byte) {
		m := message()
		m.Header = maps.Clone(m.Header)
		m.Subject, m.Header[name], m.Body = subject, []string{value}, body
		l, err := deadletter.Parse(m)
		if err != nil {
			return
		}
		about := compliance.DeadSubject{Code: l.Code, Stream: l.Stream, Sequence: l.Envelope.Sequence, Stored: l.Envelope.Stored}
		if about.String() != subject || l.Code != l.Error.Inner.Code || l.Dropped < 0 {
			t.Errorf("%q says %+v", subject, l)
		}
	})
}
