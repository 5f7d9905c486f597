package embedded

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// child is a Redis server as a child process.
type child struct {
	cmd         *exec.Cmd
	log         *childLog
	socket      socket
	stopTimeout time.Duration

	stopping atomic.Bool
	done     chan struct{} // Closed after err is set.
	err      error
	close    func() error
}

func startChild(ctx context.Context, program, dir string, stopTimeout time.Duration) (*Redis, error) {
	lock, err := lockFile(ctx, filepath.Join(dir, RedisLock))
	if err != nil {
		return nil, fmt.Errorf("embedded Redis: %w", err)
	}
	defer func() { _ = lock.Close() }() // The child holds it from here on.
	log, err := openLog(filepath.Join(dir, "redis.log"))
	if err != nil {
		return nil, fmt.Errorf("embedded Redis: %w", err)
	}
	defer func() { _ = log.file.Close() }() // The child writes to it.
	sock, err := newSocket(filepath.Join(dir, "redis.sock"))
	if err != nil {
		return nil, fmt.Errorf("embedded Redis: %w", err)
	}
	c := &child{
		cmd:         command(ctx, program, filepath.Join(dir, "redis"), sock.path),
		log:         log,
		socket:      sock,
		stopTimeout: stopTimeout,
		done:        make(chan struct{}),
	}
	c.close = sync.OnceValue(c.stop)
	c.cmd.Stdout, c.cmd.Stderr, c.cmd.ExtraFiles = log.file, log.file, []*os.File{lock}
	if err := c.start(ctx); err != nil {
		return nil, fmt.Errorf("embedded Redis: %w", err)
	}
	address := url.URL{Scheme: "unix", Path: sock.path, RawQuery: "db=0"}
	return &Redis{url: address.String(), program: program, done: c.done, server: c}, nil
}

// command is the server's command line; no configuration file is read.
func command(ctx context.Context, program, dir, socket string) *exec.Cmd {
	// The child outlives the context of its start: Close ends it.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), program,
		"--port", "0",
		"--unixsocket", socket,
		"--unixsocketperm", "700",
		"--dir", dir,
		"--daemonize", "no",
		"--logfile", "", // To standard output, so that errors of the start are in the same file.
		"--appendonly", "yes",
		"--appendfsync", "everysec",
		"--save", "",
		"--maxmemory-policy", "noeviction",
		"--hash-max-listpack-value", "256",
	)
	cmd.Dir = dir
	cmd.SysProcAttr = childAttributes()
	return cmd
}

// start returns when the server answers; on an error nothing is left running.
func (c *child) start(ctx context.Context) error {
	started := make(chan error, 1)
	go c.own(started)
	if err := <-started; err != nil {
		return errors.Join(fmt.Errorf("start %s: %w", c.cmd.Path, err), c.socket.remove())
	}
	err := c.ready(ctx)
	if err == nil {
		return nil
	}
	return errors.Join(err, c.Close())
}

// own starts the child and waits for its end on one thread that is there as long as the child: the kernel sends
// the parent-death signal when the thread that forked ends, and Go ends threads as it likes.
func (c *child) own(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := c.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	err = c.cmd.Wait()
	if !c.stopping.Load() {
		c.err = fmt.Errorf("%s ended by itself (%s); see %s, which ends with: %s",
			c.cmd.Path, outcome(err), c.log.path, c.log.tail())
	}
	close(c.done)
}

// ready waits until the server answers a PING. While it loads its append-only file it listens but refuses.
func (c *child) ready(ctx context.Context) error {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s to answer: %w", c.cmd.Path, ctx.Err())
		case <-c.done:
			return c.err
		case <-pause.C:
		}
		if ping(ctx, c.socket.path) {
			return nil
		}
		pause.Reset(10 * time.Millisecond)
	}
}

// Err says how the child ended by itself.
func (c *child) Err() error {
	select {
	case <-c.done:
		return c.err
	default:
		return nil
	}
}

// Close ends the child.
func (c *child) Close() error { return c.close() }

func (c *child) stop() error {
	c.stopping.Store(true)
	return errors.Join(c.terminate(), c.socket.remove())
}

// terminate asks the child to end, which lets it write its append-only file out, and kills it if it does not.
func (c *child) terminate() error {
	timeout := time.NewTimer(c.stopTimeout)
	defer timeout.Stop()
	// A child that has ended already cannot be signalled; done says so.
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.done:
		return nil
	case <-timeout.C:
	}
	_ = c.cmd.Process.Kill()
	<-c.done
	return fmt.Errorf("%s did not end within %s and was killed", c.cmd.Path, c.stopTimeout)
}

func outcome(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}
