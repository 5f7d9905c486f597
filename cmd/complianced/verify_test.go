package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/ingest"
	"github.com/complianced/complianced/store"
)

// raw connects a client that looks at the state from outside.
func (s *serving) raw() *redis.Client {
	s.Helper()
	options, err := redis.ParseURL(s.Redis)
	if err != nil {
		s.Fatal(err)
	}
	client := redis.NewClient(options)
	s.Cleanup(func() { _ = client.Close() })
	return client
}

// verify runs the command, and returns what it found as "kind policy status or day".
func (s *serving) verify(want int, args ...string) (found []string, stderr string) {
	s.Helper()
	out, stderr, status := command(s.T, "", append([]string{"verify", "--data-dir", s.dir, "-o", "json"}, args...)...)
	if status != want {
		s.Fatalf("verify %v: status %d: %s%s", args, status, stderr, out)
	}
	var result struct {
		Differences []store.Difference `json:"differences"`
	}
	if err := json.Unmarshal([]byte(out), &result); err != nil {
		s.Fatalf("%v: %s", err, out)
	}
	for _, d := range result.Differences {
		found = append(found, strings.Join(strings.Fields(strings.Join([]string{string(d.Kind), d.Policy, d.Device, d.Status, d.Day}, " ")), " "))
	}
	return found, stderr
}

func TestVerifyNamesWhatIsWrongAndRepairsIt(t *testing.T) {
	s := serve(t)
	_, js := s.client()
	for _, subject := range []string{"p.secret1", "q.secret1", "p.secret2"} {
		if _, err := js.Publish(t.Context(), "compliance.status."+subject, []byte(`{"status":"error"}`)); err != nil {
			t.Fatal(err)
		}
	}
	s.settled()
	raw := s.raw()
	if found, _ := s.verify(0); found != nil {
		t.Fatal(found)
	}
	if have := raw.HMGet(t.Context(), "cs:|meta", "drift").Val(); have[0] != "0" {
		t.Errorf("the drift is %v", have)
	}
	tag := "cs:{" + s.bucketOf(raw, "p", "secret1") + "}:"

	if err := raw.HSet(t.Context(), tag+"|counts", "p|error", "9").Err(); err != nil {
		t.Fatal(err)
	}
	out, errs, status := command(t, "", "verify", "--data-dir", s.dir)
	if status != 1 || !strings.Contains(out, "count") || !strings.Contains(out, "1 differences") || strings.Count(errs, "\n") != 1 {
		t.Errorf("status %d: %s%s", status, errs, out)
	}
	for range 2 { // A check alone puts nothing right.
		if found, _ := s.verify(1); cmp.Diff([]string{"count p error"}, found) != "" {
			t.Error(found)
		}
	}
	if have := raw.HMGet(t.Context(), "cs:|meta", "drift").Val(); have[0] != "1" {
		t.Errorf("the drift is %v", have)
	}
	if found, _ := s.verify(1, "--repair"); len(found) != 1 {
		t.Error(found)
	}
	if found, _ := s.verify(0); found != nil {
		t.Error(found)
	}

	// The running serve fills in what is missing.
	if err := raw.Del(t.Context(), tag+"q:secret1").Err(); err != nil {
		t.Fatal(err)
	}
	found, errs := s.verify(1, "--repair")
	if !strings.Contains(strings.Join(found, "\n"), "missing record q secret1") || strings.Contains(errs, "secret") {
		t.Errorf("%q: %s", found, errs)
	}
	eventually(t, "the record comes back", func() bool { return raw.Exists(t.Context(), tag+"q:secret1").Val() == 1 })
	s.settled()
	if found, _ := s.verify(0); found != nil {
		t.Error(found)
	}
	if have := s.devices(); !strings.Contains(have, `{policy="q",status="error"} 1`) {
		t.Error(have)
	}
}

// bucketOf returns the bucket in which a record lies.
func (s *serving) bucketOf(raw *redis.Client, policy, device string) string {
	s.Helper()
	keys, _ := raw.Scan(s.Context(), 0, "cs:{*}:"+policy+":"+device, 100_000).Val()
	if len(keys) != 1 {
		s.Fatal(keys)
	}
	return keys[0][len("cs:{") : len("cs:{")+2]
}

