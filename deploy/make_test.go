package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestTheImageExposesWhatComposePublishes(t *testing.T) {
	text, err := os.ReadFile("Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	var published []string
	for _, port := range readCompose(t).Services["complianced"].Ports {
		published = append(published, port[strings.LastIndexByte(port, ':')+1:])
	}
	line := regexp.MustCompile(`(?m)^EXPOSE (.*)$`).FindStringSubmatch(string(text))
	if line == nil || !slices.Equal(strings.Fields(line[1]), published) {
		t.Errorf("the image has %q, compose publishes %q", line, published)
	}
}

func TestWhatTheTestsNeedIsAskedFor(t *testing.T) {
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir() // No apt-get is in it: nothing is installed.
	program := func(name string) {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	deps := func(env ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), bash, "../scripts/deps.sh")
		cmd.Env = append(env, "PATH="+bin)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	program("valkey-server")
	if out, err := deps(); err == nil || !strings.Contains(out, "redis-server") {
		t.Errorf("with valkey-server alone: %v %s", err, out)
	}
	program("redis-server")
	if out, err := deps(); err == nil || !strings.Contains(out, "curl") {
		t.Errorf("without curl: %v %s", err, out)
	}
	program("curl")
	if out, err := deps(); err != nil || !strings.Contains(out, "Node.js") {
		t.Errorf("with redis-server and no Node.js: %v %s", err, out)
	}
	if out, err := deps("CI=true"); err == nil || !strings.Contains(out, "Node.js") {
		t.Errorf("where nothing may be left out, with redis-server and no Node.js: %v %s", err, out)
	}
	program("node")
	program("npm")
	if out, err := deps("CI=true"); err != nil || out != "" {
		t.Errorf("with all: %v %s", err, out)
	}
}

func TestMakeTestTriesAllTriplesBesideTheRaceDetector(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "make", "-n", "-C", "..", "test", "RACE=-race")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if !regexp.MustCompile(`(?m)^\S*go test .*-run TestAllTriples \./compliance$`).Match(out) || !strings.Contains(string(out), "-race") {
		t.Errorf("make test runs\n%s", out)
	}
	if strings.Contains(regexp.MustCompile(`.*TestAllTriples.*`).FindString(string(out)), "-race") {
		t.Error("the triples are tried with the race detector only")
	}
}
