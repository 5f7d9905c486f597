package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/complianced/complianced/internal/rig"
)

// profiler is the file that a profiled complianced has on top.
//
//go:embed profiler.go.txt
var profiler string

// profiledProgram is a complianced that profiles itself from its start.
type profiledProgram struct {
	programs rig.Programs
	// socket is where it waits to be asked for its profiles, which it then writes
	// to cpu and allocs.
	socket, cpu, allocs string
}

// buildProfiled builds one into a folder.
func buildProfiled(ctx context.Context, programs rig.Programs, dir string) (p profiledProgram, err error) {
	p = profiledProgram{programs: programs, socket: filepath.Join(dir, "s"), cpu: filepath.Join(dir, "cpu"), allocs: filepath.Join(dir, "allocs")}
	p.programs.Complianced = filepath.Join(dir, "complianced-profiled")
	folder, err := packageDir(ctx, "cmd/complianced")
	if err != nil {
		return p, err
	}
	return p, buildOverlaid(ctx, p.programs.Complianced, filepath.Join(folder, "profiler_of_bench.go"), fmt.Sprintf(profiler, p.socket, p.cpu, p.allocs))
}

// packageDir returns the folder of a package of this module.
func packageDir(ctx context.Context, name string) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", "github.com/complianced/complianced/"+name).Output()
	if err != nil {
		return "", fmt.Errorf("go list: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// buildOverlaid builds a complianced in which a file has another text, or is there at
// all. What it takes for that lies beside the program.
func buildOverlaid(ctx context.Context, program, file, text string) error {
	source, list := program+".go", program+".json"
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {file: source}})
	if err != nil {
		return err
	}
	if err := errors.Join(os.WriteFile(source, []byte(text), 0o600), os.WriteFile(list, overlay, 0o600)); err != nil {
		return err
	}
	return rig.BuildComplianced(ctx, program, "-overlay", list)
}

// profile drains once more, with a worker that profiles itself.
func (o *session) profile(ctx context.Context, p profiledProgram, dir, name string) (string, error) {
	want, err := o.publish(ctx, o.settings.Reports, 0)
	if err != nil {
		return "", err
	}
	plain := o.worker
	defer func() { o.worker = plain }()
	if o.worker, err = p.programs.NewWorker(ctx, filepath.Join(o.dir, "profiled"), o.nats, o.redis); err != nil {
		return "", err
	}
	o.drained = p.ask
	defer func() { o.drained = nil }()
	if _, err := o.drain(ctx, want); err != nil {
		return "", errors.Join(err, o.worker.Kill())
	}
	return p.keep(ctx, dir, name)
}

// ask makes the running program write its profiles and waits until they are there.
func (p profiledProgram) ask(ctx context.Context) error {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", p.socket)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // It was only read.
	answer, err := io.ReadAll(conn)
	if err == nil && string(answer) != "written" {
		err = fmt.Errorf("the profile is not written: %s", answer)
	}
	return err
}

// keep copies the profiles and the program that they are of, and returns the ten
// functions that took most.
func (p profiledProgram) keep(ctx context.Context, dir, name string) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	program := filepath.Join(dir, "complianced")
	cpu, allocs := filepath.Join(dir, name+".cpu.pprof"), filepath.Join(dir, name+".allocs.pprof")
	for from, to := range map[string]string{p.programs.Complianced: program, p.cpu: cpu, p.allocs: allocs} {
		if err := copyFile(from, to); err != nil {
			return "", err
		}
	}
	out, err := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", "-nodecount=10", program, cpu).Output()
	if err != nil {
		return "", fmt.Errorf("go tool pprof: %w", err)
	}
	return string(out), nil
}

func copyFile(from, to string) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, content, 0o700)
}
