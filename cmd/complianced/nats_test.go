package main_test

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	complianced "github.com/complianced/complianced/cmd/complianced"
)

func TestServeOutlivesRefusedCredentials(t *testing.T) {
	b := startBroker(t, `{user: admin, password: word}`)
	own, _ := ownRedis(t, t.TempDir())
	b.provision("admin:word", own)
	t.Setenv("COMPLIANCED_NATS_URL", b.url("admin:renewed"))
	s := prepare(t, "--redis-url", own.URL())
	s.launch()
	s.says("nats cannot be reached", "Authorization Violation", "address="+b.url(""))
	// The client tells of its first attempt alone; this one is serve's own.
	s.says("not ready", "not connected: nats: Authorization Violation", b.url(""))
	if status, body := s.get("/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("/readyz: %d %s", status, body)
	}
	b.stop()
	b.start(`{user: admin, password: renewed}`)
	s.answers("/readyz", http.StatusOK)
	// And so under a running serve.
	b.stop()
	b.start(`{user: admin, password: word}`)
	eventually(t, "two refusals", func() bool {
		log, err := os.ReadFile(s.log.Name())
		return err == nil && strings.Count(string(log), "authorization violation") >= 2
	})
	b.stop()
	b.start(`{user: admin, password: renewed}`)
	s.answers("/readyz", http.StatusOK)
	log, err := os.ReadFile(s.log.Name())
	if err != nil || strings.Contains(string(log), "renewed") {
		t.Errorf("%v: the log holds the password", err)
	}
}

func TestServeEndsWhereTheClientGivesUpForGood(t *testing.T) {
	b := startBroker(t, "")
	own, _ := ownRedis(t, t.TempDir())
	b.provision("", own)
	p := startInjector(t, b.addr)
	s := serve(t, "--redis-url", own.URL(), "--nats-url", "nats://"+p.listener.Addr().String())
	p.lines <- "-ERR 'no more of compliance.status.p.laptop-7'\r\n" // The client closes on whatever it does not know.
	if err := s.end(); s.cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("serve ended with %v", err)
	}
	log, err := os.ReadFile(s.log.Name())
	if err != nil || !strings.Contains(string(log), "closed for good: nats: no more of") || strings.Contains(string(log), "laptop-7") {
		t.Errorf("%v: %s", err, log)
	}
}

func TestAClientCommandTellsARefusalWithoutTheDevice(t *testing.T) {
	b := startBroker(t, `
  {user: admin, password: word}
  {user: agent, password: word, permissions: {publish: {deny: "compliance.status.*.laptop-7"}}}`)
	own, _ := ownRedis(t, t.TempDir())
	b.provision("admin:word", own)
	t.Setenv("COMPLIANCED_NATS_URL", b.url("agent:word"))
	_, stderr, status := command(t, "", "publish", "p", "laptop-7", "--status", "compliant")
	if status != 1 || !strings.Contains(stderr, "does not allow this") || strings.Count(stderr, "\n") != 1 || strings.Contains(stderr, "laptop-7") {
		t.Errorf("status %d: %s", status, stderr)
	}
}

func TestALostConnectionIsFoundWithinTheMinute(t *testing.T) {
	have := nats.GetDefaultOptions()
	for _, option := range complianced.PatientNATS() {
		if err := option(&have); err != nil {
			t.Fatal(err)
		}
	}
	if have.PingInterval != 20*time.Second || have.MaxPingsOut != 1 || have.MaxReconnect != -1 || !have.RetryOnFailedConnect {
		t.Errorf("pings every %s, %d of them; %d reconnects, retry %t", have.PingInterval, have.MaxPingsOut, have.MaxReconnect, have.RetryOnFailedConnect)
	}
}
