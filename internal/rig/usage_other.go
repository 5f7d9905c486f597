//go:build !linux

package rig

import (
	"errors"
	"syscall"
	"time"
)

var errNoProc = errors.New("only Linux tells what a process has used")

// CPU needs Linux.
func (p *Process) CPU() (time.Duration, error) { return 0, errNoProc }

// PeakMemory needs Linux.
func (p *Process) PeakMemory() (int64, error) { return 0, errNoProc }

func attributes() *syscall.SysProcAttr { return nil }
