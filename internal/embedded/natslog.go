package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/complianced/complianced/internal/mask"
)

// natsLog passes on what the server says, and keeps its fatal errors, the only way in which it reports a start
// that went wrong.
type natsLog struct {
	logger *slog.Logger

	mu     sync.Mutex // Guards fatals.
	fatals []error
}

// Noticef logs what every start and stop says, so it is kept for those who look for it.
func (l *natsLog) Noticef(format string, v ...any) {
	l.logger.Debug("nats-server notice", says(format, v))
}

// Warnf logs a warning.
func (l *natsLog) Warnf(format string, v ...any) {
	l.logger.Warn("nats-server warning", says(format, v))
}

// Errorf logs an error.
func (l *natsLog) Errorf(format string, v ...any) {
	l.logger.Error("nats-server error", says(format, v))
}

// Fatalf keeps the error for fatal; who asks there reports it.
func (l *natsLog) Fatalf(format string, v ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fatals = append(l.fatals, fmt.Errorf(format, v...))
}

// Debugf drops the text: it holds subjects.
func (*natsLog) Debugf(string, ...any) {}

// Tracef drops the text: it holds subjects and payloads.
func (*natsLog) Tracef(string, ...any) {}

func (l *natsLog) fatal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.fatals...)
}

func says(format string, v []any) slog.Attr {
	return slog.String("text", mask.Subjects(fmt.Sprintf(format, v...)))
}
