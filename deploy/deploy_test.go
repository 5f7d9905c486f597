// Package deploy_test runs what the files of this folder configure, as far as that works without containers.
package deploy_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/redis/go-redis/v9"
	"go.yaml.in/yaml/v3"
)

// compose is as much of docker-compose.yml as the tests look at.
type compose struct {
	Services map[string]service `yaml:"services"`
	Volumes  map[string]any     `yaml:"volumes"`
}

type service struct {
	Image       string         `yaml:"image"`
	Build       *build         `yaml:"build"`
	Command     []string       `yaml:"command"`
	Environment map[string]any `yaml:"environment"`
	Ports       []string       `yaml:"ports"`
	Volumes     []string       `yaml:"volumes"`
	Restart     string         `yaml:"restart"`
	HealthCheck *healthCheck   `yaml:"healthcheck"`
	DependsOn   map[string]struct {
		Condition string `yaml:"condition"`
	} `yaml:"depends_on"`
}

type build struct {
	Context    string `yaml:"context"`
	Dockerfile string `yaml:"dockerfile"`
}

type healthCheck struct {
	Test []string `yaml:"test"`
}

// oneShot are the services that end by themselves.
var oneShot = []string{"provision"}

func readCompose(t *testing.T) compose {
	t.Helper()
	text, err := os.ReadFile("../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	var c compose
	if err := yaml.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"nats", "redis", "provision", "complianced"} {
		if _, found := c.Services[name]; !found {
			t.Fatalf("docker-compose.yml has no service %s", name)
		}
	}
	return c
}

// exact matches an image with a full version: name:1.2.3 and what follows it.
var exact = regexp.MustCompile(`^[a-z0-9./-]+:\d+\.\d+\.\d+(-[a-z0-9.]+)?$`)

func TestComposePinsEveryImage(t *testing.T) {
	for name, s := range readCompose(t).Services {
		if s.Build != nil {
			if _, err := os.Stat(filepath.Join("..", s.Build.Context, s.Build.Dockerfile)); err != nil {
				t.Errorf("service %s is built from a file that is missing: %v", name, err)
			}
			continue
		}
		if !exact.MatchString(s.Image) {
			t.Errorf("service %s has the image %q, want an exact version", name, s.Image)
		}
	}
}

func TestDockerfilePinsEveryImage(t *testing.T) {
	text, err := os.ReadFile("Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	images := regexp.MustCompile(`(?m)^FROM (\S+)`).FindAllStringSubmatch(string(text), -1)
	if len(images) != 2 {
		t.Fatalf("found %d stages, want 2", len(images))
	}
	for _, image := range images {
		if !exact.MatchString(image[1]) {
			t.Errorf("image %q, want an exact version", image[1])
		}
	}
}

func TestComposeChecksEveryServiceThatStays(t *testing.T) {
	for name, s := range readCompose(t).Services {
		if slices.Contains(oneShot, name) {
			continue
		}
		if s.HealthCheck == nil || len(s.HealthCheck.Test) < 2 {
			t.Errorf("service %s has no health check", name)
		}
		if s.Restart != "unless-stopped" {
			t.Errorf("service %s has restart %q", name, s.Restart)
		}
	}
}

func TestComposePublishesOnLoopbackOnly(t *testing.T) {
	for name, s := range readCompose(t).Services {
		for _, port := range s.Ports {
			if !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("service %s publishes %q", name, port)
			}
		}
	}
}

func TestComposeProvisionsBeforeItServes(t *testing.T) {
	c := readCompose(t)
	for _, name := range []string{"nats", "redis"} {
		if got := c.Services["provision"].DependsOn[name].Condition; got != "service_healthy" {
			t.Errorf("provision waits for %s until %q", name, got)
		}
	}
	if got := c.Services["complianced"].DependsOn["provision"].Condition; got != "service_completed_successfully" {
		t.Errorf("complianced waits for provision until %q", got)
	}
	for _, name := range []string{"provision", "complianced"} {
		for variable, want := range map[string]string{
			"COMPLIANCED_NATS_URL": "nats://nats:4222", "COMPLIANCED_REDIS_URL": "redis://redis:6379",
		} {
			if got := c.Services[name].Environment[variable]; got != want {
				t.Errorf("%s: %s is %v, want %s", name, variable, got, want)
			}
		}
	}
}

func TestComposeMountsWhatIsThere(t *testing.T) {
	c := readCompose(t)
	for name, s := range c.Services {
		for _, volume := range s.Volumes {
			source, _, _ := strings.Cut(volume, ":")
			if !strings.HasPrefix(source, ".") {
				if _, found := c.Volumes[source]; !found {
					t.Errorf("service %s mounts volume %q, which is not declared", name, source)
				}
				continue
			}
			if info, err := os.Stat(filepath.Join("..", source)); err != nil || info.IsDir() {
				t.Errorf("service %s mounts %s, which is no file", name, source)
			}
		}
	}
}

