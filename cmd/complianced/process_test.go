package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	complianced "github.com/complianced/complianced/cmd/complianced"
)

var full = flag.Bool("full", false, "the full form: a policy of 200,000 records is removed, grace periods end over a minute")

// binary is complianced, built once for all tests.
var binary string

// limit is how long anything may take. It is no promise: it ends a test that would
// never end.
func limit() time.Duration {
	if *full {
		return 20 * time.Minute
	}
	return time.Minute
}

func TestMain(m *testing.M) {
	code, err := build(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func build(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "complianced")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// What the command line reaches is in the test's own binary, too: without it, go
	// test takes a result from its cache although the program has changed.
	_ = complianced.Root()
	// Many serves run at once, each with a port of its own for the API.
	if err := os.Setenv("COMPLIANCED_HTTP_LISTEN", "127.0.0.1:0"); err != nil {
		return 1, err
	}
	binary = filepath.Join(dir, "complianced")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		return 1, fmt.Errorf("%w: %s", err, out)
	}
	return m.Run(), nil
}

// command runs complianced to its end.
func command(t *testing.T, stdin string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	var out, errs bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), limit())
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+t.TempDir())
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// serving is a complianced serve on embedded servers.
type serving struct {
	*testing.T
	dir  string
	args []string
	cmd  *exec.Cmd
	log  *os.File
	// What follows is from serve.json.
	NATS    string `json:"nats"`
	Redis   string `json:"redis"`
	Metrics string `json:"metrics"`
	HTTP    string `json:"http"`
	Token   string `json:"token"`
}

func serve(t *testing.T, args ...string) *serving {
	t.Helper()
	s := prepare(t, args...)
	s.start()
	return s
}

// prepare makes a serve that is not started yet.
func prepare(t *testing.T, args ...string) *serving {
	t.Helper()
	dir := t.TempDir()
	log, err := os.Create(filepath.Join(t.TempDir(), "serve.log"))
	if err != nil {
		t.Fatal(err)
	}
	s := &serving{T: t, dir: dir, log: log, args: append([]string{
		"serve", "--data-dir", dir,
		"--nats-listen", freeAddress(t), "--metrics-listen", freeAddress(t),
	}, args...)}
	t.Cleanup(func() {
		s.stop()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("log of serve:\n%s", text)
		}
		_ = log.Close()
	})
	return s
}

func (s *serving) start() {
	s.Helper()
	s.launch()
	s.answers("/readyz", http.StatusOK)
}

// launch starts the process, which need not become ready.
func (s *serving) launch() {
	s.Helper()
	_ = os.Remove(filepath.Join(s.dir, "serve.json"))
	s.cmd = exec.Command(binary, s.args...)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		s.Fatal(err)
	}
	eventually(s.T, "serve.json", func() bool {
		text, err := os.ReadFile(filepath.Join(s.dir, "serve.json"))
		return err == nil && json.Unmarshal(text, s) == nil
	})
}

// answers waits until the path is answered with the status.
func (s *serving) answers(path string, want int) {
	s.Helper()
	eventually(s.T, fmt.Sprintf("%s %d", path, want), func() bool { have, _ := s.get(path); return have == want })
}

// kill ends the process as a power cut does.
func (s *serving) kill() {
	s.Helper()
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

// stop asks the process to end, which it must do in good order.
func (s *serving) stop() {
	s.Helper()
	if s.cmd == nil || s.cmd.ProcessState != nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	if err := s.end(); err != nil {
		s.Errorf("serve ended with %v", err)
	}
}

// end waits for the end of the process.
func (s *serving) end() error {
	s.Helper()
	limit := time.AfterFunc(time.Minute, func() { _ = s.cmd.Process.Kill() })
	defer limit.Stop()
	return s.cmd.Wait()
}

func (s *serving) get(path string) (int, string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.Metrics+path, nil)
	if err != nil {
		s.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, ""
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, ""
	}
	return response.StatusCode, string(body)
}

// settled waits until no report waits.
func (s *serving) settled() {
	s.Helper()
	eventually(s.T, "no lag", func() bool {
		_, body := s.get("/metrics")
		return strings.Contains(body, "compliance_stream_lag_messages{partition=\"0\"} 0\n")
	})
}

// devices returns the series of compliance_policy_devices.
func (s *serving) devices() string {
	s.Helper()
	_, body := s.get("/metrics")
	var lines []string
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "compliance_policy_devices{") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// client connects a plain NATS client, as an agent in any language has it.
func (s *serving) client() (*nats.Conn, jetstream.JetStream) {
	s.Helper()
	nc, err := nats.Connect(s.NATS, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		s.Fatal(err)
	}
	return nc, js
}

// stored returns how many reports the stream has taken.
func (s *serving) stored() uint64 {
	s.Helper()
	_, js := s.client()
	stream, err := js.Stream(s.Context(), "COMPLIANCE_STATUS")
	if err != nil {
		s.Fatal(err)
	}
	return stream.CachedInfo().State.LastSeq
}

// run runs a client command against this serve; it must succeed.
func (s *serving) run(stdin string, args ...string) string {
	s.Helper()
	out, errs, status := command(s.T, stdin, append([]string{"--data-dir", s.dir}, args...)...)
	if status != 0 {
		s.Fatalf("complianced %v: status %d: %s", args, status, errs)
	}
	return out
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit())
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never came: %s", what)
		}
		<-tick.C
	}
}
