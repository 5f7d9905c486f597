package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// Limits of waiting.
const (
	startLimit = 60 * time.Second
	stopLimit  = 30 * time.Second
	poll       = 5 * time.Millisecond
)

// Process is a program that can be started again and again with the same command line. It is used by one
// goroutine at a time.
type Process struct {
	path string
	args []string
	dir  string
	// ready tells whether the program does its work.
	ready func(ctx context.Context) bool

	cmd  *exec.Cmd
	log  *os.File
	done chan struct{}
}

// Start starts the program and returns when it does its work.
func (p *Process) Start(ctx context.Context) error {
	log, err := os.OpenFile(p.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	p.log = log
	p.cmd = exec.CommandContext(context.WithoutCancel(ctx), p.path, p.args...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = p.dir, log, log
	p.cmd.SysProcAttr = attributes()
	started := make(chan error, 1)
	p.done = make(chan struct{})
	go own(p.cmd, started, p.done)
	if err := <-started; err != nil {
		return errors.Join(err, log.Close())
	}
	return p.wait(ctx)
}

// own starts a program and waits for its end on one thread that is there as long as the program: the signal that
// ends it with its parent is sent when the thread that forked ends, and Go ends threads as it likes.
func own(cmd *exec.Cmd, started chan<- error, done chan<- struct{}) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(done)
	err := cmd.Start()
	started <- err
	if err == nil {
		_ = cmd.Wait()
	}
}

func (p *Process) wait(ctx context.Context) error {
	limit := time.NewTimer(startLimit)
	defer limit.Stop()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for !p.ready(ctx) {
		select {
		case <-tick.C:
		case <-p.done:
			return p.ended()
		case <-limit.C:
			return errors.Join(fmt.Errorf("%s is not ready after %s; its log is %s", filepath.Base(p.path), startLimit, p.LogFile()), p.Kill())
		case <-ctx.Done():
			return errors.Join(ctx.Err(), p.Kill())
		}
	}
	return nil
}

// Running tells whether the program was started and has not ended.
func (p *Process) Running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Watch waits until the running program ends, which is an error that names its log, or until ctx does, which is none.
func (p *Process) Watch(ctx context.Context) error {
	select {
	case <-p.done:
		return p.ended()
	case <-ctx.Done():
		return nil
	}
}

func (p *Process) ended() error {
	return fmt.Errorf("%s ended: %s; its log is %s", filepath.Base(p.path), p.cmd.ProcessState, p.LogFile())
}

// Kill ends the program as a power cut does, as far as the program is concerned.
func (p *Process) Kill() error { return p.end(syscall.SIGKILL) }

// Stop asks the program to end and waits for it.
func (p *Process) Stop() error { return p.end(syscall.SIGTERM) }

// Pause halts the running program: it keeps its connections and does nothing.
func (p *Process) Pause() error { return p.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume lets a halted program go on.
func (p *Process) Resume() error { return p.cmd.Process.Signal(syscall.SIGCONT) }

// ExitStatus is that of a program that has ended, and -1 where a signal ended it.
func (p *Process) ExitStatus() int { return p.cmd.ProcessState.ExitCode() }

// end does nothing where the program does not run.
func (p *Process) end(signal syscall.Signal) error {
	if !p.Running() {
		return nil
	}
	_ = p.cmd.Process.Signal(signal)
	limit := time.NewTimer(stopLimit)
	defer limit.Stop()
	select {
	case <-p.done:
		return p.log.Close()
	case <-limit.C:
	}
	_ = p.cmd.Process.Kill()
	<-p.done
	return errors.Join(fmt.Errorf("%s did not end within %s", filepath.Base(p.path), stopLimit), p.log.Close())
}

// Dir is the folder of the program's files.
func (p *Process) Dir() string { return p.dir }

// LogFile is where the program's output goes.
func (p *Process) LogFile() string { return filepath.Join(p.dir, "log") }

// newProcess makes the folder of a program.
func newProcess(path, dir string, ready func(ctx context.Context) bool, args ...string) (*Process, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return &Process{path: path, dir: dir, ready: ready, args: args}, nil
}
