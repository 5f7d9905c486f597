package embedded

import "log/slog"

// Ping is the readiness check of the child.
var Ping = ping

// DialAddress turns a listening address into one for clients.
var DialAddress = dialAddress

// LogWarning passes one warning of the nats-server through the log adapter.
func LogWarning(logger *slog.Logger, format string, v ...any) {
	(&natsLog{logger: logger}).Warnf(format, v...)
}

// StartStandIn starts the stand-in even where a server is in PATH.
var StartStandIn = startStandIn

// Program is the path of the server that runs as a child; it is empty for the stand-in.
func (r *Redis) Program() string { return r.program }

// PID is the process id of the child, and 0 for the stand-in.
func (r *Redis) PID() int {
	if c, ok := r.server.(*child); ok {
		return c.cmd.Process.Pid
	}
	return 0
}
