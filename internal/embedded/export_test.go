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
