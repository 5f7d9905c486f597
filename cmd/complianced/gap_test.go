package main_test

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
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
	const listed = `^STREAM             FIRST  LAST  REPORTS  NOTICED\nCOMPLIANCE_STATUS  1      60    60       20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ\n$`
	if out := s.run("", "provision", "--gaps"); !regexp.MustCompile(listed).MatchString(out) {
		t.Errorf("provision does not list the gap: %s", out)
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
	if out := s.run("", "provision", "--gaps"); out != "STREAM  FIRST  LAST  REPORTS  NOTICED\n" {
		t.Errorf("what is accepted is still listed: %s", out)
	}
}

func TestGapsThatCannotBeReadAreNamedUntilTheyAreRepaired(t *testing.T) {
	s := serve(t)
	raw := s.raw()
	const gaps, advice = "cs:{00}:|gaps", "bucket 00: the gaps is corrupt; complianced verify --repair puts it right"
	for name, harm := range map[string]func() error{
		"a field":      func() error { return raw.HSet(t.Context(), gaps, "9-1", "x").Err() },
		"another type": func() error { return raw.Set(t.Context(), gaps, "x", 0).Err() },
	} {
		if err := harm(); err != nil {
			t.Fatal(err)
		}
		if status, body := s.get("/readyz"); status != http.StatusOK || !strings.Contains(body, advice) {
			t.Errorf("%s: /readyz says %d %s", name, status, body)
		}
		s.shows("compliance_state_up 0", "compliance_redis_connected 1")
		s.says(advice)
		for _, flag := range []string{"--gaps", "--accept-gap"} {
			if _, stderr, status := command(t, "", "--data-dir", s.dir, "provision", flag); status != 1 || !strings.Contains(stderr, advice) {
				t.Errorf("%s: provision %s: status %d: %s", name, flag, status, stderr)
			}
		}
		// Reports are merged all the same.
		if out := s.run(`{"status":"error"}`, "publish", "p", name[:1], "--wait"); !strings.HasPrefix(out, "applied") {
			t.Errorf("%s: %s", name, out)
		}
		for _, args := range [][]string{nil, {"--repair"}} {
			if found, _ := s.verify(1, args...); cmp.Diff([]string{"gap entry"}, found) != "" {
				t.Errorf("%s: verify %v finds %v", name, args, found)
			}
		}
		s.verify(0)
		s.shows("compliance_state_up 1")
		if _, body := s.get("/readyz"); body != "ok\n" {
			t.Errorf("%s, repaired: /readyz says %s", name, body)
		}
	}
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