func TestVerifyFindsNothingWhileAFleetReports(t *testing.T) {
	s := serve(t)
	done := make(chan string, 1)
	go func() {
		_, errs, _ := command(t, "", "simulate", "--data-dir", s.dir, "--devices", "2000", "--policies", "4",
			"--rate", "0", "--duration", "15s", "--removed", "0.1", "--late", "0.1")
		done <- errs
	}()
	runs := 0
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); runs++ {
		select {
		case errs := <-done:
			if errs != "" || runs < 3 {
				t.Errorf("%d runs beside simulate: %s", runs, errs)
			}
			return
		default:
		}
		args := []string{}
		if runs%2 == 1 {
			args = append(args, "--repair")
		}
		if found, _ := s.verify(0, args...); found != nil {
			t.Error(found)
		}
	}
	t.Error("simulate does not end")
}

func TestVerifyWithoutServersOrWithWrongFlags(t *testing.T) {
	for _, c := range []struct {
		args   []string
		status int
		say    string
	}{
		{[]string{"--nats-url", "nats://127.0.0.1:1"}, 2, "set --redis-url"},
		{[]string{"--redis-url", "redis://127.0.0.1:1"}, 2, "set --nats-url"},
		{[]string{"--nats-url", "nats://127.0.0.1:1", "--redis-url", "redis://127.0.0.1:1"}, 1, "127.0.0.1:1"},
		{[]string{"-o", "xml"}, 2, "table or json"},
		{[]string{"p"}, 2, "verify --help"},
	} {
		_, stderr, status := command(t, "", append([]string{"verify", "--data-dir", t.TempDir()}, c.args...)...)
		if status != c.status || !strings.Contains(stderr, c.say) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%v: status %d: %s", c.args, status, stderr)
		}
	}
}

func TestVerifyRebuildFindsWhatNoRecountCanFind(t *testing.T) {
	s := serve(t)
	_, js := s.client()
	for _, subject := range []string{"p.secret1", "q.secret1", "p.secret2"} {
		body := []byte(`{"status":"error","lastReportedDateTime":"2026-01-01T00:00:00Z"}`)
		if _, err := js.Publish(t.Context(), "compliance.status."+subject, body); err != nil {
			t.Fatal(err)
		}
	}
	s.settled()
	if found, _ := s.verify(0, "--rebuild"); found != nil {
		t.Fatal(found)
	}
	raw := s.raw()
	tag := "cs:{" + s.bucketOf(raw, "p", "secret2") + "}:"
	if err := raw.HSet(t.Context(), tag+"p:secret2", "r", "2026-01-02T00:00:00Z").Err(); err != nil {
		t.Fatal(err)
	}
	if found, _ := s.verify(0); found != nil {
		t.Error(found)
	}
	out, errs, status := command(t, "", "verify", "--data-dir", s.dir, "--rebuild")
	if status != 1 || !strings.Contains(out, "secret2") || !strings.Contains(out, `"lastReportedDateTime":"2026-01-01T00:00:00Z"`) || strings.Contains(out, "secret1") ||
		!strings.Contains(out, "3 records compared") || strings.Contains(errs, "secret") {
		t.Errorf("status %d: %s%s", status, errs, out)
	}
	if found, _ := s.verify(0); found != nil {
		t.Error(found)
	}
	if _, metrics := s.get("/metrics"); !strings.Contains(metrics, "\ncompliance_state_drift 1\n") ||
		!strings.Contains(metrics, "\ncompliance_state_verified_timestamp_seconds 1") {
		t.Errorf("after a check that sees less: %s", metrics)
	}
	if err := raw.HSet(t.Context(), "cs:|meta", "drift", "x").Err(); err != nil {
		t.Fatal(err)
	}
	if _, metrics := s.get("/metrics"); !strings.Contains(metrics, "\ncompliance_state_up 1\n") || strings.Contains(metrics, "compliance_state_drift") {
		t.Errorf("with a result that is none: %s", metrics)
	}
}

