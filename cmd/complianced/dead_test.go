package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/deadletter"
	"github.com/complianced/complianced/ingest"
)

// sends publishes a report as any client does, and returns where it is stored.
func (s *serving) sends(js jetstream.JetStream, subject, body string, header map[string]string) *jetstream.PubAck {
	s.Helper()
	m := &nats.Msg{Subject: "compliance.status." + subject, Header: nats.Header{}, Data: []byte(body)}
	for name, value := range header {
		m.Header.Set(name, value)
	}
	ack, err := js.PublishMsg(s.Context(), m)
	if err != nil {
		s.Fatal(err)
	}
	return ack
}

// dead returns all dead letters.
func (s *serving) dead(js jetstream.JetStream) (letters []deadletter.Letter) {
	s.Helper()
	box, err := deadletter.Open(s.Context(), js)
	if err != nil {
		s.Fatal(err)
	}
	err = box.Each(s.Context(), deadletter.Filter{}, func(l deadletter.Letter, err error) error {
		letters = append(letters, l)
		return err
	})
	if err != nil {
		s.Fatal(err)
	}
	return letters
}

// tries runs a client command against this serve, which may fail.
func (s *serving) tries(args ...string) (stdout, stderr string, status int) {
	s.Helper()
	return command(s.T, "", append(args, "--data-dir", s.dir)...)
}

// origin is what get --why says of where the value of a property came from.
type origin struct {
	Property  string `json:"property"`
	EventTime string `json:"eventTime"`
	EventID   string `json:"eventId"`
}

func (s *serving) origin(policy, device, property string) (of origin) {
	s.Helper()
	var told struct {
		Properties []origin `json:"properties"`
	}
	if err := json.Unmarshal([]byte(s.run("", "get", policy, device, "--why", "-o", "json")), &told); err != nil {
		s.Fatal(err)
	}
	for _, p := range told.Properties {
		if p.Property == property {
			of = p
		}
	}
	return of
}

