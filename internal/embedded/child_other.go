//go:build !linux

package embedded

import "syscall"

// maxSocketPath is the length of sockaddr_un.sun_path without the closing NUL, on macOS and the BSDs.
const maxSocketPath = 103

// childAttributes keep Ctrl-C away from the child. There is no parent-death signal here.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
