package examples_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/ingest"
	"github.com/complianced/complianced/internal/embedded"
)

// deployment is a nats-server without the streams of reports.
type deployment struct {
	url string
	nc  *nats.Conn
	js  jetstream.JetStream
}

func deploy(t *testing.T) *deployment {
	t.Helper()
	server, err := embedded.StartNATS(t.Context(), embedded.NATSOptions{StoreDir: t.TempDir(), Port: embedded.FreePort})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	d := &deployment{url: server.URL()}
	if d.nc, err = nats.Connect(d.url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.nc.Close)
	if d.js, err = jetstream.New(d.nc); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *deployment) provision(t *testing.T) {
	t.Helper()
	if err := ingest.Provision(t.Context(), d.js, ingest.Provisioning{
		Layout: compliance.Layout{Partitions: 1, Buckets: 16},
	}); err != nil {
		t.Fatal(err)
	}
}

// report waits for a report in the stream and decodes it as a worker does.
func (d *deployment) report(t *testing.T, sequence uint64) (compliance.Report, *jetstream.RawStreamMsg) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stream, err := d.js.Stream(ctx, "COMPLIANCE_STATUS")
	if err != nil {
		t.Fatal(err)
	}
	msg, err := stream.GetMsg(ctx, sequence)
	for errors.Is(err, jetstream.ErrMsgNotFound) {
		msg, err = stream.GetMsg(ctx, sequence)
	}
	if err != nil {
		t.Fatal(err)
	}
	report, rejection := compliance.Decode(&compliance.Envelope{
		Subject: msg.Subject, Header: msg.Header, Body: msg.Data, Sequence: msg.Sequence, Stored: msg.Time,
	})
	if rejection != nil {
		t.Fatalf("the report is rejected: %+v", rejection)
	}
	return report, msg
}

// command is a program whose output is in the test's log where it fails.
func command(t *testing.T, dir, name string, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	var output bytes.Buffer
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &output, &output
	return cmd, &output
}

// goAgent builds the agent in Go.
func goAgent(t *testing.T) (program string) {
	t.Helper()
	program = filepath.Join(t.TempDir(), "agent")
	build, output := command(t, "", "go", "build", "-o", program, "./agent")
	if err := build.Run(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return program
}

func TestTheAgentInGoOutlivesKill(t *testing.T) {
	program := goAgent(t)
	d := deploy(t)
	dir := t.TempDir()
	run := func() *exec.Cmd {
		cmd, output := command(t, dir, program, d.url, "laptop-7")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			if t.Failed() {
				t.Log(output)
			}
		})
		return cmd
	}
	// Without a stream nothing is accepted.
	tried, err := d.nc.SubscribeSync("compliance.status.>")
	if err != nil {
		t.Fatal(err)
	}
	cmd := run()
	first, err := tried.NextMsg(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Kill()
	d.provision(t)
	run()
	report, msg := d.report(t, 1)
	if got := msg.Header.Get("ce-id"); got != first.Header.Get("ce-id") || got == "" {
		t.Errorf("the report was tried with the id %s and accepted with %s", first.Header.Get("ce-id"), got)
	}
	if want := (compliance.Key{Policy: "disk-encryption", Device: "laptop-7"}); report.Key != want {
		t.Errorf("key %+v", report.Key)
	}
	if got := report.Values[compliance.Platform].Text; got != "8" {
		t.Errorf("platform %q", got)
	}
	d.report(t, 2) // What it reports each time that it starts.
}

