package main_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func TestAGapIsAnAlarmUntilItIsAccepted(t *testing.T) {
	s := serve(t, "--roles", "state") // Nobody merges.
	_, js := s.client()
	for n := range 100 {
		if _, err := js.Publish(t.Context(), fmt.Sprintf("compliance.status.p.d%d", n), []byte(`{"status":"error"}`)); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := js.Stream(t.Context(), "COMPLIANCE_STATUS")
	if err != nil {
		t.Fatal(err)
	}
	limited := stream.CachedInfo().Config
	limited.MaxMsgs = 40
	if _, err := js.UpdateStream(t.Context(), limited); err != nil {
		t.Fatal(err)
	}
	s.stop()
	s.args = append(s.args, "--roles", "state,ingest")
	s.start()
	s.settled()
	for _, when := range []string{"found", "after a restart"} {
		s.wantGap(when, 60)
		s.stop()
		s.start()
	}
	if got := s.devices(); !strings.Contains(got, `{policy="p",status="error"} 40`) {
		t.Errorf("the reports after the gap are not merged: %s", got)
	}
	if out := s.run("", "provision", "--accept-gap"); out != "60 reports that the streams lost are forgotten\n" {
		t.Errorf("provision does not say what was accepted: %s", out)
	}
	s.wantGap("accepted", 0)
	if _, err := js.Publish(t.Context(), "compliance.status.p.d", []byte(`{"status":"error"}`)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "reports are merged on", func() bool { return strings.Contains(s.devices(), `{policy="p",status="error"} 41`) })
	s.wantGap("and later", 0)
}

func (s *serving) wantGap(when string, reports int) {
	s.Helper()
	want := fmt.Sprintf("compliance_stream_gap_reports{partition=\"0\"} %d\n", reports)
	if _, body := s.get("/metrics"); !strings.Contains(body, want) {
		s.Errorf("%s: the metrics do not hold %s", when, want)
	}
	status, body := s.get("/readyz")
	if status != http.StatusOK || strings.Contains(body, "accept-gap") != (reports > 0) {
		s.Errorf("%s: /readyz says %d %s", when, status, body)
	}
}
