package main_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	complianced "github.com/complianced/complianced/cmd/complianced"
)

// authority returns a file with a CA certificate.
func authority(t *testing.T) string {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}, &x509.Certificate{}, public, private)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestTLSFilesDoNotGoWithPlainText(t *testing.T) {
	ca := authority(t)
	for urls, want := range map[string]int{
		"redis://127.0.0.1:1":                       2,
		"unix:///no/such/socket":                    2,
		"rediss://127.0.0.1:1,redis://127.0.0.1:2":  2,
		"rediss://127.0.0.1:1":                      1, // Nothing listens there.
		"REDISS://127.0.0.1:1,rediss://127.0.0.1:2": 1,
	} {
		_, stderr, status := command(t, "", "summary", "--redis-url", urls, "--redis-tls-ca", ca)
		if status != want || strings.Contains(stderr, "--redis-tls-ca") != (want == 2) {
			t.Errorf("%s: status %d: %s", urls, status, stderr)
		}
	}
	_, stderr, status := command(t, "", "serve", "--redis-url", "redis://127.0.0.1:1", "--redis-tls-ca", ca)
	if status != 2 || !strings.Contains(stderr, "rediss://") {
		t.Errorf("serve: status %d: %s", status, stderr)
	}
}

// TestAServerThatIsAwaySaysWhatToDo tries one where nothing listens, one that says nothing,
// and one that wants a password.
func TestAServerThatIsAwaySaysWhatToDo(t *testing.T) {
	t.Parallel() // A silent one is given up after seconds.
	silent, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	locked, raw := ownRedis(t, t.TempDir())
	if err := raw.ConfigSet(t.Context(), "requirepass", "secret").Err(); err != nil {
		t.Fatal(err)
	}
	broker, closed := startBroker(t, ""), startBroker(t, `{user: u, password: secret}`)
	_, stderr, status := command(t, "", "verify", "--nats-url", closed.url(""), "--redis-url", locked.URL())
	if status != 1 || !strings.Contains(stderr, "--nats-creds") {
		t.Errorf("credentials: status %d: %s", status, stderr)
	}
	const nowhere, running = "127.0.0.1:1", "is the server running?"
	for name, test := range map[string]struct{ nats, redis, say string }{
		"nothing listens": {"nats://" + nowhere, "redis://" + nowhere, running},
		"no socket":       {"nats://" + nowhere, "unix:///no/such/socket", running},
		"silent":          {"nats://" + silent.Addr().String(), "redis://" + silent.Addr().String(), running},
		"a password":      {broker.url(""), locked.URL(), "--redis-password-file or COMPLIANCED_REDIS_PASSWORD"},
	} {
		for _, args := range [][]string{
			{"list", "p"}, {"export"}, {"summary"}, {"get", "p", "d", "--why"}, {"remove", "--policy", "p", "--yes"}, {"verify"}, {"provision", "--gaps"},
		} {
			if name == "a password" && args[0] == "verify" {
				continue // Its streams come first, and there are none.
			}
			t.Run(name+" "+args[0], func(t *testing.T) {
				t.Parallel()
				_, stderr, status := command(t, "", append(args, "--nats-url", test.nats, "--redis-url", test.redis)...)
				if status != 1 || !strings.Contains(stderr, test.say) || strings.Count(stderr, "\n") != 1 {
					t.Errorf("%v: status %d: %s", args, status, stderr)
				}
			})
		}
	}
}

func TestServersAreNeverGuessedBesideOnesThatAreNamed(t *testing.T) {
	dir := t.TempDir()
	told := `{"nats": "nats://127.0.0.1:1", "redis": "redis://127.0.0.1:1"}`
	if err := os.WriteFile(filepath.Join(dir, "serve.json"), []byte(told), 0o600); err != nil {
		t.Fatal(err)
	}
	nats, redis := []string{"--nats-url", "nats://127.0.0.1:2"}, []string{"--redis-url", "redis://127.0.0.1:2"}
	for _, c := range []struct {
		args   []string
		status int
		say    string
	}{
		{append([]string{"provision"}, nats...), 2, "set --redis-url"},
		{append([]string{"provision"}, redis...), 2, "set --nats-url"},
		{append([]string{"provision", "--accept-gap"}, nats...), 2, "set --redis-url"},
		{append([]string{"get", "p", "d"}, nats...), 2, "set --redis-url"},
		{append([]string{"summary"}, nats...), 2, "set --redis-url"},
		{append([]string{"publish", "p", "d", "--status", "error"}, redis...), 2, "set --nats-url"},
		{append([]string{"simulate"}, redis...), 2, "set --nats-url"},
		{append([]string{"provision", "--accept-gap"}, redis...), 1, "127.0.0.1:2"},
		{append([]string{"summary"}, redis...), 1, "127.0.0.1:2"},
		{append([]string{"publish", "p", "d", "--status", "error"}, nats...), 1, "127.0.0.1:2"},
		{[]string{"summary"}, 1, "127.0.0.1:1"},
	} {
		_, stderr, status := command(t, "", append(c.args, "--data-dir", dir)...)
		if status != c.status || !strings.Contains(stderr, c.say) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%v: status %d: %s", c.args, status, stderr)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "serve.json"), []byte(`{"nats": "nats://127.0.0.1:1"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, stderr, status := command(t, "", "summary", "--data-dir", dir); status != 1 || !strings.Contains(stderr, "serve.json") {
		t.Errorf("without a Redis: status %d: %s", status, stderr)
	}
}

