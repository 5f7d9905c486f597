package main

import (
	"errors"
	"os"
	"strconv"
	"syscall"
)

// yieldNice is the nice value of a program whose work can wait.
const yieldNice = 10

// yieldProcessor lets other programs of this machine go first: workers and servers, if
// they run here. Linux has a priority for each thread; later ones get that of the thread
// that makes them.
func yieldProcessor() error {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, thread := range threads {
		id, err := strconv.Atoi(thread.Name())
		if err != nil {
			return err
		}
		if err := syscall.Setpriority(syscall.PRIO_PROCESS, id, yieldNice); err != nil && !errors.Is(err, syscall.ESRCH) {
			return os.NewSyscallError("setpriority", err)
		}
	}
	return nil
}