func TestVerifyRebuildFindsNothingWhileAFleetReports(t *testing.T) {
	s := serve(t)
	done := make(chan string, 1)
	go func() {
		_, errs, _ := command(t, "", "simulate", "--data-dir", s.dir, "--devices", "500", "--policies", "4",
			"--rate", "2000", "--duration", "10s", "--removed", "0.1", "--late", "0.1")
		done <- errs
	}()
	for runs := 0; ; runs++ {
		select {
		case errs := <-done:
			if errs != "" || runs < 2 {
				t.Errorf("%d runs beside simulate: %s", runs, errs)
			}
			return
		default:
		}
		if found, _ := s.verify(0, "--rebuild"); found != nil {
			t.Error(found)
		}
	}
}

func TestVerifyRebuildSaysWhatIsMissing(t *testing.T) {
	s := serve(t)
	t.Setenv("PATH", t.TempDir())
	out, errs, status := command(t, "", "verify", "--data-dir", s.dir, "--rebuild")
	if status != 1 || !strings.Contains(errs, "redis-server") || out != "" {
		t.Errorf("status %d: %s%s", status, errs, out)
	}
}

// TestVerifyTellsWhatItFoundBeforeItFails has a Redis for the rebuild that does not start.
func TestVerifyTellsWhatItFoundBeforeItFails(t *testing.T) {
	s := serve(t)
	_, js := s.client()
	if _, err := js.Publish(t.Context(), "compliance.status.p.secret1", []byte(`{"status":"error"}`)); err != nil {
		t.Fatal(err)
	}
	s.settled()
	raw := s.raw()
	tag := "cs:{" + s.bucketOf(raw, "p", "secret1") + "}:"
	if err := raw.HSet(t.Context(), tag+"|counts", "p|error", "9").Err(); err != nil {
		t.Fatal(err)
	}
	path := t.TempDir()
	if err := os.WriteFile(filepath.Join(path, "redis-server"), []byte("#!/bin/sh\nexit 1\n"), 0o700); err != nil { //nolint:gosec // It is run.
		t.Fatal(err)
	}
	t.Setenv("PATH", path)
	found, errs := s.verify(1, "--rebuild")
	if cmp.Diff([]string{"count p error"}, found) != "" || !strings.Contains(errs, "rebuild") || strings.Count(errs, "\n") != 1 {
		t.Errorf("%q: %s", found, errs)
	}
	out, _, _ := command(t, "", "verify", "--data-dir", s.dir, "--rebuild")
	if !strings.Contains(out, "1 differences, until the check broke off") {
		t.Error(out)
	}
	if have := raw.HMGet(t.Context(), "cs:|meta", "drift", "verified").Val(); have[0] != "1" || have[1] != nil {
		t.Errorf("kept is %v", have)
	}
}

// remake deletes the stream of reports and provisions it again.
func (s *serving) remake(js jetstream.JetStream) {
	s.Helper()
	if err := js.DeleteStream(s.Context(), "COMPLIANCE_STATUS"); err != nil {
		s.Fatal(err)
	}
	if err := ingest.Provision(s.Context(), js, ingest.Provisioning{Layout: compliance.Layout{Partitions: 1, Buckets: 16}}); err != nil {
		s.Fatal(err)
	}
}

