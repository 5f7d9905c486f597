package rig

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	module     = "github.com/complianced/complianced"
	natsModule = "github.com/nats-io/nats-server/v2"
)

// Programs are the paths of the programs to run.
type Programs struct {
	NATS        string
	Redis       string
	Complianced string
}

// ErrNoRedis says that there is no Redis server in PATH.
var ErrNoRedis = errors.New("no redis-server or valkey-server in PATH; run make deps")

// Build builds the programs into a folder.
func Build(ctx context.Context, dir string) (Programs, error) {
	p := Programs{NATS: filepath.Join(dir, "nats-server"), Complianced: filepath.Join(dir, "complianced")}
	var err error
	if p.Redis, err = findRedis(); err != nil {
		return p, err
	}
	root, err := run(ctx, ".", "go", "list", "-m", "-f", "{{.Dir}}", module)
	if err != nil {
		return p, err
	}
	tools := "-modfile=" + filepath.Join(root, "internal", "tools", "go.mod")
	if _, err := run(ctx, root, "go", "build", tools, "-o", p.NATS, natsModule); err != nil {
		return p, err
	}
	return p, BuildComplianced(ctx, p.Complianced)
}

// BuildComplianced builds complianced alone. Args are further arguments of go build, as -overlay.
func BuildComplianced(ctx context.Context, path string, args ...string) error {
	args = append([]string{"build", "-o", path}, args...)
	_, err := run(ctx, ".", "go", append(args, module+"/cmd/complianced")...)
	return err
}

func findRedis() (string, error) {
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", ErrNoRedis
}

func run(ctx context.Context, dir, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return "", fmt.Errorf("%s %s: %w\n%s", program, strings.Join(args, " "), err, exit.Stderr)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", program, err)
	}
	return strings.TrimSpace(string(out)), nil
}
