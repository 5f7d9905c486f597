package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/complianced/complianced/internal/rig"
)

// Machine is what was measured on.
type Machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Kernel string `json:"kernel"`
	// Load is the number of processes that wanted to run when the benchmark began,
	// as averages of 1, 5 and 15 minutes. On a quiet machine they are near 0.
	Load  string `json:"load_average"`
	Go    string `json:"go"`
	NATS  string `json:"nats_server"`
	Redis string `json:"redis_server"`
	// Clients are the versions of the clients that complianced and the bare work use.
	Clients []string `json:"clients"`
}

const unknown = "unknown"

// thisMachine reads what it can; what it cannot is unknown.
func thisMachine() Machine {
	m := Machine{CPU: unknown, Cores: runtime.NumCPU(), Kernel: firstLine("/proc/sys/kernel/osrelease"), Load: unknown, Go: runtime.Version()}
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	if fields := strings.Fields(firstLine("/proc/loadavg")); len(fields) > 3 {
		m.Load = strings.Join(fields[:3], " ")
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range info.Deps {
			if dep.Path == "github.com/nats-io/nats.go" || dep.Path == "github.com/redis/go-redis/v9" {
				m.Clients = append(m.Clients, dep.Path+" "+dep.Version)
			}
		}
	}
	return m
}

func firstLine(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return unknown
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return line
}

// servers reads what the servers say of themselves.
func (m *Machine) servers(ctx context.Context, programs rig.Programs) error {
	nats, errNATS := exec.CommandContext(ctx, programs.NATS, "--version").Output()
	redis, errRedis := exec.CommandContext(ctx, programs.Redis, "--version").Output()
	m.NATS, m.Redis = strings.TrimSpace(string(nats)), strings.TrimSpace(string(redis))
	return errors.Join(errNATS, errRedis)
}
