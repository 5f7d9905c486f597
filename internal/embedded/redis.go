package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// StandInWarning says to an operator what a stand-in means.
const StandInWarning = "neither valkey-server nor redis-server is in PATH: the state is kept in the memory of this " +
	"process only, is lost when it ends and is rebuilt from the stream at the next start; " +
	"install redis-server 7.0 or newer to keep it, or name a server with --redis-url"

// RedisOptions says how to run the embedded Redis. DataDir is required, except where the stand-in takes its place.
type RedisOptions struct {
	// DataDir is the folder for the socket redis.sock, the log redis.log and the folder redis with the
	// append-only file; it is made where it is missing.
	DataDir string
	// StopTimeout is how long Close waits for the child to end before it is killed. Defaults to 10 s.
	StopTimeout time.Duration
}

// Redis is a running Redis: a child process, or the stand-in.
type Redis struct {
	url     string
	program string // Empty for the stand-in.
	done    <-chan struct{}
	server  redisServer
}

// redisServer is what a child and a stand-in have in common.
type redisServer interface {
	Err() error
	Close() error
}

// StartRedis starts valkey-server, or else redis-server, from PATH, or else the stand-in, and returns when it
// answers. An append-only file is loaded by then; loading ends early when ctx is done.
func StartRedis(ctx context.Context, o RedisOptions) (*Redis, error) {
	if o.StopTimeout == 0 {
		o.StopTimeout = 10 * time.Second
	}
	program, found := findServer()
	if !found {
		return startStandIn()
	}
	if o.DataDir == "" {
		return nil, errors.New("embedded Redis: no folder to keep the data in; set DataDir")
	}
	dir, err := filepath.Abs(o.DataDir) // The child has another working directory.
	if err != nil {
		return nil, fmt.Errorf("embedded Redis: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "redis"), 0o700); err != nil {
		return nil, fmt.Errorf("embedded Redis: make the data folder: %w", err)
	}
	return startChild(ctx, program, dir, o.StopTimeout)
}

// URL is the address in the form that go-redis parses: unix:///path/redis.sock?db=0, or
// redis://:password@127.0.0.1:port for the stand-in. The latter holds a secret.
func (r *Redis) URL() string { return r.url }

// StandIn says whether this is the in-process stand-in; StandInWarning says what that means.
func (r *Redis) StandIn() bool { return r.program == "" }

// Done is closed when the server has ended, by Close or by itself.
func (r *Redis) Done() <-chan struct{} { return r.done }

// Err is nil while the server runs and after a Close, and otherwise says how the server ended by itself.
func (r *Redis) Err() error { return r.server.Err() }

// Close ends the server and returns when it is gone. An error says that it had to be killed: the last second
// may be missing from its append-only file then.
func (r *Redis) Close() error { return r.server.Close() }

// HasRedis says whether [StartRedis] has a server to start.
func HasRedis() bool {
	_, found := findServer()
	return found
}

// findServer prefers valkey-server. A name that leads into the current folder counts as not found.
func findServer() (program string, found bool) {
	for _, name := range []string{"valkey-server", "redis-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, true
		}
	}
	return "", false
}