func TestNATSConfiguration(t *testing.T) {
	o, err := server.ProcessConfigFile("nats/nats.conf")
	if err != nil {
		t.Fatal(err)
	}
	if !o.JetStream || o.NoJetStreamStrict || o.StoreDir != "/data" || o.SyncInterval != time.Second {
		t.Errorf("JetStream %t, strict %t, store %q, sync %s", o.JetStream, !o.NoJetStreamStrict, o.StoreDir, o.SyncInterval)
	}
	if o.Host != "0.0.0.0" || o.Port != 4222 {
		t.Errorf("clients at %s:%d, want what docker-compose.yml publishes", o.Host, o.Port)
	}

	// The health check of docker-compose.yml, asked of a server with these settings.
	test := readCompose(t).Services["nats"].HealthCheck.Test
	check, err := url.Parse(test[len(test)-1])
	if err != nil {
		t.Fatal(err)
	}
	if want := net.JoinHostPort(o.HTTPHost, "8222"); check.Host != want || o.HTTPPort != 8222 {
		t.Errorf("the health check asks %s, the server answers at %s, port %d", check.Host, want, o.HTTPPort)
	}
	o.StoreDir, o.Host, o.Port, o.HTTPPort, o.NoSigs, o.NoLog = t.TempDir(), "127.0.0.1", -1, -1, true, true
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	defer s.WaitForShutdown()
	defer s.Shutdown()
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server does not start")
	}
	check.Host = s.MonitorAddr().String()
	if got := status(t, check.String()); got != http.StatusOK {
		t.Errorf("the health check gets %d", got)
	}
	if err := s.DisableJetStream(); err != nil {
		t.Fatal(err)
	}
	if got := status(t, check.String()); got == http.StatusOK {
		t.Error("the health check passes without JetStream")
	}
}

func status(t *testing.T, address string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode
}

func TestRedisConfiguration(t *testing.T) {
	c := startRedis(t, "redis/redis.conf")
	for setting, want := range map[string]string{
		"appendonly": "yes", "appendfsync": "everysec", "save": "", "maxmemory-policy": "noeviction",
		"hash-max-listpack-value": "256",
	} {
		got, err := c.ConfigGet(t.Context(), setting).Result()
		if err != nil || got[setting] != want {
			t.Errorf("%s is %q (%v), want %q", setting, got[setting], err, want)
		}
	}

	// The reason for one of them: a name of 200 bytes leaves a record compact.
	if err := c.HSet(t.Context(), "k", "name", strings.Repeat("n", 200)).Err(); err != nil {
		t.Fatal(err)
	}
	if got, err := c.ObjectEncoding(t.Context(), "k").Result(); got != "listpack" || err != nil {
		t.Errorf("a record is a %s (%v), want a listpack", got, err)
	}
}

func TestComposeStartsRedisWithItsConfiguration(t *testing.T) {
	s := readCompose(t).Services["redis"]
	path := s.Command[len(s.Command)-1]
	if want := "./deploy/redis/redis.conf:" + path + ":ro"; !slices.Contains(s.Volumes, want) {
		t.Errorf("redis reads %s, and nothing is mounted there: %q", path, s.Volumes)
	}
}

// startRedis runs a server with a configuration file, but with a socket and a folder of its own.
func startRedis(t *testing.T, file string) *redis.Client {
	t.Helper()
	program, err := exec.LookPath("valkey-server")
	if err != nil {
		program, err = exec.LookPath("redis-server")
	}
	if err != nil {
		t.Fatal("this test needs redis-server or valkey-server in PATH: run `make deps` or `apt-get install redis-server`")
	}
	dir, err := os.MkdirTemp("/tmp", "deploy") //nolint:usetesting // t.TempDir is too long for a socket.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	cmd := exec.CommandContext(t.Context(), program, file, "--port", "0", "--unixsocket", socket, "--dir", dir)
	var output strings.Builder
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() { <-ended }) // The test's context is done by then, which kills it.
	c := redis.NewClient(&redis.Options{Network: "unix", Addr: socket, MaxRetries: -1})
	t.Cleanup(func() { _ = c.Close() })
	waitForRedis(t, c, ended, &output)
	return c
}

func waitForRedis(t *testing.T, c *redis.Client, ended <-chan struct{}, output *strings.Builder) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for c.Ping(ctx).Err() != nil {
		select {
		case <-ended:
			t.Fatalf("the server does not start: %s", output)
		case <-ctx.Done():
			t.Fatal("the server does not answer within 20 s")
		case <-tick.C:
		}
	}
}
