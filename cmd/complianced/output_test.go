package main_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"
)

func TestVersionIsOneLine(t *testing.T) {
	out, _, status := command(t, "", "version")
	if status != 0 || out != "complianced development\n" {
		t.Errorf("status %d: %s", status, out)
	}
}

func TestWhatTheReadersPrint(t *testing.T) {
	s := serve(t)
	at := []string{"--event-time", "2026-01-31T12:00:00.5Z"}
	for _, report := range [][]string{
		{"disk", "d1", `{"status":"compliant","platform":8,"userName":"A\u0007B","deviceModel":null}`},
		{"disk", "d2", `{"status":"nonCompliant"}`},
		{"disk", "d3", `{"status":"nonCompliant"}`},
		{"antivirus", "d1", `{"status":"conflict"}`},
		{"antivirus", "d2", `{"status":"compliance"}`}, // Becomes a dead letter.
	} {
		s.run(report[2], append([]string{"publish", report[0], report[1]}, at...)...)
	}
	s.settled()
	s.shows("compliance_dead_letters 1")
	for _, test := range []struct {
		args []string
		want string
	}{
		{
			[]string{"summary"},
			"         POLICY  unknown  notApplicable  compliant  remediated  nonCompliant  error  conflict  notAssigned  DEVICES  IN GRACE  STALE\n" +
				"      antivirus        0              0          0           0             0      0         1            0        1         0      1\n" +
				"           disk        0              0          1           0             2      0         0            0        3         0      3\n" +
				"  (all records)        0              0          1           0             2      0         1            0        4         0      4\n" +
				"      (devices)        0              0          0           0             2      0         1            0        3                 \n",
		},
		{
			[]string{"summary", "-o", "json"},
			`{"devices":{"compliant":0,"conflict":1,"error":0,"nonCompliant":2,"notApplicable":0,"notAssigned":0,"remediated":0,"unknown":0},` +
				`"inGrace":{"antivirus":0,"disk":0},` +
				`"policies":{"antivirus":{"compliant":0,"conflict":1,"error":0,"nonCompliant":0,"notApplicable":0,"notAssigned":0,"remediated":0,"unknown":0},` +
				`"disk":{"compliant":1,"conflict":0,"error":0,"nonCompliant":2,"notApplicable":0,"notAssigned":0,"remediated":0,"unknown":0}},` +
				`"stale":{"antivirus":1,"disk":3}}` + "\n",
		},
		{
			[]string{"get", "disk", "d1"},
			"PROPERTY                                 VALUE        EVENT TIME\n" +
				"id                                       d1           2026-01-31T12:00:00.500000000Z\n" +
				"deviceDisplayName                        (never set)  \n" +
				"userName                                 A?B          2026-01-31T12:00:00.500000000Z\n" +
				"deviceModel                              (null)       2026-01-31T12:00:00.500000000Z\n" +
				"platform                                 8            2026-01-31T12:00:00.500000000Z\n" +
				"complianceGracePeriodExpirationDateTime  (never set)  \n" +
				"status                                   compliant    2026-01-31T12:00:00.500000000Z\n" +
				"lastReportedDateTime                     (never set)  \n" +
				"userPrincipalName                        (never set)  \n" +
				"\neffective status: stale; no grace period; stale: yes\n",
		},
	} {
		if diff := cmp.Diff(test.want, s.run("", test.args...)); diff != "" {
			t.Errorf("%v (-want +have):\n%s", test.args, diff)
		}
	}
	if _, stderr, status := command(t, "", "--data-dir", s.dir, "get", "disk", "d9"); status != 1 || !strings.Contains(stderr, "no report") {
		t.Errorf("a record that is not there: status %d: %s", status, stderr)
	}
}

func TestPublishSendsWhatItsFlagsSay(t *testing.T) {
	s := serve(t)
	_, js := s.client()
	stream, err := js.Stream(t.Context(), "COMPLIANCE_STATUS")
	if err != nil {
		t.Fatal(err)
	}
	send := func(args ...string) *jetstream.RawStreamMsg {
		t.Helper()
		var ack struct {
			Stream   string `json:"stream"`
			Sequence uint64 `json:"sequence"`
			ID       string `json:"id"`
			Time     string `json:"time"`
		}
		out := s.run("", append([]string{"publish", "p", "d", "-o", "json"}, args...)...)
		if err := json.Unmarshal([]byte(out), &ack); err != nil || ack.Stream != "COMPLIANCE_STATUS" || ack.Sequence == 0 {
			t.Fatalf("%v: %s", err, out)
		}
		m, err := stream.GetMsg(t.Context(), ack.Sequence)
		if err != nil {
			t.Fatal(err)
		}
		if ack.ID != m.Header.Get("ce-id") || strings.TrimRight(ack.Time, "0Z") != strings.TrimRight(m.Header.Get("ce-time"), "0Z") {
			t.Errorf("%s tells of another id or time than %v", out, m.Header)
		}
		return m
	}
	m := send("--status", "remediated")
	if string(m.Data) != `{"status":"remediated"}` || len(m.Header.Get("ce-id")) != 36 || m.Header.Get("ce-time") == "" {
		t.Errorf("%s %v", m.Data, m.Header)
	}
	m = send("--status", "error", "--event-id", "an id", "--event-time", "2026-01-31T15:00:00.25+03:00")
	if m.Header.Get("ce-id") != "an id" || m.Header.Get("ce-time") != "2026-01-31T12:00:00.2500000Z" {
		t.Errorf("%v", m.Header)
	}
	m = send("--status", "error", "--no-time")
	if _, has := m.Header["ce-time"]; has || m.Header.Get("ce-id") == "" {
		t.Errorf("%v", m.Header)
	}
	if out := s.run("", "publish", "p", "d", "--status", "error"); out != "accepted as COMPLIANCE_STATUS 4\n" {
		t.Error(out)
	}
	out := s.run("", "publish", "p", "d", "--status", "conflict", "--wait")
	if out != "applied as COMPLIANCE_STATUS 5\n" {
		t.Error(out)
	}
}
