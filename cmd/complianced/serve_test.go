package main_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/internal/fleet"
	"github.com/complianced/complianced/store"
)

const documented = `{
  "@odata.type": "#microsoft.graph.deviceComplianceDeviceStatus",
  "deviceDisplayName": "Device Display Name value",
  "userName": "User Name value",
  "deviceModel": "Device Model value",
  "platform": 8,
  "complianceGracePeriodExpirationDateTime": "2017-01-01T00:02:41.4369203+03:00",
  "status": "nonCompliant",
  "lastReportedDateTime": "2017-01-01T00:00:59.8078557+03:00",
  "userPrincipalName": "User Principal Name value"
}`

const documentedDevice = "a72b2760-2760-a72b-6027-2ba760272ba7"

func TestTheDocumentedExampleComesBack(t *testing.T) {
	s := serve(t)
	_, js := s.client()
	for _, body := range []string{documented, strings.Replace(documented, "nonCompliant", "String", 1)} {
		if _, err := js.Publish(t.Context(), "compliance.status.policy."+documentedDevice, []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	s.settled()
	want := `{"@odata.type":"#microsoft.graph.deviceComplianceDeviceStatus","id":"a72b2760-2760-a72b-6027-2ba760272ba7",` +
		`"deviceDisplayName":"Device Display Name value","userName":"User Name value","deviceModel":"Device Model value",` +
		`"platform":8,"complianceGracePeriodExpirationDateTime":"2017-01-01T00:02:41.4369203+03:00","status":"nonCompliant",` +
		`"lastReportedDateTime":"2017-01-01T00:00:59.8078557+03:00","userPrincipalName":"User Principal Name value",` +
		`"@compliance.effectiveStatus":"stale","@compliance.inGrace":false,"@compliance.stale":true}` + "\n"
	if diff := cmp.Diff(want, s.run("", "get", "policy", documentedDevice, "-o", "json")); diff != "" {
		t.Error(diff)
	}
	dead, err := js.Stream(t.Context(), "COMPLIANCE_DEAD")
	if err != nil {
		t.Fatal(err)
	}
	letter, err := dead.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"Compliance-Code": "invalidStatus", "Compliance-Property": "status", "Compliance-Stream": "COMPLIANCE_STATUS",
		"Compliance-Sequence": "2", "Compliance-Subject": "compliance.status.policy." + documentedDevice,
	} {
		if have := letter.Header.Get(name); have != want {
			t.Errorf("%s: want %q, have %q", name, want, have)
		}
	}
	if !strings.HasPrefix(letter.Subject, "compliance.dead.invalidStatus.COMPLIANCE_STATUS.2.") {
		t.Errorf("subject %s", letter.Subject)
	}
	if n := dead.CachedInfo().State.Msgs; n != 1 {
		t.Errorf("%d dead letters", n)
	}
}

// state reads every record, and checks the counts against them.
func (s *serving) state() map[string]string {
	s.Helper()
	db, err := store.Open(s.Context(), store.Options{URLs: []string{s.Redis}})
	if err != nil {
		s.Fatal(err)
	}
	defer db.Close()
	raw := s.redis()
	state, counts := map[string]string{}, map[string]int{}
	scan := raw.Scan(s.Context(), 0, "cs:{*}:*", 1000).Iterator()
	for scan.Next(s.Context()) {
		policy, device, _ := strings.Cut(scan.Val()[len("cs:{00}:"):], ":")
		if strings.HasPrefix(policy, "|") {
			continue
		}
		record, err := db.Get(s.Context(), compliance.Key{Policy: policy, Device: device})
		if err != nil {
			s.Fatal(err)
		}
		if record.Exists() {
			state[policy+"."+device] = string(record.JSON(device))
			counts[policy+" "+record.Status().String()]++
		}
	}
	if err := scan.Err(); err != nil {
		s.Fatal(err)
	}
	have := map[string]int{}
	totals, err := db.Counts(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	for policy, of := range totals {
		for status, n := range of {
			if n != 0 {
				have[policy+" "+compliance.Status(status).String()] = n
			}
		}
	}
	if diff := cmp.Diff(counts, have); diff != "" {
		s.Errorf("the counts are not a recount (-recount +counts):\n%s", diff)
	}
	return state
}

func (s *serving) redis() *redis.Client {
	s.Helper()
	options, err := redis.ParseURL(s.Redis)
	if err != nil {
		s.Fatal(err)
	}
	raw := redis.NewClient(options)
	s.Cleanup(func() { _ = raw.Close() })
	return raw
}

func TestStateEqualsTheStreamAfterKillAndFlushUnderLoad(t *testing.T) {
	s := serve(t)
	simulate := exec.CommandContext(t.Context(), binary, "--data-dir", s.dir, "simulate",
		"--devices", "500", "--rate", "2000", "--duration", "6s", "--bad", "0.05")
	simulate.Stderr = os.Stderr
	if err := simulate.Start(); err != nil {
		t.Fatal(err)
	}
	grown := func(by uint64) {
		t.Helper()
		_, js := s.client()
		first := uint64(0)
		eventually(t, "reports", func() bool {
			stream, err := js.Stream(t.Context(), "COMPLIANCE_STATUS")
			if err != nil {
				return false
			}
			last := stream.CachedInfo().State.LastSeq
			if first == 0 {
				first = last
			}
			return last >= first+by
		})
	}
	grown(2000)
	if err := s.redis().FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	grown(2000)
	_, metrics := s.get("/metrics")
	if strings.Contains(metrics, `compliance_rewinds_total{cause="store_empty"} 0`) {
		t.Error("the flush was not noticed")
	}
	// The embedded NATS goes with the process; simulate loses what was under way
	// and says so, which is not what this test is about.
	s.kill()
	_ = simulate.Process.Kill()
	_ = simulate.Wait()
	s.start()
	out := s.run("", "simulate", "--devices", "500", "--rate", "2000", "--duration", "2s", "--seed", "7", "--bad", "0.05")
	if strings.HasPrefix(out, "0 ") {
		t.Fatal(out)
	}
	messages, want := s.judge()
	if len(want.Records) < 500 || len(messages) < 6000 {
		t.Errorf("only %d records of %d reports: too few to show anything", len(want.Records), len(messages))
	}
	s.state()
}

func TestAnyOrderGivesTheSameState(t *testing.T) {
	devices := fleet.New(fleet.Options{
		Devices: 60, Policies: 2, Seed: 3, Start: time.Now().Add(-time.Hour), Rate: 100,
		Partial: .4, Nulls: .2, Duplicates: .1, Late: .3, Bad: .05,
	})
	var reports []fleet.Report
	for n := range 3000 {
		report := devices.Next()
		if n%40 == 7 {
			report.Body = []byte(`{"@removed":{"reason":"deleted"}}`)
		}
		reports = append(reports, report)
	}
	var states []map[string]string
	var series []string
	for order := range 3 {
		shuffled := append(append([]fleet.Report{}, reports...), reports[:300]...)
		random := rand.New(rand.NewPCG(uint64(order), 9))
		if order > 0 {
			random.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		}
		s := serve(t)
		nc, js := s.client()
		for _, report := range shuffled {
			if _, err := js.PublishMsgAsync(report.Message()); err != nil {
				t.Fatal(err)
			}
		}
		<-js.PublishAsyncComplete()
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		s.judge()
		states, series = append(states, s.state()), append(series, s.devices())
		for ids, want := range states[order] {
			policy, device, _ := strings.Cut(ids, ".")
			if have := s.run("", "get", policy, device, "-o", "json"); !strings.HasPrefix(have, strings.TrimSuffix(want, "}")+`,"@compliance.`) {
				t.Fatalf("get says %s, the state is %s", have, want)
			}
			break // The command reads what state reads; once shows it.
		}
		s.stop()
	}
	for order := 1; order < 3; order++ {
		if diff := cmp.Diff(states[0], states[order]); diff != "" {
			t.Errorf("order %d gives another state:\n%s", order, diff)
		}
		if diff := cmp.Diff(series[0], series[order]); diff != "" {
			t.Errorf("order %d gives other metrics:\n%s", order, diff)
		}
	}
}

func TestPublishTellsWhatBecameOfTheReport(t *testing.T) {
	s := serve(t)
	s.run(`{"status":"nonCompliant","userName":null}`, "publish", "p", "d")
	s.settled()
	out := s.run(`{"status":"compliant"}`, "publish", "p", "d", "--wait", "-o", "json")
	var result struct {
		Outcome string `json:"outcome"`
		Record  struct {
			Status string `json:"status"`
		} `json:"record"`
	}
	if err := json.Unmarshal([]byte(out), &result); err != nil || result.Outcome != "applied" || result.Record.Status != "compliant" {
		t.Errorf("%v: %s", err, out)
	}
	out, stderr, status := command(t, `{"status":"compliance","x":1}`, "--data-dir", s.dir, "publish", "p", "d", "--wait")
	if status != 1 || !strings.Contains(out, "invalidStatus") || !strings.Contains(out, "unknownProperty") || !strings.Contains(stderr, "dead letter") {
		t.Errorf("status %d: %s %s", status, out, stderr)
	}
	if out := s.run("", "summary"); !strings.Contains(out, "DEVICES") {
		t.Error(out)
	}
	if code, body := s.get("/livez"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("/livez: %d %s", code, body)
	}
}

func TestWrongUseIsOneClearLineAndStatusTwo(t *testing.T) {
	config := t.TempDir() + "/config.yaml"
	if err := os.WriteFile(config, []byte("metrics-listn: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	written := func(text string) string {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	for _, c := range []struct {
		args []string
		say  string
	}{
		{[]string{"serve", "--config", written("- a\n- b\n")}, "--config"},
		{[]string{"serve", "--config", written("data-dir: [a, b]\n")}, "setting data-dir"},
		{[]string{"serve", "--config", written("metrics-listen: {a: b}\n")}, "setting metrics-listen"},
		{[]string{"serve", "--nats-creds", written("nonsense")}, "--nats-creds"},
		{[]string{"serve", "--nats-tls-ca", written("nonsense")}, "--nats-tls-ca"},
		{[]string{"serve", "--nats-tls-cert", config, "--nats-tls-key", config}, "--nats-tls-cert"},
		{[]string{"serve", "--redis-tls-key", config}, "--redis-tls-cert and --redis-tls-key go together"},
		{[]string{"provision", "--replicas", "0"}, "--replicas"},
		{[]string{"serve", "--no-such-flag"}, "unknown flag"},
		{[]string{"serve", "--roles", "page"}, "--roles"},
		{[]string{"serve", "--allow-policies", "["}, "--allow-policies"},
		{[]string{"serve", "--metrics-listen", "nowhere"}, "nowhere"},
		{[]string{"serve", "--log-format", "xml"}, "--log-format"},
		{[]string{"serve", "--config", config}, "metrics-listn"},
		{[]string{"serve", "--redis-url", "redis://:secret@127.0.0.1:1"}, "--redis-url holds a password"},
		{[]string{"get", "policy"}, "accepts 2 arg(s)"},
		{[]string{"get", "policy", "a.b"}, "ids"},
		{[]string{"get", "policy", "device", "--validity", "0"}, "--validity"},
		{[]string{"list"}, "list what"},
		{[]string{"list", "a", "b"}, "accepts at most 1 arg(s)"},
		{[]string{"list", "a.b"}, "id"},
		{[]string{"list", "--device", "a.b"}, "--device"},
		{[]string{"list", "p", "--status", "Compliant"}, "--status"},
		{[]string{"list", "--worst", "bad"}, "--worst"},
		{[]string{"list", "p", "--devices"}, "--devices"},
		{[]string{"list", "--device", "d", "--devices"}, "--devices"},
		{[]string{"list", "p", "--limit", "-1"}, "--limit"},
		{[]string{"list", "p", "--since", "yesterday"}, "--since"},
		{[]string{"list", "p", "--until", "2026-02-30"}, "--until"},
		{[]string{"list", "p", "--since", "2026-02-01", "--until", "2026-01-31"}, "--since lies after --until"},
		{[]string{"list", "p", "--validity", "121"}, "--validity"},
		{[]string{"list", "p", "-o", "xml"}, "-o"},
		{[]string{"export", "p"}, "export takes no arguments; see"},
		{[]string{"remove", "--yes"}, "remove what"},
		{[]string{"remove", "--yes", "--policy", "p", "--device", "d"}, "either"},
		{[]string{"remove", "--yes", "--policy", "a.b"}, "ids"},
		{[]string{"remove", "--policy", "p"}, "--yes"},
		{[]string{"replay"}, "replay what"},
		{[]string{"replay", "--stream", "--dead"}, "replay what"},
		{[]string{"replay", "--file", "x", "--since", "2026-01-31"}, "--since"},
		{[]string{"replay", "--file", "/no/such/file"}, "--file"},
		{[]string{"replay", "--dead", "--from-seq", "1"}, "--from-seq"},
		{[]string{"replay", "--stream", "--rate", "-1"}, "--rate"},
		{[]string{"replay", "--stream", "--result-timeout", "-1s"}, "--result-timeout"},
		{[]string{"replay", "--stream", "--dry-run", "--wait"}, "--dry-run"},
		{[]string{"replay", "--stream", "--each"}, "--each"},
		{[]string{"replay", "--stream", "--seed", "2"}, "--seed"},
		{[]string{"replay", "--stream", "--code", "bad"}, "--code"},
		{[]string{"replay", "--stream", "--policy", "a.b"}, "--policy"},
		{[]string{"replay", "--stream", "--device", "a.b"}, "--device"},
		{[]string{"replay", "--stream", "--allow-policies", "["}, "--allow-policies"},
		{[]string{"replay", "--stream", "--resume", config}, "no resume file"},
		{[]string{"replay", "--stream", "--to-nats-url", "nats://secret@127.0.0.1"}, "--to-nats-url holds a password"},
		{[]string{"replay", "--stream", "--to-redis-url", "http://127.0.0.1:1"}, "--to-redis-url"},
		{[]string{"replay", "--stream", "--to-nats-creds", "/no/such/file"}, "--to-nats-creds"},
		{[]string{"capture", "--since", "2026-02-01", "--until", "2026-01-31"}, "--since lies after --until"},
		{[]string{"capture", "--since", "yesterday"}, "--since"},
		{[]string{"export", "--versions", "--cursor", "x"}, "--cursor"},
		{[]string{"provision", "--partitions", "3", "--buckets", "16"}, "--partitions"},
		{[]string{"simulate", "--bad", "2"}, "share"},
		{[]string{"demo", "--nats-url", "nats://127.0.0.1:1"}, "demo runs its own servers"},
		{[]string{"nosuch"}, `unknown command "nosuch"`},
		{[]string{"serve", "--redis-url", "http://127.0.0.1:1"}, "--redis-url"},
		{[]string{"get", "p", "d", "--redis-url", "http://127.0.0.1:1"}, "--redis-url"},
		{[]string{"serve", "--nats-url", "nats://h:port"}, "--nats-url"},
		{[]string{"serve", "--nats-url", "admin:secret@127.0.0.1:1"}, "--nats-url holds a password"},
		{[]string{"serve", "--nats-url", "secret@127.0.0.1"}, "--nats-url holds a password"},
		{[]string{"serve", "--nats-creds", "/no/such/file"}, "--nats-creds"},
		{[]string{"serve", "--nats-tls-ca", "/no/such/file"}, "--nats-tls-ca"},
		{[]string{"serve", "--nats-tls-cert", config}, "--nats-tls-key"},
		{[]string{"serve", "--redis-password-file", "/no/such/file"}, "--redis-password-file"},
		{[]string{"serve", "--redis-tls-ca", config}, "--redis-tls"},
		{[]string{"provision", "--redis-url", "x", "--nats-url", "nats://127.0.0.1:1"}, "--redis-url"},
		{[]string{"provision", "--max-age", "-1s"}, "--max-age"},
		{[]string{"provision", "--gaps", "--accept-gap"}, "give one"},
		{[]string{"provision", "--replicas", "6"}, "--replicas"},
		{[]string{"publish", "p", "d", "--status", "error", "--event-id", " x"}, "--event-id"},
		{[]string{"publish", "p", "d", "--status", "error", "--event-id", "x\ny"}, "--event-id"},
		{[]string{"publish", "p", "d", "--status", "error", "--timeout", "-1s"}, "--timeout"},
		{[]string{"publish", "p", "d", "--status", "error", "--timeout", "0"}, "--timeout"},
		{[]string{"publish", "p", "d", "--status", "error", "--event-time", "now"}, "--event-time"},
	} {
		_, stderr, status := command(t, "", c.args...)
		if status != 2 || !strings.Contains(stderr, c.say) || strings.Count(stderr, "\n") != 1 || strings.Contains(stderr, "secret") {
			t.Errorf("%v: status %d, %q", c.args, status, stderr)
		}
	}
}

func TestNoAddressInALogHoldsAPassword(t *testing.T) {
	for _, address := range []string{
		"admin:secret@127.0.0.1:1", "nats://admin:secret@127.0.0.1:1", "tls://secret@127.0.0.1:1", "127.0.0.1:1, admin:secret@[::1]:1",
	} {
		log, err := os.Create(t.TempDir() + "/log")
		if err != nil {
			t.Fatal(err)
		}
		defer log.Close()
		cmd := exec.Command(binary, "serve", "--data-dir", t.TempDir(), "--metrics-listen", freeAddress(t), "--redis-url", "redis://127.0.0.1:1")
		cmd.Env, cmd.Stderr = append(os.Environ(), "COMPLIANCED_NATS_URL="+address), log
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		s := &serving{T: t, cmd: cmd}
		t.Cleanup(s.stop)
		var text []byte
		eventually(t, "a log line with the address", func() bool {
			text, err = os.ReadFile(log.Name())
			return err == nil && strings.Contains(string(text), "nats cannot be reached")
		})
		if strings.Contains(string(text), "secret") {
			t.Errorf("%s: %s", address, text)
		}
		s.stop()
	}
}

func TestSettingsOfAFileMayBeListsAndMaps(t *testing.T) {
	config := t.TempDir() + "/config.yaml"
	if err := os.WriteFile(config, []byte("policy-names:\n  p1: First\n  p2: Second\nroles: [ingest, state]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := serve(t, "--config", config)
	eventually(t, "the names", func() bool {
		_, body := s.get("/metrics")
		return strings.Contains(body, `compliance_policy_info{name="First",policy="p1"} 1`) &&
			strings.Contains(body, `compliance_policy_info{name="Second",policy="p2"} 1`)
	})
}

func TestDemoLeavesAloneWhatLiesBesideIt(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{dir + "/precious", dir + "/nats/precious"} {
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(binary, "demo", "--data-dir", dir, "--metrics-listen", freeAddress(t), "--nats-listen", freeAddress(t))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &serving{T: t, cmd: cmd}
	t.Cleanup(s.stop)
	eventually(t, "the demo's folder", func() bool { _, err := os.Stat(dir + "/demo/serve.json"); return err == nil })
	s.stop()
	for _, path := range []string{dir + "/precious", dir + "/nats/precious"} {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
}

func TestTheLogSaysWhyTheStateCannotBeRead(t *testing.T) {
	s := serve(t)
	raw := s.redis()
	if err := raw.Set(t.Context(), "cs:{00}:|gaps", "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, body := s.get("/metrics"); !strings.Contains(body, "compliance_state_up 0") {
			t.Error("the state is up")
		}
	}
	if err := raw.Del(t.Context(), "cs:{00}:|gaps").Err(); err != nil {
		t.Fatal(err)
	}
	if _, body := s.get("/metrics"); !strings.Contains(body, "compliance_state_up 1") {
		t.Error("the state is not up again")
	}
	log, err := os.ReadFile(s.log.Name())
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"the state cannot be read", "the state can be read again"} {
		if n := strings.Count(string(log), line); n != 1 {
			t.Errorf("%d lines say that %s", n, line)
		}
	}
}

func TestAClientWithoutServersSaysWhatToDo(t *testing.T) {
	for _, args := range [][]string{{"summary"}, {"publish", "p", "d", "--status", "compliant"}} {
		_, stderr, status := command(t, "", args...)
		if status != 1 || !strings.Contains(stderr, "--nats-url") {
			t.Errorf("%v: status %d, %q", args, status, stderr)
		}
	}
}

func TestServeWaitsForServersThatAreDown(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		say  string
	}{
		"nats": {
			[]string{"--nats-url", "nats://" + freeAddress(t), "--redis-url", "redis://" + freeAddress(t)},
			"nats://127.0.0.1:",
		},
		"redis": {
			[]string{"--nats-listen", freeAddress(t), "--redis-url", "redis://" + freeAddress(t)},
			"check redis at 127.0.0.1:",
		},
	} {
		t.Run(name, func(t *testing.T) { waits(t, c.say, c.args...) })
	}
}

func waits(t *testing.T, say string, args ...string) {
	t.Helper()
	dir, metrics := t.TempDir(), freeAddress(t)
	log, err := os.Create(dir + "/log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(binary, append([]string{"serve", "--data-dir", dir + "/data", "--metrics-listen", metrics}, args...)...)
	cmd.Env = append(os.Environ(), "COMPLIANCED_REDIS_PASSWORD=hush")
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &serving{T: t, cmd: cmd, Metrics: metrics}
	t.Cleanup(s.stop)
	eventually(t, "a log line with the address", func() bool {
		text, err := os.ReadFile(log.Name())
		return err == nil && strings.Contains(string(text), say) && strings.Contains(string(text), "trying again")
	})
	if code, body := s.get("/readyz"); code != http.StatusServiceUnavailable {
		t.Errorf("/readyz: %d %s", code, body)
	}
	if code, _ := s.get("/livez"); code != http.StatusOK {
		t.Errorf("/livez: %d", code)
	}
	text, err := os.ReadFile(log.Name())
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "time=") || strings.Contains(line, "hush") {
			t.Errorf("not a line of the log, or one with a password: %s", line)
		}
	}
}

func TestASecondServeOnOneFolderIsRefused(t *testing.T) {
	s := serve(t)
	_, stderr, status := command(t, "", "serve", "--data-dir", s.dir, "--metrics-listen", freeAddress(t))
	if status != 1 || !strings.Contains(stderr, "another complianced runs") {
		t.Errorf("status %d: %s", status, stderr)
	}
}

func TestDemoServesCountsWithinTenSeconds(t *testing.T) {
	s := demo(t)
	leftover := filepath.Join(s.dir, "nats", "leftover")
	if err := os.MkdirAll(leftover, 0o700); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	s.start()
	counted := regexp.MustCompile(`(?m)^compliance_policy_devices\{.*\} [1-9]`)
	eventually(t, "counts", func() bool { return counted.MatchString(s.devices()) })
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("the counts took %s", took)
	}
	if _, err := os.Stat(leftover); !os.IsNotExist(err) {
		t.Errorf("the folder did not start empty: %v", err)
	}
	s.stop()
	out, err := os.ReadFile(s.log.Name())
	if want := fmt.Sprintf("http://%s/metrics", s.Metrics); err != nil || !strings.Contains(string(out), want) {
		t.Errorf("%v: demo does not say where to look: %s", err, out)
	}
}
