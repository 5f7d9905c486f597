package embedded

import "syscall"

// maxSocketPath is the length of sockaddr_un.sun_path without the closing NUL.
const maxSocketPath = 107

// childAttributes let the kernel end the child when its parent is gone, and keep Ctrl-C away from it.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
}