func TestRedisURLsComeBackFromServeJSON(t *testing.T) {
	for _, want := range []complianced.URLList{
		nil, {"redis://127.0.0.1:1"}, {"redis://a:1", "redis://b:2"}, {"redis://:pass,word@a:1", "redis://u:,@b:2"},
	} {
		text, err := json.Marshal(complianced.Addresses{Redis: want})
		if err != nil {
			t.Fatal(err)
		}
		var have complianced.Addresses
		if err := json.Unmarshal(text, &have); err != nil {
			t.Fatal(err)
		}
		if len(have.Redis) != len(want) {
			t.Fatalf("%q came back as %q", want, have.Redis)
		}
		for i := range want {
			a, errA := redis.ParseURL(want[i])
			b, errB := redis.ParseURL(have.Redis[i])
			if errA != nil || errB != nil || a.Addr != b.Addr || a.Password != b.Password {
				t.Errorf("%s came back as %s", want[i], have.Redis[i])
			}
		}
	}
	var have complianced.Addresses
	if err := json.Unmarshal([]byte(`{"nats": "n"}`), &have); err != nil || have.Redis != nil {
		t.Errorf("%v: %q", err, have.Redis)
	}
}

func TestTheEmbeddedRedisGetsNoSettingsOfAnother(t *testing.T) {
	file := filepath.Join(t.TempDir(), "word")
	if err := os.WriteFile(file, []byte("other\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("COMPLIANCED_REDIS_PASSWORD_FILE", file)
	t.Setenv("COMPLIANCED_REDIS_PASSWORD", "another")
	t.Setenv("COMPLIANCED_REDIS_SENTINEL_MASTER", "fleet")
	path := os.Getenv("PATH")
	for name, path := range map[string]string{"a child": path, "the stand-in": t.TempDir()} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("PATH", path)
			s := serve(t)
			s.run("", "summary")
		})
	}
}

func TestAPasswordFromAFileOpensTheUsersOwnRedis(t *testing.T) {
	own, raw := ownRedis(t, t.TempDir())
	if err := raw.ConfigSet(t.Context(), "requirepass", "word").Err(); err != nil {
		t.Fatal(err)
	}
	t.Setenv("COMPLIANCED_REDIS_PASSWORD", "word")
	s := serve(t, "--redis-url", own.URL())
	s.run("", "summary")
}

// startRedisServer runs a redis-server on a port until the test ends.
func startRedisServer(t *testing.T, args ...string) (address string) {
	t.Helper()
	address = freeAddress(t)
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "redis-server", append(args, "--bind", "127.0.0.1", "--port", port, "--dir", t.TempDir())...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	raw := redis.NewClient(&redis.Options{Addr: address})
	defer raw.Close()
	eventually(t, "a redis-server", func() bool { return raw.Ping(context.WithoutCancel(t.Context())).Err() == nil })
	return address
}

func TestADeploymentWithSentinelsIsFoundByItsFolderAlone(t *testing.T) {
	host, port, err := net.SplitHostPort(startRedisServer(t, "--save", ""))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "sentinel.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, "sentinel monitor fleet %s %s 1\n", host, port), 0o600); err != nil {
		t.Fatal(err)
	}
	sentinel := startRedisServer(t, file, "--sentinel")
	s := serve(t, "--redis-url", "redis://"+sentinel, "--redis-sentinel-master", "fleet")
	_, js := s.client()
	if _, err := js.Publish(t.Context(), "compliance.status.p.d", []byte(`{"status":"error"}`)); err != nil {
		t.Fatal(err)
	}
	s.settled()
	if diff := cmp.Diff(`{"devices":{"compliant":0,"conflict":0,"error":1,"nonCompliant":0,"notApplicable":0,"notAssigned":0,"remediated":0,"unknown":0},"inGrace":{"p":0},`+
		`"policies":{"p":{"compliant":0,"conflict":0,"error":1,"nonCompliant":0,"notApplicable":0,"notAssigned":0,"remediated":0,"unknown":0}},"stale":{"p":0}}`+"\n",
		s.run("", "summary", "-o", "json")); diff != "" {
		t.Error(diff)
	}
}

func TestAnAddressWithoutAHostIsEveryInterface(t *testing.T) {
	for listen, want := range map[string]string{":4222": "0.0.0.0 4222", "127.0.0.1:0": "127.0.0.1 0", "[::1]:1": "::1 1"} {
		host, port, err := complianced.SplitListen(listen)
		if have := fmt.Sprint(host, " ", port); err != nil || have != want {
			t.Errorf("%s: %s (%v), want %s", listen, have, err, want)
		}
	}
	for _, flag := range []string{"--metrics-listen", "--nats-listen"} {
		_, stderr, status := command(t, "", "serve", flag, "4222")
		if status != 2 || !strings.Contains(stderr, flag) {
			t.Errorf("%s: status %d: %s", flag, status, stderr)
		}
	}
}
