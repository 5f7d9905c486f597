package embedded_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/complianced/complianced/internal/embedded"
)

// needServer fails where the tests would otherwise pass on the stand-in.
func needServer(t *testing.T) {
	t.Helper()
	for _, name := range []string{"valkey-server", "redis-server"} {
		if _, err := exec.LookPath(name); err == nil {
			return
		}
	}
	t.Fatal("these tests need redis-server or valkey-server in PATH: run `make deps` or `apt-get install redis-server`")
}

func startStandIn(t *testing.T) *embedded.Redis {
	t.Helper()
	r, err := embedded.StartStandIn()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func startRedis(t *testing.T, o embedded.RedisOptions) *embedded.Redis {
	t.Helper()
	needServer(t)
	r, err := embedded.StartRedis(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func client(t *testing.T, url string) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	o.MaxRetries = -1
	c := redis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func closeRedis(t *testing.T, r *embedded.Redis) {
	t.Helper()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestRedisKeepsDataOverARestart(t *testing.T) {
	dir := t.TempDir()
	r := startRedis(t, embedded.RedisOptions{DataDir: dir})
	if r.StandIn() {
		t.Fatal("the stand-in runs, want a child")
	}
	if err := client(t, r.URL()).Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	closeRedis(t, r)
	closeRedis(t, r) // A second Close does nothing.
	if err := r.Err(); err != nil {
		t.Errorf("Err after Close is %v, want nil", err)
	}
	if alive(r.PID()) {
		t.Error("the child lives after Close")
	}

	r = startRedis(t, embedded.RedisOptions{DataDir: dir})
	if got, err := client(t, r.URL()).Get(t.Context(), "k").Result(); got != "v" || err != nil {
		t.Errorf("Get = %q, %v, want v", got, err)
	}
}

func TestRedisRunsWithTheSettingsOfTheStore(t *testing.T) {
	dir := t.TempDir()
	r := startRedis(t, embedded.RedisOptions{DataDir: dir})
	c := client(t, r.URL())
	for setting, want := range map[string]string{
		"port": "0", "save": "", "appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction",
		"hash-max-listpack-value": "256", "unixsocketperm": "700", "dir": filepath.Join(dir, "redis"),
	} {
		got, err := c.ConfigGet(t.Context(), setting).Result()
		if err != nil || got[setting] != want {
			t.Errorf("%s is %q (%v), want %q", setting, got[setting], err, want)
		}
	}
	if text, err := os.ReadFile(filepath.Join(dir, "redis.log")); err != nil || !strings.Contains(string(text), "ready to accept connections") {
		t.Errorf("redis.log holds %q, %v", text, err)
	}
}

func TestRedisPrefersValkey(t *testing.T) {
	needServer(t)
	path, err := exec.LookPath("redis-server")
	if err != nil {
		path, err = exec.LookPath("valkey-server")
	}
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	for _, name := range []string{"redis-server", "valkey-server"} {
		if err := os.Symlink(path, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin)
	r := startRedis(t, embedded.RedisOptions{DataDir: t.TempDir()})
	if want := filepath.Join(bin, "valkey-server"); r.Program() != want {
		t.Errorf("Program() = %q, want %q", r.Program(), want)
	}
}

func TestRedisInAFolderWithALongPath(t *testing.T) {
	temp := t.TempDir()
	tmp := shortDir(t)
	t.Setenv("TMPDIR", tmp)
	dir := filepath.Join(temp, strings.Repeat("long", 30))
	r := startRedis(t, embedded.RedisOptions{DataDir: dir})
	if err := client(t, r.URL()).Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if n := countEntries(t, tmp); n != 1 {
		t.Errorf("%d entries in the temporary folder, want the socket's folder", n)
	}
	closeRedis(t, r)
	if n := countEntries(t, tmp); n != 0 {
		t.Errorf("%d entries left in the temporary folder, want none", n)
	}

	t.Run("fails where the temporary folder is as long", func(t *testing.T) {
		t.Setenv("TMPDIR", dir)
		before := countEntries(t, dir)
		_, err := embedded.StartRedis(t.Context(), embedded.RedisOptions{DataDir: dir})
		if err == nil || !strings.Contains(err.Error(), "TMPDIR") {
			t.Errorf("error %v, want one that says what to do", err)
		}
		if got := countEntries(t, dir); got != before {
			t.Errorf("%d entries in the folder, want %d as before", got, before)
		}
	})
}

func TestRedisEndsWithAParentThatIsKilled(t *testing.T) {
	needServer(t)
	dir := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), parentEnv+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatalf("the helper says %q", line)
	}
	if !alive(pid) {
		t.Fatal("the child is not there while its parent lives")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // It says "signal: killed".
	eventually(t, "the child ended with its parent", func() bool { return !alive(pid) })

	// And the folder can be used again at once.
	startRedis(t, embedded.RedisOptions{DataDir: dir})
}

func TestRedisWaitsForAnEarlierChildOnTheSameFolder(t *testing.T) {
	dir := t.TempDir()
	first := startRedis(t, embedded.RedisOptions{DataDir: dir})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := embedded.StartRedis(ctx, embedded.RedisOptions{DataDir: dir})
	if err == nil || !strings.Contains(err.Error(), "earlier start still runs") {
		t.Fatalf("error %v, want one that names the earlier child", err)
	}
	type started struct {
		r   *embedded.Redis
		err error
	}
	second := make(chan started)
	go func() {
		r, err := embedded.StartRedis(t.Context(), embedded.RedisOptions{DataDir: dir})
		second <- started{r, err}
	}()
	closeRedis(t, first)
	s := <-second
	if s.err != nil {
		t.Fatal(s.err)
	}
	closeRedis(t, s.r)
}

func TestAwaitRedisWaitsForTheEndOfAChild(t *testing.T) {
	dir := t.TempDir()
	if err := embedded.AwaitRedis(t.Context(), dir); err != nil {
		t.Errorf("on a folder that no Redis has: %v", err)
	}
	r := startRedis(t, embedded.RedisOptions{DataDir: dir})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := embedded.AwaitRedis(ctx, dir); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while the child runs: %v, want a deadline", err)
	}
	ended := make(chan error)
	go func() { ended <- embedded.AwaitRedis(t.Context(), dir) }()
	closeRedis(t, r)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestRedisTellsWhenItEndsByItself(t *testing.T) {
	r := startRedis(t, embedded.RedisOptions{DataDir: t.TempDir()})
	if err := r.Err(); err != nil {
		t.Errorf("Err while it runs is %v, want nil", err)
	}
	if err := syscall.Kill(r.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-r.Done()
	if err := r.Err(); err == nil || !strings.Contains(err.Error(), "ended by itself (signal: killed)") {
		t.Errorf("Err is %v", err)
	}
	closeRedis(t, r)
}

func TestRedisKillsAChildThatDoesNotEnd(t *testing.T) {
	r := startRedis(t, embedded.RedisOptions{DataDir: t.TempDir(), StopTimeout: 50 * time.Millisecond})
	if err := syscall.Kill(r.PID(), syscall.SIGSTOP); err != nil { // Takes no SIGTERM any more.
		t.Fatal(err)
	}
	if err := r.Close(); err == nil || !strings.Contains(err.Error(), "was killed") {
		t.Errorf("Close = %v, want an error that says it was killed", err)
	}
	if alive(r.PID()) {
		t.Error("the child still lives")
	}
}

func TestRedisSaysWhyItDoesNotStart(t *testing.T) {
	needServer(t)
	t.Run("a corrupt append-only file", func(t *testing.T) {
		dir := t.TempDir()
		r := startRedis(t, embedded.RedisOptions{DataDir: dir})
		if err := client(t, r.URL()).Set(t.Context(), "k", "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
		closeRedis(t, r)
		files, err := filepath.Glob(filepath.Join(dir, "redis", "appendonlydir", "*.incr.aof"))
		if err != nil || len(files) != 1 {
			t.Fatalf("append-only files %v, %v, want one", files, err)
		}
		if err := os.WriteFile(files[0], []byte("nonsense, and more than one line\r\nof it\r\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = embedded.StartRedis(t.Context(), embedded.RedisOptions{DataDir: dir})
		if err == nil || !strings.Contains(err.Error(), "Bad file format") {
			t.Errorf("error %v, want the server's own words", err)
		}
	})
	t.Run("a program that is not a program", func(t *testing.T) {
		bin := t.TempDir()
		if err := os.WriteFile(filepath.Join(bin, "valkey-server"), []byte("\x00"), 0o700); err != nil {
			t.Fatal(err)
		}
		t.Setenv("PATH", bin)
		if _, err := embedded.StartRedis(t.Context(), embedded.RedisOptions{DataDir: t.TempDir()}); err == nil ||
			!strings.Contains(err.Error(), "exec format error") {
			t.Errorf("error %v, want the kernel's", err)
		}
	})
	t.Run("no folder", func(t *testing.T) {
		if _, err := embedded.StartRedis(t.Context(), embedded.RedisOptions{}); err == nil ||
			!strings.Contains(err.Error(), "set DataDir") {
			t.Errorf("error %v, want one that names DataDir", err)
		}
	})
	t.Run("a server that never answers is ended with the context", func(t *testing.T) {
		dir, path := t.TempDir(), os.Getenv("PATH")
		bin := t.TempDir()
		script := "#!/bin/sh\nexec sleep 60\n"
		if err := os.WriteFile(filepath.Join(bin, "valkey-server"), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
		t.Setenv("PATH", bin+":"+path)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := embedded.StartRedis(ctx, embedded.RedisOptions{DataDir: dir})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want a deadline", err)
		}
		t.Setenv("PATH", path)
		startRedis(t, embedded.RedisOptions{DataDir: dir}) // The folder is free again, so the child is gone.
	})
}

func TestPingWaitsUntilTheDataIsLoaded(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	if embedded.Ping(t.Context(), path) {
		t.Error("Ping is true where nothing listens")
	}
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	answers := make(chan string)
	served := make(chan struct{})
	go func() {
		defer close(served)
		for answer := range answers {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = bufio.NewReader(conn).ReadString('\n') // Closed with something unread, it would be a reset.
			fmt.Fprint(conn, answer)
			conn.Close()
		}
	}()
	for _, tc := range []struct {
		answer string
		want   bool
	}{
		{"-LOADING Redis is loading the dataset in memory\r\n", false},
		{"", false},
		{"+PONG\r\n", true},
	} {
		answers <- tc.answer
		if got := embedded.Ping(t.Context(), path); got != tc.want {
			t.Errorf("Ping on %q = %t, want %t", tc.answer, got, tc.want)
		}
	}
	close(answers)
	<-served
}

func TestStandIn(t *testing.T) {
	t.Run("answers who knows the password", func(t *testing.T) {
		r := startStandIn(t)
		if !r.StandIn() || r.PID() != 0 || r.Program() != "" {
			t.Errorf("StandIn %t, PID %d, Program %q", r.StandIn(), r.PID(), r.Program())
		}
		if err := client(t, r.URL()).Set(t.Context(), "k", "v", 0).Err(); err != nil {
			t.Error(err)
		}
	})
	t.Run("refuses who does not", func(t *testing.T) {
		r := startStandIn(t)
		o, err := redis.ParseURL(r.URL())
		if err != nil {
			t.Fatal(err)
		}
		for _, password := range []string{"", "guess"} {
			c := redis.NewClient(&redis.Options{Addr: o.Addr, Password: password, MaxRetries: -1})
			if err := c.Set(t.Context(), "k", "v", 0).Err(); err == nil {
				t.Errorf("password %q: SET succeeds", password)
			}
			_ = c.Close()
		}
	})
	t.Run("has a new password each time", func(t *testing.T) {
		a, b := startStandIn(t), startStandIn(t)
		oa, _ := redis.ParseURL(a.URL())
		ob, _ := redis.ParseURL(b.URL())
		if oa.Password == ob.Password || len(oa.Password) < 20 {
			t.Errorf("passwords %q and %q", oa.Password, ob.Password)
		}
	})
	t.Run("steps in where no server is in PATH", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		r, err := embedded.StartRedis(t.Context(), embedded.RedisOptions{DataDir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		closeRedis(t, r)
		if !r.StandIn() {
			t.Error("a child ran, want the stand-in")
		}
	})
	t.Run("is done after Close", func(t *testing.T) {
		r := startStandIn(t)
		closeRedis(t, r)
		closeRedis(t, r)
		<-r.Done()
		if err := r.Err(); err != nil {
			t.Errorf("Err is %v, want nil", err)
		}
	})
}

// shortDir is a temporary folder whose path leaves room for the name of a socket; t.TempDir holds the test's name.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "emb") //nolint:usetesting // t.TempDir is too long for a socket.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func countEntries(t *testing.T, dir string) int {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// alive says whether a process is there. A zombie counts as gone: whoever inherits an orphan reaps it when it likes.
func alive(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return syscall.Kill(pid, 0) == nil
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return !strings.HasPrefix(rest, "Z")
}
