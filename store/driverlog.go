package store

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/redis/go-redis/v9"
)

// LogDriver sends what the driver says by itself to a log, at level debug:
// whatever matters of it is in an error of this package too. It is a setting of
// the whole process; without it the driver writes to standard error.
func LogDriver(log *slog.Logger) { redis.SetLogger(driverLog{log}) }

type driverLog struct{ log *slog.Logger }

// Printf is what the driver calls.
func (d driverLog) Printf(ctx context.Context, format string, args ...any) {
	if d.log.Enabled(ctx, slog.LevelDebug) {
		d.log.LogAttrs(ctx, slog.LevelDebug, "the redis driver speaks", slog.String("text", fmt.Sprintf(format, args...)))
	}
}