func TestVerifyRebuildAfterAStreamIsMadeAnew(t *testing.T) {
	s := serve(t)
	_, js := s.client()
	publish := func(subject, body string) {
		if _, err := js.Publish(t.Context(), "compliance.status."+subject, []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	for _, subject := range []string{"p.old", "p.removed", "p.both"} {
		publish(subject, `{"status":"error","platform":1}`)
	}
	publish("p.removed", `{"@removed":{}}`)
	s.settled()
	s.remake(js)
	publish("p.both", `{"status":"compliant"}`)
	publish("p.new", `{"status":"compliant"}`)
	raw := s.raw()
	eventually(t, "the new stream is merged", func() bool {
		keys, _ := raw.Scan(t.Context(), 0, "cs:{*}:p:new", 100_000).Val()
		return len(keys) == 1
	})
	s.settled()
	if found, _ := s.verify(0, "--rebuild"); found != nil {
		t.Error(found)
	}
	out, _, _ := command(t, "", "verify", "--data-dir", s.dir, "--rebuild")
	if !strings.Contains(out, "1 records compared with the streams; of 3 the streams do not hold every version") {
		t.Error(out)
	}
	tag := "cs:{" + s.bucketOf(raw, "p", "both") + "}:"
	if err := raw.HSet(t.Context(), tag+"p:both", "v", strings.Repeat("0", 15)+"1"+strings.Repeat("0", 15)+"22").Err(); err != nil {
		t.Fatal(err)
	}
	if found, _ := s.verify(1, "--rebuild"); !slices.Contains(found, "record p both") {
		t.Errorf("a record that was set back: %q", found)
	}
}

func TestVerifyRebuildSaysWhyItCannotCompare(t *testing.T) {
	s := serve(t)
	nc, js := s.client()
	if _, err := js.Publish(t.Context(), "compliance.status.p.d", []byte(`{"status":"error"}`)); err != nil {
		t.Fatal(err)
	}
	s.settled()
	// Nobody merges any more.
	s.stop()
	nc.Close()
	s.args = append(s.args, "--roles", "state")
	s.start()
	_, js = s.client()
	raw := s.raw()
	for range 3 {
		if _, err := js.Publish(t.Context(), "compliance.status.p.d", []byte(`{"status":"error"}`)); err != nil {
			t.Fatal(err)
		}
	}
	floor := "cs:{" + s.bucketOf(raw, "p", "d") + "}:|floor"
	line := raw.Get(t.Context(), floor).Val()
	fields := strings.Fields(line)
	for name, change := range map[string]func([]string){
		"of another stream":     func(fields []string) { fields[1] = "1800000000000000000" },
		"beyond the stream":     func(fields []string) { fields[2] = "9" },
		"of a stream elsewhere": func(fields []string) { fields[0] = "OTHER" },
	} {
		other := slices.Clone(fields)
		change(other)
		if err := raw.Set(t.Context(), floor, strings.Join(other, " "), 0).Err(); err != nil {
			t.Fatal(err)
		}
		if _, errs := s.verify(1, "--rebuild"); !strings.Contains(errs, "was not merged from the stream COMPLIANCE_STATUS as it is now") {
			t.Errorf("a floor %s: %s", name, errs)
		}
	}
}

func TestVerifyRebuildLeavesPoliciesOutThatAreNotAllowed(t *testing.T) {
	s := serve(t)
	_, js := s.client()
	for _, report := range [][2]string{{"p.d", `{}`}, {"left.d", `{}`}, {"left.d", `{"@removed":{}}`}} {
		if _, err := js.Publish(t.Context(), "compliance.status."+report[0], []byte(report[1])); err != nil {
			t.Fatal(err)
		}
	}
	s.settled()
	if found, _ := s.verify(0, "--rebuild", "--allow-policies", "p"); found != nil {
		t.Error(found)
	}
	out, _, _ := command(t, "", "verify", "--data-dir", s.dir, "--rebuild", "--allow-policies", "p")
	if !strings.Contains(out, "1 are of policies outside --allow-policies") {
		t.Error(out)
	}
}

func TestVerifyRebuildOfAStreamThatHasLostItsBeginning(t *testing.T) {
	s := serve(t)
	_, js := s.client()
	for _, subject := range []string{"p.old", "p.kept"} {
		if _, err := js.Publish(t.Context(), "compliance.status."+subject, []byte(`{"status":"error"}`)); err != nil {
			t.Fatal(err)
		}
	}
	s.settled()
	stream, err := js.Stream(t.Context(), "COMPLIANCE_STATUS")
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	config.MaxMsgs = 1
	if _, err := js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	out, errs, status := command(t, "", "verify", "--data-dir", s.dir, "--rebuild")
	if status != 0 || !strings.Contains(out, "1 records compared with the streams; of 1 the streams do not hold every version") {
		t.Errorf("status %d: %s%s", status, errs, out)
	}
	raw := s.raw()
	key := "cs:{" + s.bucketOf(raw, "p", "kept") + "}:p:kept"
	const version, digest = "\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x02", "any other digest"
	if err := raw.HSet(t.Context(), key, "v", "5"+version+digest).Err(); err != nil {
		t.Fatal(err)
	}
	if found, _ := s.verify(1, "--rebuild"); !slices.Contains(found, "record p kept") {
		t.Errorf("a record that was set back: %q", found)
	}
}
