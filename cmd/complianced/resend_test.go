package main_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	complianced "github.com/complianced/complianced/cmd/complianced"
	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/compliance/compliancetest"
	"github.com/complianced/complianced/deadletter"
)

// identity is what a report is told from others by.
func identity(e *compliance.Envelope) (string, compliance.Ticks) {
	report, rejection := compliance.Decode(e)
	if rejection != nil {
		return rejection.EventID, rejection.EventTime
	}
	return report.EventID, report.Version.Time
}

// Of every vector that is refused: sent again at any time it has the id and the time that
// it had.
func TestAReportThatIsSentAgainHasItsIDAndItsTime(t *testing.T) {
	n := 0
	for _, v := range compliancetest.Vectors(t) {
		letter := deadletter.Letter{Stream: "COMPLIANCE_STATUS", Envelope: v.Envelope}
		letter.Envelope.Subject = compliance.StatusSubject(v.Envelope.Subject)
		letter.Envelope.Header = compliance.ReportHeader(v.Envelope.Kept())
		if _, _, err := compliance.ParseSubject(letter.Envelope.Subject); err != nil || len(v.Want.Violations) == 0 {
			continue
		}
		n++
		body, header, err := complianced.Again(&letter, "")
		if err != nil || !bytes.Equal(body, v.Envelope.Body) {
			t.Fatalf("%s: %v", v.Name, err)
		}
		sent := letter.Envelope
		sent.Header, sent.Stored = header, v.Envelope.Stored.Add(time.Hour)
		haveID, haveTime := identity(&sent)
		wantID, wantTime := identity(&letter.Envelope)
		if haveID != wantID || haveTime != wantTime {
			t.Errorf("%s: %s at %v, want %s at %v", v.Name, haveID, haveTime, wantID, wantTime)
		}
		if sent.Replayed() || sent.RetryOf() != letter.Report() {
			t.Errorf("%s: %v", v.Name, header)
		}
	}
	if n < 100 {
		t.Errorf("only %d vectors", n)
	}
}

func TestAPayloadIsPatchedBeforeItIsSentAgain(t *testing.T) {
	stored := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		body, patch string
		want, at    string
		err         string
	}{
		"a member is replaced, another taken out": {
			`{"platform":"8","x":1,"userName":null}`, `{"platform":8,"x":null}`,
			`{"platform":8,"userName":null}`, "2026-01-31T12:00:00.000000000Z", "",
		},
		"the time of the body is what the patch says": {
			`{"lastReportedDateTime":"2062-01-31T00:00:00Z"}`, `{"lastReportedDateTime":"2026-01-30T00:00:00Z"}`,
			`{"lastReportedDateTime":"2026-01-30T00:00:00Z"}`, "2026-01-30T00:00:00.000000000Z", "",
		},
		"no object": {`[1]`, `{}`, "", "", "--body"},
		"no JSON":   {`{"a":1`, `{}`, "", "", "--body"},
		"no UTF-8":  {"{\"a\":\"\xff\"}", `{}`, "", "", "--body"},
	} {
		letter := deadletter.Letter{Stream: "S", Envelope: compliance.Envelope{Subject: "compliance.status.p.d", Body: []byte(c.body), Sequence: 1, Stored: stored}}
		body, header, err := complianced.Again(&letter, c.patch)
		if (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err == nil && (string(body) != c.want || header["ce-time"][0] != c.at) {
			t.Errorf("%s: %s at %v", name, body, header)
		}
	}
}

func TestTheHeadersOfAReportThatIsSentAgain(t *testing.T) {
	letter := deadletter.Letter{Stream: "S", RetryOf: "S.1", Envelope: compliance.Envelope{
		Subject: "compliance.status.p.d", Body: []byte(`{`), Sequence: 7, Stored: time.Unix(1_800_000_000, 5),
		Header: map[string][]string{
			"Nats-Msg-Id": {"m"}, "CE-ID": {""}, "ce-id": {"does not count"}, "CE-Time": {"2026-01-01T00:00:00Z"}, "ce-type": {"t"},
			"traceparent": {"00-1"}, "Compliance-Stored": {"2026-01-01T00:00:00.000000000Z"}, "compliance-retry-of": {"S.1"},
		},
	}}
	_, header, err := complianced.Again(&letter, "")
	want := map[string][]string{
		"ce-id": {"m"}, "CE-Time": {"2026-01-01T00:00:00Z"}, "ce-type": {"t"}, "traceparent": {"00-1"}, "Compliance-Retry-Of": {"S.7"},
	}
	if diff := cmp.Diff(want, header); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if letter.Envelope.Header["Nats-Msg-Id"] == nil {
		t.Error("the letter was changed")
	}
	letter.Dropped = 1
	if _, _, err := complianced.Again(&letter, ""); err == nil || !strings.Contains(err.Error(), "publish") {
		t.Error(err)
	}
	letter.Dropped, letter.Envelope.Subject = 0, "compliance.status.p.d.e"
	if _, _, err := complianced.Again(&letter, ""); err == nil || !strings.Contains(err.Error(), "publish") {
		t.Error(err)
	}
}
