package embedded_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/complianced/complianced/internal/embedded"
)

// The kernel sends the parent-death signal when the thread that forked ends, not when the process does.
func TestRedisOutlivesTheThreadThatStartedIt(t *testing.T) {
	needServer(t)
	dir := t.TempDir()
	type started struct {
		r   *embedded.Redis
		err error
		tid int
	}
	result := make(chan started, 1)
	release := make(chan struct{})
	defer close(release)
	go onOwnThread(release, func() {
		r, err := embedded.StartRedis(t.Context(), embedded.RedisOptions{DataDir: dir})
		result <- started{r, err, syscall.Gettid()}
	})
	s := <-result
	if s.err != nil {
		t.Fatal(s.err)
	}
	defer closeRedis(t, s.r)
	eventually(t, "the thread ended", func() bool {
		_, err := os.Stat(fmt.Sprintf("/proc/self/task/%d", s.tid))
		return os.IsNotExist(err)
	})
	// A signal that was sent is handled before the next answer, and logged.
	if err := client(t, s.r.URL()).Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "redis.log"))
	if err != nil || strings.Contains(string(text), "SIGTERM") {
		t.Errorf("the child got a signal (%v):\n%s", err, text)
	}
}

func TestRedisIsNotReachedByCtrlC(t *testing.T) {
	r := startRedis(t, embedded.RedisOptions{DataDir: t.TempDir()})
	if got, err := syscall.Getpgid(r.PID()); got != r.PID() || err != nil {
		t.Errorf("the child is in process group %d (%v), want one of its own", got, err)
	}
}

// onOwnThread runs f on a thread that ends with it. The process's first thread never ends, so where this is the
// first one, it is kept busy and f runs on another.
func onOwnThread(release <-chan struct{}, f func()) {
	runtime.LockOSThread() // Never unlocked: this is what ends the thread.
	if syscall.Gettid() != syscall.Getpid() {
		f()
		return
	}
	go onOwnThread(release, f)
	<-release
}
