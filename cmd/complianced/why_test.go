package main_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/zeebo/xxh3"

	"github.com/complianced/complianced/compliance"
)

// sent publishes a report with these headers.
func sent(t *testing.T, js jetstream.JetStream, subject, body string, headers ...string) {
	t.Helper()
	message := nats.NewMsg(subject)
	message.Data = []byte(body)
	for i := 0; i < len(headers); i += 2 {
		message.Header[headers[i]] = []string{headers[i+1]}
	}
	if _, err := js.PublishMsg(t.Context(), message); err != nil {
		t.Fatal(err)
	}
}

// whys are the origins of the properties that get --why tells under policy p, each as from, sequence,
// id, hash and time, parted by spaces.
func (s *serving) whys(device string) map[string]string {
	s.Helper()
	var told struct {
		Policy     string `json:"policy"`
		Device     string `json:"device"`
		Properties []struct {
			Property  string          `json:"property"`
			Value     json.RawMessage `json:"value"`
			EventTime string          `json:"eventTime"`
			EventHash string          `json:"eventHash"`
			EventID   string          `json:"eventId"`
			Stream    string          `json:"stream"`
			Sequence  uint64          `json:"sequence"`
			From      string          `json:"from"`
		} `json:"properties"`
	}
	out := s.run("", "get", "p", device, "--why", "-o", "json")
	if err := json.Unmarshal([]byte(out), &told); err != nil || told.Policy != "p" || told.Device != device || len(told.Properties) != 9 {
		s.Fatalf("%v: %s", err, out)
	}
	all := map[string]string{}
	for _, p := range told.Properties {
		if p.Sequence != 0 && !strings.HasPrefix(p.Stream, "COMPLIANCE_STATUS") {
			s.Errorf("%s has no stream", p.Property)
		}
		at := strings.TrimSuffix(p.EventTime, ".000000000Z")
		all[p.Property] = strings.TrimSpace(fmt.Sprintln(string(p.Value), p.From, p.Sequence, p.EventID, p.EventHash, at))
	}
	return all
}