func TestTheAgentOfTheReadmeIsTheOneThatRuns(t *testing.T) {
	code, err := os.ReadFile(filepath.Join("agent", "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, main, _ := strings.Cut(string(code), "\nfunc main() {\n")
	main, _, _ = strings.Cut(main, "\n}\n")
	lines := strings.Split("func main() {\n"+main+"\n}", "\n")
	if len(lines) > 14 {
		t.Errorf("the agent has %d lines, too many to be read at a glance", len(lines))
	}
	block := "\n    " + strings.Join(lines, "\n    ") + "\n"
	if !strings.Contains(string(readme), block) {
		t.Errorf("README.md does not show this:\n%s", block)
	}
}

// nodeAgent returns a folder with the agent in Node.js and what it needs from the npm registry.
func nodeAgent(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"agent.mjs", "package.json", "package-lock.json"} {
		content, err := os.ReadFile(filepath.Join("node", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// A user who has no Node.js, or no network, can do nothing about it; CI must have both.
	unavailable := t.Skipf
	if os.Getenv("CI") == "true" {
		unavailable = t.Fatalf
	}
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			unavailable("The agent in Node.js was not run: there is no %s in PATH. Install Node.js 18 or newer, with npm, "+
				"or run make deps; with CI=true this is a failure.", program)
		}
	}
	install, output := command(t, dir, "npm", "ci", "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund")
	if err := install.Run(); err != nil {
		unavailable("The agent in Node.js was not run: npm ci could not install its two packages (%v); with CI=true this "+
			"is a failure.\n%s", err, output)
	}
	return dir
}

func TestTheAgentInNodePublishesWhatIsDecodedRight(t *testing.T) {
	dir := nodeAgent(t)
	d := deploy(t)
	tried, err := d.nc.SubscribeSync("compliance.status.>")
	if err != nil {
		t.Fatal(err)
	}
	from := time.Now()
	cmd, output := command(t, dir, "node", "agent.mjs", d.url, "disk-encryption", "laptop-7",
		`{"status":"nonCompliant","platform":8,"deviceDisplayName":"Zoë's laptop 💻","userName":null}`)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	first, err := tried.NextMsg(time.Minute) // There is no stream yet.
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	d.provision(t)
	if err := cmd.Wait(); err != nil || !strings.Contains(output.String(), "accepted: COMPLIANCE_STATUS 1\n") {
		t.Fatalf("%v\n%s", err, output)
	}
	report, msg := d.report(t, 1)
	if id := msg.Header.Get("ce-id"); uuid.Validate(id) != nil || id != first.Header.Get("ce-id") || report.EventID != id {
		t.Errorf("the report was tried with the id %s, accepted with %s, and decoded to %s", first.Header.Get("ce-id"), id, report.EventID)
	}
	if msg.Header.Get("ce-time") != first.Header.Get("ce-time") {
		t.Errorf("the report was tried with the time %s and accepted with %s", first.Header.Get("ce-time"), msg.Header.Get("ce-time"))
	}
	if at := report.Version.Time.Time(); at.Before(from.Truncate(time.Millisecond)) || at.After(time.Now()) {
		t.Errorf("event time %v", at)
	}
	if want := (compliance.Key{Policy: "disk-encryption", Device: "laptop-7"}); report.Key != want {
		t.Errorf("key %+v", report.Key)
	}
	for property, want := range map[compliance.Property]compliance.Value{
		compliance.StatusProperty:    compliance.TextValue("4"),
		compliance.Platform:          compliance.TextValue("8"),
		compliance.DeviceDisplayName: compliance.TextValue("Zoë's laptop 💻"),
		compliance.UserName:          {Kind: compliance.Null},
		compliance.DeviceModel:       {},
	} {
		if got := report.Values[property]; got != want {
			t.Errorf("property %v: %+v, want %+v", property, got, want)
		}
	}
}

func TestTheAgentInNodeSaysHowItIsCalled(t *testing.T) {
	dir := nodeAgent(t)
	for name, args := range map[string][]string{
		"no arguments":         nil,
		"a policy of two":      {"nats://localhost:1", "disk.encryption", "laptop-7", "{}"},
		"a device with a star": {"nats://localhost:1", "disk-encryption", "*", "{}"},
		"a long device":        {"nats://localhost:1", "disk-encryption", strings.Repeat("a", 129), "{}"},
		"a device and a line":  {"nats://localhost:1", "disk-encryption", "a\n", "{}"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		cmd := exec.CommandContext(ctx, "node", append([]string{"agent.mjs"}, args...)...) //nolint:gosec // The agent of this test.
		cmd.Dir = dir
		output, err := cmd.CombinedOutput()
		cancel()
		exit, _ := errors.AsType[*exec.ExitError](err)
		if exit == nil || exit.ExitCode() != 2 || !strings.HasPrefix(string(output), "usage: ") {
			t.Errorf("%s: %v\n%s", name, err, output)
		}
	}
}

func TestTheAgentInGoSaysHowItIsCalled(t *testing.T) {
	cmd, output := command(t, t.TempDir(), goAgent(t))
	exit, _ := errors.AsType[*exec.ExitError](cmd.Run())
	if exit == nil || exit.ExitCode() != 2 || output.String() != "usage: agent URL DEVICE\n" {
		t.Errorf("%v\n%s", exit, output)
	}
}

func TestTheAgentInNodeSaysWhoMakesTheStream(t *testing.T) {
	dir := nodeAgent(t)
	d := deploy(t)
	cmd := exec.CommandContext(t.Context(), "node", "agent.mjs", d.url, "disk-encryption", "laptop-7", "{}") //nolint:gosec // The agent of this test.
	cmd.Dir = dir
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stderr).ReadString('\n')
	if want := "not accepted yet: no stream takes the subject; run complianced provision\n"; line != want {
		t.Errorf("it says %q, %v, want %q", line, err, want)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}
