package main

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/complianced/complianced/metrics"
)

// These guard the addresses of servers.
var (
	WithoutPassword = withoutPassword
	HoldsPassword   = holdsPassword
	CheckAddresses  = checkAddresses
)

// SetFlag gives a flag a setting of YAML.
var SetFlag = set

// WatchRead returns the read with its causes of failure logged.
func WatchRead(log *slog.Logger, read func(context.Context) (metrics.Snapshot, error)) func(context.Context) (metrics.Snapshot, error) {
	return (&watchedRead{read: read, log: log, pipeline: metrics.NewPipeline(prometheus.NewRegistry(), version)}).call
}