func TestARetryAfterTheCauseIsMendedEmptiesTheList(t *testing.T) {
	s := serve(t, "--allow-policies", "disk")
	nc, js := s.client()
	soon := time.Now().Add(compliance.MaxFuture + 3*time.Second)
	s.sends(js, "disk.early", `{"status":"error"}`, map[string]string{"ce-id": "early", "ce-time": compliance.FormatStored(soon)})
	s.sends(js, "other.d1", `{"status":"compliant"}`, map[string]string{"Nats-Msg-Id": "id of the driver"})
	s.sends(js, "other.d2", `{"status":"compliant","lastReportedDateTime":"2026-01-31T12:00:00Z"}`, map[string]string{"ce-id": "d2"})
	s.sends(js, "other.d3", `{"status":"compliant"}`, nil)
	s.sends(js, "other.d4", `{"status":"compliant"}`, map[string]string{
		"ce-id": "d4", "ce-time": "2026-01-31T12:00:00.5+01:00", "ce-type": "t", "Compliance-Reply": "somebody.else",
	})
	typo := s.sends(js, "disk.d5", `{"status":"compliance","platform":8}`, nil)
	s.settled()
	before := s.dead(js)
	if len(before) != 6 {
		t.Fatalf("%d dead letters", len(before))
	}
	stored := map[string]string{}
	for _, l := range before {
		stored[l.Envelope.Subject] = l.Error.Inner.RequestID + " " + compliance.FormatStored(l.Envelope.Stored)
	}

	// Nothing is mended: each has one more.
	heard, err := nc.SubscribeSync("compliance.result.*.somebody.else")
	if err != nil {
		t.Fatal(err)
	}
	out, stderr, status := s.tries("dead", "retry", "--policy", "other")
	if status != 1 || strings.Count(out, "  rejected as COMPLIANCE_STATUS.") != 4 || !strings.Contains(stderr, "4 of 4 dead letters retried: 4 rejected\n") {
		t.Fatalf("status %d: %s%s", status, out, stderr)
	}
	after := s.dead(js)
	if len(after) != 10 {
		t.Fatalf("%d dead letters", len(after))
	}
	retries := map[string]deadletter.Letter{}
	for _, l := range after[6:] {
		retries[l.RetryOf] = l
	}
	for _, first := range before[1:5] {
		l := retries[first.Report()]
		if l.Envelope.Subject != first.Envelope.Subject || !bytes.Equal(l.Envelope.Body, first.Envelope.Body) {
			t.Errorf("the retry of %s has the letter %+v", first.Report(), l)
		}
	}
	if message, err := heard.NextMsg(10 * time.Millisecond); err == nil {
		t.Errorf("the first one's reply was asked for: %s", message.Data)
	}

	// The policy is allowed: the retry of the retry takes both out of the list.
	s.stop()
	s.args[len(s.args)-1] = "disk,other"
	s.start()
	out = s.run("", "dead", "retry", "--code", "policyNotAllowed", "-o", "json")
	if strings.Count(out, `"result":"applied"`) != 4 || strings.Count(out, "\n") != 4 {
		t.Errorf("4 are applied: %s", out)
	}
	for device, want := range map[string]string{
		"d1": stored["compliance.status.other.d1"], "d2": "d2 2026-01-31T12:00:00.000000000Z",
		"d3": stored["compliance.status.other.d3"], "d4": "d4 2026-01-31T11:00:00.500000000Z",
	} {
		o := s.origin("other", device, "status")
		// The id is the one that the report had, its time in ticks of 100 ns.
		if have := o.EventID + " " + o.EventTime; have[:len(have)-3] != want[:len(want)-3] {
			t.Errorf("%s: %s, want %s", device, have, want)
		}
	}

	// The payload is mended, and the time comes.
	sequence := fmt.Sprint(before[5].Sequence)
	if out = s.run("", "dead", "retry", sequence, "--patch", `{"status":"compliant","platform":null}`); !strings.HasPrefix(out, sequence+"  applied as COMPLIANCE_STATUS.") {
		t.Error(out)
	}
	if o, want := s.origin("disk", "d5", "status"), compliance.FormatStored(before[5].Envelope.Stored); o.EventTime[:27] != want[:27] || typo.Sequence != before[5].Envelope.Sequence {
		t.Errorf("%v, want %s", o, want)
	}
	if have := s.run("", "get", "disk", "d5", "-o", "json"); !strings.Contains(have, `"platform":0`) || !strings.Contains(have, `"status":"compliant"`) {
		t.Error(have)
	}
	eventually(t, "the time", func() bool { return time.Until(soon) < compliance.MaxFuture })
	out = s.run("", "dead", "retry")
	if !strings.HasPrefix(out, fmt.Sprintf("%d  applied as COMPLIANCE_STATUS.", before[0].Sequence)) {
		t.Error(out)
	}
	if left := s.dead(js); len(left) != 0 {
		t.Errorf("%d dead letters are left", len(left))
	}
	if out, stderr, status = s.tries("dead", "ls"); status != 0 || out+stderr != "" {
		t.Errorf("status %d: %s%s", status, out, stderr)
	}
	if _, stderr, status = s.tries("dead", "retry"); status != 0 || stderr != "there is no such dead letter\n" {
		t.Errorf("status %d: %s", status, stderr)
	}
}

func TestARetryThatIsRefusedAgainLeavesOneDeadLetterMore(t *testing.T) {
	s := serve(t)
	_, js := s.client()
	s.sends(js, "p.d", `{"platform":"8"}`, map[string]string{"ce-id": "e"})
	s.settled()
	for n := range 3 {
		out, stderr, status := s.tries("dead", "retry")
		if status != 1 || strings.Count(out, "rejected") != 1 || !strings.Contains(out, ": typeMismatch: ") {
			t.Fatalf("status %d: %s%s", status, out, stderr)
		}
		letters := s.dead(js)
		if len(letters) != n+2 {
			t.Fatalf("%d dead letters after %d retries", len(letters), n+1)
		}
		last, first := letters[n+1], letters[n]
		if last.RetryOf != first.Report() || last.Error.Inner.RequestID != "e" {
			t.Errorf("retry of %s, want %s; id %s", last.RetryOf, first.Report(), last.Error.Inner.RequestID)
		}
	}
	// The last one has the time of the first one's storing, and takes all with it.
	stored := compliance.FormatStored(s.dead(js)[0].Envelope.Stored)
	s.run("", "dead", "retry", "--patch", `{"platform":8}`)
	if left := s.dead(js); len(left) != 0 {
		t.Errorf("%d dead letters are left", len(left))
	}
	if o := s.origin("p", "d", "platform"); o.EventTime[:27] != stored[:27] || o.EventID != "e" {
		t.Errorf("%v, want %s", o, stored)
	}
	// It was there already: that takes a letter away, too.
	s.sends(js, "p.d", `{"platform":"8"}`, map[string]string{"ce-id": "e", "ce-time": stored})
	s.settled()
	if out := s.run("", "dead", "retry", "--body", `{"platform":8}`, "5"); !strings.HasPrefix(out, "5  unchanged as COMPLIANCE_STATUS.") {
		t.Error(out)
	}
	if left := s.dead(js); len(left) != 0 {
		t.Errorf("%d dead letters are left", len(left))
	}
}

