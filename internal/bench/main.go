package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/complianced/complianced/internal/rig"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "bench:", err)
	if errors.Is(err, errUsage) {
		os.Exit(2)
	}
	os.Exit(1)
}

func run(ctx context.Context, args []string, in io.Reader, out, progress io.Writer) (err error) {
	if len(args) == 1 && args[0] == bareCommand {
		return runBare(ctx, in, out)
	}
	s, err := parse(args, progress)
	if err != nil {
		return err
	}
	bin, err := os.MkdirTemp(s.dir, "bench-programs-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(bin)) }()
	programs, err := rig.Build(ctx, bin)
	if err != nil {
		return err
	}
	for _, ao := range s.AppendOnly {
		if s.has(partMemory) {
			m, err := measureMemory(ctx, programs, s, ao)
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "memory %+v\n", m)
		}
		if !s.has(partSpeed) {
			continue
		}
		for _, mix := range s.Mixes {
			d, err := deploy(ctx, programs, s, ao)
			if err != nil {
				return err
			}
			err = first(ctx, d, s, mix, out)
			if err := errors.Join(err, d.close()); err != nil {
				return err
			}
		}
	}
	return nil
}

var began = time.Now()

func step(text string) { fmt.Fprintf(os.Stderr, "%6.1f %s\n", time.Since(began).Seconds(), text) }

func first(ctx context.Context, d *deployment, s Settings, mix Mix, out io.Writer) error {
	o, err := newSession(ctx, d, s, mix)
	if err != nil {
		return err
	}
	if err := o.create(ctx); err != nil {
		return err
	}
	for i := range s.Count {
		r, err := o.run(ctx, i%2 == 1)
		if err != nil {
			return err
		}
		n := float64(r.system.reports)
		us := func(u Usage) string {
			return fmt.Sprintf("prog %.2f redis %.2f nats %.2f total %.2f", float64(u.Program.Microseconds())/n, float64(u.Redis.Microseconds())/n,
				float64(u.NATS.Microseconds())/n, float64((u.Program+u.Redis+u.NATS).Microseconds())/n)
		}
		fmt.Fprintf(out, "%s: system %.0f/s %s mallocs %.1f bytes %.0f peak %d MB | bare %.0f/s %s mallocs %.1f | ratio %.2f\n", mix,
			n/r.system.took.Seconds(), us(r.system.cpu), r.system.mallocs/n, r.system.bytes/n, r.system.peak>>20,
			n/r.bare.Took.Seconds(), us(r.used), float64(r.bare.Mallocs)/n,
			float64(r.system.cpu.Program+r.system.cpu.Redis+r.system.cpu.NATS)/float64(r.used.Program+r.used.Redis+r.used.NATS))
	}
	if s.has(partLatency) {
		step("latency")
		l, err := o.latency(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(out, "latency %+v\n", l)
	}
	return nil
}
