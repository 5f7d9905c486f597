package compliance_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/compliance/compliancetest"
)

type headers = map[string][]string

func TestADeadLetterKeepsTheHeadersByWhichItsReportIsReadAgain(t *testing.T) {
	for name, test := range map[string]struct{ report, kept, back headers }{
		"ce-* and traceparent, in any spelling": {
			report: headers{"ce-id": {"a", "b"}, "CE-Type": {"t"}, "ce-x": {"x"}, "TraceParent": {"00-1"}},
			kept:   headers{"ce-id": {"a", "b"}, "CE-Type": {"t"}, "ce-x": {"x"}, "TraceParent": {"00-1"}},
			back:   headers{"ce-id": {"a", "b"}, "CE-Type": {"t"}, "ce-x": {"x"}, "TraceParent": {"00-1"}},
		},
		"no others": {
			report: headers{
				"ce-": {"1"}, "ce": {"1"}, "cex": {"1"}, "xce-id": {"1"}, "tracestate": {"1"}, "traceparents": {"1"}, "": {"1"},
				"Secret": {"1"}, "Compliance-Reply": {"tok"}, "Compliance-Code": {"1"}, "Compliance-Report-Secret": {"1"},
			},
			kept: headers{}, back: headers{},
		},
		"the id, where it is the Nats-Msg-Id": {
			report: headers{"nats-msg-id": {"lower"}, "NATS-MSG-ID": {"upper"}, "ce-id": {""}},
			kept:   headers{"Compliance-Report-Nats-Msg-Id": {"upper"}, "ce-id": {""}},
			back:   headers{"Nats-Msg-Id": {"upper"}, "ce-id": {""}},
		},
		"no Nats-Msg-Id beside a ce-id": {
			report: headers{"Nats-Msg-Id": {"m"}, "ce-id": {"c"}},
			kept:   headers{"ce-id": {"c"}}, back: headers{"ce-id": {"c"}},
		},
		"when the report was first stored": {
			report: headers{"compliance-stored": {"2026-01-01T00:00:00.000000000Z"}},
			kept:   headers{"Compliance-Report-Compliance-Stored": {"2026-01-01T00:00:00.000000000Z"}},
			back:   headers{"Compliance-Stored": {"2026-01-01T00:00:00.000000000Z"}},
		},
		"an empty one of these": {
			report: headers{"Compliance-Stored": {""}},
			kept:   headers{"Compliance-Report-Compliance-Stored": {""}}, back: headers{"Compliance-Stored": {""}},
		},
		"what the report is a retry of": {
			report: headers{"compliance-retry-of": {"COMPLIANCE_STATUS.7"}},
			kept:   headers{"compliance-retry-of": {"COMPLIANCE_STATUS.7"}}, back: headers{"compliance-retry-of": {"COMPLIANCE_STATUS.7"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			e := compliance.Envelope{Header: test.report}
			kept := e.Kept()
			if diff := cmp.Diff(test.kept, kept); diff != "" {
				t.Errorf("kept (-want +got):\n%s", diff)
			}
			// What the dead letter says of itself is none of the report's.
			kept["Compliance-Stored"], kept["Compliance-Code"] = []string{"s"}, []string{"c"}
			kept["Nats-Expected-Last-Subject-Sequence"] = []string{"0"}
			if diff := cmp.Diff(test.back, compliance.ReportHeader(kept)); diff != "" {
				t.Errorf("of the report (-want +got):\n%s", diff)
			}
		})
	}
}

// What is kept decides as the whole did: of every vector.
func TestAReportOfADeadLetterIsReadAsTheReportWas(t *testing.T) {
	for _, v := range compliancetest.Vectors(t) {
		v.Envelope.Header = compliance.ReportHeader(v.Envelope.Kept())
		report, rejection := v.Rules.Decode(&v.Envelope)
		v.Want.Reply = "" // Nobody waits for it any more.
		v.Check(t, report, rejection)
	}
}

func TestADeadSubjectComesBackFromItsText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := compliance.DeadSubject{
			Code:     rapid.SampledFrom(compliance.Codes()).Draw(t, "code"),
			Stream:   rapid.StringMatching(`[A-Z_0-9]{1,30}`).Draw(t, "stream"),
			Sequence: rapid.Uint64().Draw(t, "sequence"),
			Stored:   time.Unix(0, rapid.Int64().Draw(t, "stored")).UTC(),
		}
		have, err := compliance.ParseDeadSubject(want.String())
		if err != nil || have != want {
			t.Errorf("%v: %v, %v", want, have, err)
		}
	})
}

func TestWhatIsNoDeadSubjectIsRefused(t *testing.T) {
	const right = "compliance.dead.typeMismatch.COMPLIANCE_STATUS.1.1800000000000000005"
	if s, err := compliance.ParseDeadSubject(right); err != nil || s.String() != right {
		t.Fatal(s, err)
	}
	for _, subject := range []string{
		"", "compliance.dead.", "compliance.status.p.d", right + ".1", right + "x",
		"compliance.dead.typeMismatch.COMPLIANCE_STATUS.1", "compliance.dead.other.COMPLIANCE_STATUS.1.2",
		"compliance.dead.typeMismatch..1.2", "compliance.dead.typeMismatch.S.01.2", "compliance.dead.typeMismatch.S.-1.2",
		"compliance.dead.typeMismatch.S.1.+2", "compliance.dead.typeMismatch.S.1.99999999999999999999",
	} {
		if s, err := compliance.ParseDeadSubject(subject); err == nil {
			t.Errorf("%q was taken: %v", subject, s)
		}
	}
}
