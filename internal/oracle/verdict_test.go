package oracle_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/compliance/compliancetest"
	"github.com/complianced/complianced/internal/oracle"
)

// answer is what both decoders must agree on.
type answer struct {
	Violations []compliancetest.Fault
	Key        compliance.Key
	Version    compliance.Version
	Removed    bool
	Values     [compliance.NumProperties]compliance.Value
}

var kinds = map[oracle.Kind]compliance.Kind{
	oracle.Unset: compliance.Unset, oracle.Null: compliance.Null, oracle.Text: compliance.Text, oracle.Cleared: compliance.Cleared,
}

func values(own [oracle.NumProperties]oracle.Value) (all [compliance.NumProperties]compliance.Value) {
	for p, v := range own {
		all[p] = compliance.Value{Kind: kinds[v.Kind], Text: v.Text}
	}
	return all
}

func version(v oracle.Version) compliance.Version {
	return compliance.Version{Time: compliance.Ticks(v.Time), ID: v.ID}
}

// judged returns the oracle's answer.
func judged(rules compliance.Rules, e compliance.Envelope) answer {
	m := oracle.Message{
		Stream: "COMPLIANCE_STATUS", Sequence: e.Sequence, Stored: e.Stored, Subject: e.Subject, Header: e.Header, Body: e.Body,
	}
	if rules.Partitions > 1 {
		m.Stream += "_" + strconv.Itoa(rules.Partition)
	}
	v := oracle.Judge(m, oracle.Config{Partitions: rules.Partitions, Buckets: max(rules.Partitions, 1), Allow: rules.Allow})
	if len(v.Violations) > 0 {
		var faults []compliancetest.Fault
		for _, violation := range v.Violations {
			faults = append(faults, compliancetest.Fault{Code: compliance.Code(violation.Code), Target: violation.Target})
		}
		return answer{Violations: faults}
	}
	return answer{Key: compliance.Key(v.Key), Version: version(v.Version), Removed: v.Removed, Values: values(v.Values)}
}

// decoded returns the product's answer.
func decoded(rules compliance.Rules, e compliance.Envelope) answer {
	report, rejection := rules.Decode(&e)
	if rejection != nil {
		return answer{Violations: compliancetest.Faults(rejection)}
	}
	return answer{Key: report.Key, Version: report.Version, Removed: report.Removed, Values: report.Values}
}

func TestTheOracleGivesTheAnswerOfEveryVector(t *testing.T) {
	for _, v := range compliancetest.Vectors(t) {
		t.Run(v.Name, func(t *testing.T) {
			got := judged(v.Rules, v.Envelope)
			if diff := cmp.Diff(v.Want.Violations, got.Violations); diff != "" {
				t.Fatalf("violations (-want +got):\n%s", diff)
			}
			if len(v.Want.Violations) > 0 {
				return
			}
			want := answer{Key: got.Key, Version: v.Want.Version, Removed: v.Want.Removed, Values: v.Want.Values}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("report (-want +got):\n%s", diff)
			}
		})
	}
}

// input is a message as the fuzzer varies it. Headers are lines of "name: value".
type input struct {
	partitions, partition byte
	allow, subject        string
	headers               string
	body                  []byte
	stored                int64
}

func (in input) rules() compliance.Rules {
	rules := compliance.Rules{Partitions: 1 << (in.partitions % 4)}
	rules.Partition = int(in.partition) % rules.Partitions
	if in.allow != "" {
		rules.Allow = compliance.Patterns{in.allow}
	}
	return rules
}

func (in input) envelope() compliance.Envelope {
	header := map[string][]string{}
	for line := range strings.Lines(in.headers) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		header[name] = append(header[name], value)
	}
	return compliance.Envelope{
		Subject: in.subject, Header: header, Body: in.body, Sequence: 7,
		Stored: time.Unix(in.stored/1e9, in.stored%1e9).UTC(),
	}
}

func FuzzDecodersAgree(f *testing.F) {
	for _, v := range compliancetest.Vectors(f) {
		if len(v.Rules.Allow) > 1 || v.Envelope.Stored.Year() < 1700 || v.Envelope.Stored.Year() > 2200 {
			continue
		}
		headers := ""
		for name, values := range v.Envelope.Header {
			for _, value := range values {
				headers += name + ":" + value + "\n"
			}
		}
		partitions := map[int]byte{0: 0, 1: 0, 2: 1, 4: 2, 8: 3}[v.Rules.Partitions]
		f.Add(partitions, byte(v.Rules.Partition), strings.Join(v.Rules.Allow, ""), v.Envelope.Subject, headers, v.Envelope.Body, v.Envelope.Stored.UnixNano())
	}
	f.Fuzz(func(t *testing.T, partitions, partition byte, allow, subject, headers string, body []byte, stored int64) {
		in := input{partitions, partition, allow, subject, headers, body, stored}
		rules, e := in.rules(), in.envelope()
		if rules.Allow.Validate() != nil {
			t.Skip("a pattern that is none is refused at the start")
		}
		if diff := cmp.Diff(decoded(rules, e), judged(rules, e)); diff != "" {
			t.Errorf("of %s the answers differ (-product +oracle):\n%s", in, diff)
		}
	})
}

func (in input) String() string {
	body := string(in.body)
	if !utf8.Valid(in.body) || !json.Valid(in.body) {
		body = strconv.Quote(body)
	}
	return fmt.Sprintf("%q with %q in %+v stored %v: %s", in.subject, in.headers, in.rules(), in.envelope().Stored, body)
}
