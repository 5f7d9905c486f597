package spool_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"golang.org/x/sync/errgroup"

	"github.com/complianced/complianced/publisher"
	"github.com/complianced/complianced/publisher/spool"
)

// process is the binary of the tests in another role.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	out   *bufio.Reader
}

func startProcess(tb testing.TB, name string, settings ...string) *process {
	tb.Helper()
	p := &process{cmd: exec.CommandContext(context.WithoutCancel(tb.Context()), os.Args[0])}
	p.cmd.Env = append(append(os.Environ(), role+"="+name), settings...)
	p.cmd.Stderr = os.Stderr
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	p.stdin, p.out = stdin, bufio.NewReader(stdout)
	tb.Cleanup(func() { p.kill() })
	if line := p.line(tb); line != "ready\n" {
		tb.Fatalf("%s says %q", name, line)
	}
	return p
}

func (p *process) line(tb testing.TB) string {
	tb.Helper()
	line, err := p.out.ReadString('\n')
	if err != nil {
		tb.Fatal(err)
	}
	return line
}

// kill is kill -9.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// ready tells the test that the program does its work, and stops it with its standard input.
func ready() <-chan struct{} {
	fmt.Println("ready")
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	return stop
}

// natsProcess is a nats-server on $SPOOL_ADDRESS that keeps its files in $SPOOL_DIR.
func natsProcess() error {
	host, port, err := net.SplitHostPort(os.Getenv("SPOOL_ADDRESS"))
	if err != nil {
		return err
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	s, err := server.NewServer(&server.Options{
		Host: host, Port: number, JetStream: true, StoreDir: os.Getenv("SPOOL_DIR"), NoSigs: true, NoLog: true,
	})
	if err != nil {
		return err
	}
	s.Start()
	if !s.ReadyForConnections(30 * time.Second) {
		return errors.New("the server takes no connections")
	}
	<-ready()
	s.Shutdown()
	s.WaitForShutdown()
	return nil
}

// agent publishes $SPOOL_RATE reports a second into the spool $SPOOL_DIR, which is sent to $SPOOL_URL, and notes the
// number of each that was accepted in $SPOOL_JOURNAL. The numbers begin at $SPOOL_FIRST. Stopped, it waits until the
// spool is empty, and prints how many it has sent.
func agent() error {
	rate, err := strconv.Atoi(os.Getenv("SPOOL_RATE"))
	if err != nil {
		return err
	}
	first, err := strconv.Atoi(os.Getenv("SPOOL_FIRST"))
	if err != nil {
		return err
	}
	journal, err := os.OpenFile(os.Getenv("SPOOL_JOURNAL"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer journal.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s, err := spool.Open(os.Getenv("SPOOL_DIR"), spool.Options{Device: "d1"})
	if err != nil {
		return err
	}
	p, err := publisher.Connect(ctx, os.Getenv("SPOOL_URL"), publisher.Options{Device: "d1"})
	if err != nil {
		return err
	}
	defer p.Close()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, p) }()

	stop := ready()
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	var reports errgroup.Group
	reports.SetLimit(64) // A slow disk does not lower the rate.
	next, began := first, time.Now()
	for {
		select {
		case err := <-ended:
			return err
		case <-stop:
			if err := reports.Wait(); err != nil {
				return err
			}
			for s.Stats().Waiting > 0 {
				<-tick.C
			}
			fmt.Printf("%+v\n", s.Stats())
			return s.Close()
		case <-tick.C:
		}
		for ; next-first < int(time.Since(began).Seconds()*float64(rate)); next++ {
			n := next
			reports.Go(func() error {
				if _, err := s.Publish(ctx, numbered(n, 200)); err != nil {
					return err
				}
				_, err := fmt.Fprintln(journal, n)
				return err
			})
		}
	}
}
