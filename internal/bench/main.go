package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/complianced/complianced/internal/fleet"
	"github.com/complianced/complianced/internal/rig"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	if err == nil || errors.Is(err, flag.ErrHelp) {
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
	b := bench{Settings: s, began: time.Now(), progress: progress, output: Output{Machine: thisMachine(), Settings: s}}
	if b.bin, err = os.MkdirTemp("", "bench-programs-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.bin)) }()
	if err := b.build(ctx); err != nil {
		return err
	}
	if err := b.measure(ctx); err != nil {
		return err
	}
	b.output.Seconds, b.output.Targets = time.Since(b.began).Seconds(), b.output.targets()
	if err := b.output.print(out); err != nil {
		return err
	}
	return errors.Join(b.output.write(s.json), b.output.missed())
}

// write writes everything as JSON, where that is asked for.
func (o *Output) write(path string) error {
	if path == "" {
		return nil
	}
	text, err := json.MarshalIndent(o, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o600)
}

// bench is one run of this program.
type bench struct {
	Settings

	programs rig.Programs
	profiled profiledProgram
	// bin is the folder of the programs.
	bin      string
	began    time.Time
	progress io.Writer
	output   Output
}

// tell says how far it is.
func (b *bench) tell(text string) {
	fmt.Fprintf(b.progress, "%4.0f s  %s\n", time.Since(b.began).Seconds(), text)
}

func (b *bench) build(ctx context.Context) (err error) {
	if b.programs, err = rig.Build(ctx, b.bin); err != nil {
		return err
	}
	if b.has(partProfile) {
		if b.profiled, err = buildProfiled(ctx, b.programs, b.bin); err != nil {
			return err
		}
	}
	b.tell("the programs are built")
	return b.output.Machine.servers(ctx, b.programs)
}

func (b *bench) measure(ctx context.Context) error {
	for _, appendOnly := range b.AppendOnly {
		for _, mix := range b.sessions() {
			if err := b.session(ctx, appendOnly, mix); err != nil {
				return fmt.Errorf("mix %s, append-only file %s: %w", mix, appendOnly, err)
			}
		}
		if b.has(partMemory) {
			own, err := ownVersions(ctx, b.programs, b.Settings, appendOnly)
			if err != nil {
				return fmt.Errorf("memory, append-only file %s: %w", appendOnly, err)
			}
			b.output.Memory = append(b.output.Memory, own)
			b.tell("memory is measured")
		}
	}
	if b.has(partDerived) {
		// With one setting of the file alone, so that the run stays short.
		if err := b.derived(ctx, b.AppendOnly[0], fleet.Steady); err != nil {
			return fmt.Errorf("what follows from records: %w", err)
		}
	}
	if b.has(partBacklog) {
		// The file slows Redis down and does nothing else to the worker: one run is enough.
		appendOnly := b.AppendOnly[len(b.AppendOnly)-1]
		backlog, err := drainBacklog(ctx, b.programs, b.Settings, appendOnly, b.tell)
		if err != nil {
			return fmt.Errorf("backlog, append-only file %s: %w", appendOnly, err)
		}
		b.output.Backlog = append(b.output.Backlog, backlog)
	}
	if b.has(partReads) {
		// What is read does not touch the file.
		reads, err := readState(ctx, b.programs, b.Settings, b.AppendOnly[0])
		if err != nil {
			return fmt.Errorf("read the state: %w", err)
		}
		b.output.Reads = append(b.output.Reads, reads)
	}
	return nil
}

// sessions are the mixes that are needed.
func (b *bench) sessions() []fleet.Mix {
	if b.has(partSpeed) || b.has(partLatency) || b.has(partProfile) || b.has(partMemory) {
		return b.Mixes
	}
	return nil
}

// memory measures that of the records and, when they are new, of the bare work's.
func (b *bench) memory(ctx context.Context, o *session, appendOnly string, of Measured) error {
	if !b.has(partMemory) {
		return nil
	}
	if of == ofUniform || of == ofSteady {
		bare, err := o.bareMemory(ctx, appendOnly)
		if err != nil {
			return err
		}
		b.output.Memory = append(b.output.Memory, bare)
	}
	memory, err := o.memory(ctx, appendOnly, of)
	b.output.Memory = append(b.output.Memory, memory)
	return err
}

// session measures all that is measured with one mix.
func (b *bench) session(ctx context.Context, appendOnly string, mix fleet.Mix) (err error) {
	o, err := newSession(ctx, b.programs, b.Settings, appendOnly, mix)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.close()) }()
	b.tell(fmt.Sprintf("mix %s, append-only file %s: the records are there", mix, appendOnly))
	created, after := ofUniform, ofUniformAfter
	if mix == fleet.Steady {
		created, after = ofSteady, ofSteadyAfter
	}
	if err := b.memory(ctx, o, appendOnly, created); err != nil {
		return err
	}
	if b.has(partSpeed) {
		runs, err := o.speed(ctx, b.tell)
		if err != nil {
			return err
		}
		b.output.Speed = append(b.output.Speed, speedOf(appendOnly, mix, runs))
		if err := b.memory(ctx, o, appendOnly, after); err != nil {
			return err
		}
	}
	if b.has(partLatency) {
		runs, err := o.latency(ctx)
		if err != nil {
			return err
		}
		b.output.Latency = append(b.output.Latency, latencyOf(appendOnly, mix, runs))
		b.tell("latency is measured")
	}
	if b.has(partProfile) {
		dir := b.profile
		if dir == "" {
			dir = filepath.Join(b.bin, "profiles")
		}
		top, err := o.profile(ctx, b.profiled, dir, string(mix)+"-appendonly-"+appendOnly)
		if err != nil {
			return err
		}
		b.output.Profiles = append(b.output.Profiles, profileOf(appendOnly, mix, top))
		b.tell("the profile is written")
	}
	return nil
}