func TestWhyTellsWhereEachValueCameFrom(t *testing.T) {
	s := serve(t)
	_, js := s.client()
	subject := "compliance.status.p.d"
	sent(t, js, subject, `{"platform":1,"userName":"lost","deviceModel":"lost"}`, "ce-id", "zero", "ce-time", "2026-01-01T00:00:00Z")
	sent(t, js, subject, `{"@removed":{}}`, "ce-id", "gone", "ce-time", "2026-01-02T00:00:00Z")
	sent(t, js, subject, `{"platform":3,"status":"error"}`, "ce-id", "late", "ce-time", "2026-01-01T12:00:00Z")
	sent(t, js, subject, `{"platform":3,"userName":null}`, "ce-id", "three", "ce-time", "2026-01-03T00:00:00Z")
	sent(t, js, subject, `{"deviceModel":"again"}`, "ce-id", "four", "ce-time", "2026-01-04T00:00:00Z", "compliance-stored", "2026-01-04T00:00:01.000000000Z")
	sent(t, js, subject, `{"platform":3,"userName":null}`, "ce-id", "three", "ce-time", "2026-01-03T00:00:00Z")
	sent(t, js, subject, `{"platform":"no"}`, "ce-id", "five", "ce-time", "2026-01-05T00:00:00Z")
	sent(t, js, "compliance.status.p.other", `{"platform":9}`, "ce-id", "six", "ce-time", "2026-01-06T00:00:00Z")
	s.settled()
	hash := func(id string) string { return fmt.Sprintf("%016x", xxh3.HashString(id)) }
	three, four, gone := "report 4 three "+hash("three")+" 2026-01-03T00:00:00", "replay 5 four "+hash("four")+" 2026-01-04T00:00:00", "deletion 2 gone "+hash("gone")+" 2026-01-02T00:00:00"
	want := map[string]string{
		"id": `"d" ` + four, "deviceModel": `"again" ` + four, "platform": "3 " + three, "userName": "null " + three,
		"status": `"unknown" ` + gone, "deviceDisplayName": "null " + gone, "userPrincipalName": "null " + gone,
		"lastReportedDateTime": `"0001-01-01T00:00:00Z" ` + gone, "complianceGracePeriodExpirationDateTime": `"9999-12-31T23:59:59.9999999Z" ` + gone,
	}
	if diff := cmp.Diff(want, s.whys("d")); diff != "" {
		t.Error(diff)
	}
	row := "platform                                 3            2026-01-03T00:00:00.000000000Z  report    4         " + hash("three") + "  three\n"
	if out := s.run("", "get", "p", "d", "--why"); !strings.Contains(out, row) || !strings.HasSuffix(out, "\neffective status: stale; no grace period; stale: yes\n") {
		t.Error(out)
	}
	if out := s.run("", "get", "p", "d", "--why", "-o", "json"); !strings.HasPrefix(out, `{"policy":"p","device":"d","removed":false,"effectiveStatus":"stale","inGrace":false,"stale":true,"properties":[`) {
		t.Error(out)
	}
	if have := s.whys("other"); have["status"] != `"unknown"  0` {
		t.Errorf("never set: %q", have["status"])
	}
	// What the stream has no more is still told as far as the record knows it.
	stream, err := js.Stream(t.Context(), "COMPLIANCE_STATUS")
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	config.MaxMsgsPerSubject = 1
	if _, err := js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	have := s.whys("d")
	if want := `"again"  0  ` + hash("four") + " 2026-01-04T00:00:00"; have["deviceModel"] != want {
		t.Errorf("%q, want %q", have["deviceModel"], want)
	}
	if want := `"unknown" deletion 0  ` + hash("gone") + " 2026-01-02T00:00:00"; have["status"] != want {
		t.Errorf("%q, want %q", have["status"], want)
	}
	if out := s.run("", "get", "p", "d", "--why"); !strings.Contains(out, "(not in the stream)") {
		t.Error(out)
	}
	// A deleted record.
	sent(t, js, subject, `{"@removed":{}}`, "ce-id", "end", "ce-time", "2026-02-01T00:00:00Z")
	s.settled()
	if have := s.whys("d")["id"]; have != `"d" deletion 9 end `+hash("end")+" 2026-02-01T00:00:00" {
		t.Error(have)
	}
	if out := s.run("", "get", "p", "d", "--why", "-o", "json"); !strings.HasPrefix(out, `{"policy":"p","device":"d","removed":true,"inGrace":false,"stale":false,"properties":[`) {
		t.Error(out)
	}
	if out := s.run("", "get", "p", "d", "--why"); !strings.HasSuffix(out, "\nthe record was removed\n") {
		t.Error(out)
	}
	if _, stderr, status := command(t, "", "--data-dir", s.dir, "get", "p", "d"); status != 1 || !strings.Contains(stderr, "it was removed; get --why shows when") {
		t.Errorf("status %d: %s", status, stderr)
	}
	if _, stderr, status := command(t, "", "--data-dir", s.dir, "get", "p", "never", "--why"); status != 1 || !strings.Contains(stderr, "no report") {
		t.Errorf("status %d: %s", status, stderr)
	}
}

func TestWhyReadsThePartitionOfTheDevice(t *testing.T) {
	b := startBroker(t, "")
	own, _ := ownRedis(t, t.TempDir())
	b.provision("", own, "--partitions", "2", "--buckets", "4")
	s := serve(t, "--nats-url", b.url(""), "--redis-url", own.URL())
	_, js := s.client()
	layout := compliance.Layout{Partitions: 2, Buckets: 4}
	for n := range 2 {
		key := compliance.Key{Policy: "p", Device: fmt.Sprint("d", n)}
		for i := range 1200 { // More than is asked for at a time.
			at := time.Date(2026, 1, 1, 0, 0, i, 0, time.UTC).Format(time.RFC3339)
			message := nats.NewMsg(key.PartitionSubject(layout.PartitionOf(key.Device)))
			message.Data = []byte(`{"status":"error"}`)
			message.Header["ce-id"], message.Header["ce-time"] = []string{fmt.Sprint("id", i)}, []string{at}
			if _, err := js.PublishMsgAsync(message); err != nil {
				t.Fatal(err)
			}
		}
		<-js.PublishAsyncComplete()
	}
	s.shows(`compliance_stream_lag_messages{partition="0"} 0`, `compliance_stream_lag_messages{partition="1"} 0`)
	for n := range 2 {
		if have := s.whys(fmt.Sprint("d", n))["status"]; !strings.HasPrefix(have, `"error" report 1200 id1199 `) {
			t.Errorf("device %d: %s", n, have)
		}
	}
}