// A device can claim that its report is a retry of another device's.
func TestARetryTakesNoLetterOfAnotherRecordAway(t *testing.T) {
	s := serve(t)
	_, js := s.client()
	s.sends(js, "p.d", `{"platform":"8"}`, nil)
	s.sends(js, "p.e", `{"platform":"8"}`, map[string]string{"Compliance-Retry-Of": "COMPLIANCE_STATUS.1"})
	s.sends(js, "p.e", `{"platform":"9"}`, map[string]string{"Compliance-Retry-Of": "COMPLIANCE_STATUS.*"})
	s.settled()
	// Of its own record it can, and both are left alone here.
	s.sends(js, "p.f", `{"platform":"8"}`, map[string]string{"Compliance-Retry-Of": "COMPLIANCE_STATUS.5"})
	s.sends(js, "p.f", `{"platform":"9"}`, map[string]string{"Compliance-Retry-Of": "COMPLIANCE_STATUS.4"})
	s.settled()
	s.run("", "dead", "retry", "2", "3", "--patch", `{"platform":8}`)
	if left := s.dead(js); len(left) != 3 || left[0].Sequence != 1 {
		t.Fatalf("left are %+v", left)
	}
	out, stderr, status := s.tries("dead", "retry", "--patch", `{"platform":8}`)
	if status != 0 || !strings.HasPrefix(out, "1  applied") || !strings.HasPrefix(stderr, "2 dead letters are left alone") {
		t.Errorf("status %d: %s%s", status, out, stderr)
	}
	// Each of the two takes the other along.
	s.run("", "dead", "retry", "4", "--patch", `{"platform":8}`)
	if left := s.dead(js); len(left) != 0 {
		t.Errorf("left are %+v", left)
	}
}

func TestARetryOfWhichNothingIsHeardLeavesTheLetter(t *testing.T) {
	b := startBroker(t, "")
	nc, err := nats.Connect(b.url(""))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"dead", "retry", "--nats-url", b.url(""), "--timeout", "200ms"}
	if _, stderr, status := command(t, "", args...); status != 1 || !strings.Contains(stderr, "run complianced provision") {
		t.Errorf("status %d: %s", status, stderr)
	}
	if err := ingest.Provision(t.Context(), js, ingest.Provisioning{Layout: compliance.Layout{Partitions: 1, Buckets: 4}}); err != nil {
		t.Fatal(err)
	}
	for n := range uint64(2) { // There is no worker, so the test buries them.
		e := compliance.Envelope{Subject: "compliance.status.p.d", Body: []byte(`{`), Sequence: n + 1, Stored: time.Now()}
		_, rejection := compliance.Decode(&e)
		if _, err := ingest.NewPublisher(js).Bury(t.Context(), []ingest.DeadLetter{{Stream: "COMPLIANCE_STATUS", Envelope: e, Rejection: rejection}}); err != nil {
			t.Fatal(err)
		}
	}
	out, stderr, status := command(t, "", args...)
	if status != 1 || out != "1  unknown as COMPLIANCE_STATUS.1: no result was heard; is complianced serve running?\n" ||
		!strings.Contains(stderr, "1 of 2 dead letters retried: 1 unknown\n") || !strings.Contains(stderr, "the same command goes on") {
		t.Errorf("status %d: %s%s", status, out, stderr)
	}
	out, _, status = command(t, "", append(args, "1", "9", "-o", "json")...)
	if status != 1 || !strings.HasPrefix(out, `{"letter":1,"retryOf":"COMPLIANCE_STATUS.1","result":"unknown","stream":"COMPLIANCE_STATUS","sequence":2,`) {
		t.Errorf("status %d: %s", status, out)
	}
	if out, _, _ = command(t, "", append(args, "9")...); !strings.HasPrefix(out, "9  failed: there is no such dead letter") {
		t.Error(out)
	}
	if out, _, status = command(t, "", "dead", "ls", "--nats-url", b.url("")); status != 0 || strings.Count(out, "\n") != 3 {
		t.Errorf("status %d: %s", status, out)
	}
}
