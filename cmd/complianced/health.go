package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
)

// checkTimeout bounds one /readyz.
const checkTimeout = 3 * time.Second

// drainTimeout bounds the wait for scrapes that are under way when the serve ends.
const drainTimeout = 3 * time.Second

// health answers /readyz, live at each call. Before set it is not ready.
type health struct {
	mu    sync.Mutex
	ready func(context.Context) error
	gaps  func(context.Context) (uint64, error)
}

func (h *health) set(ready func(context.Context) error, gaps func(context.Context) (uint64, error)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ready, h.gaps = ready, gaps
}

// ServeHTTP answers 200 with ok, and a warning where the stream has gaps, or 503
// with what is wrong.
func (h *health) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	ready, gaps := h.ready, h.gaps
	h.mu.Unlock()
	if ready == nil {
		http.Error(w, "waiting for NATS and Redis; see the log", http.StatusServiceUnavailable)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), checkTimeout)
	defer cancel()
	if err := ready(ctx); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
	switch n, err := gaps(ctx); {
	case err != nil:
		fmt.Fprintf(w, "warning: it is not known whether the streams have lost reports: %v\n", advise(err))
	case n > 0:
		fmt.Fprintf(w, "warning: the streams have lost %d reports before they were merged; see complianced provision --gaps, "+
			"and forget them with complianced provision --accept-gap\n", n)
	}
}

// listen serves /metrics, /livez and /readyz and returns the address.
func (s *server) listen(ctx context.Context, group *errgroup.Group) (string, error) {
	host, port, _ := splitListen(s.metricsListen)
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return "", fmt.Errorf("metrics: %w; choose another --metrics-listen", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{Registry: s.registry}))
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.Handle("GET /readyz", s.health)
	web := &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	group.Go(func() error {
		if err := web.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("metrics: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		<-ctx.Done()
		// A scrape that is under way still has the store and the servers.
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		if web.Shutdown(limited) == nil {
			return nil
		}
		return web.Close()
	})
	return listener.Addr().String(), nil
}
