package rig

import (
	"context"
	"io"
	"net"
	"net/http"
	"path/filepath"

	"github.com/nats-io/nats.go"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// NATS is a nats-server with JetStream.
type NATS struct {
	*Process

	URL string
}

// NewNATS returns a nats-server that keeps everything below a folder. It is not yet started.
func (p Programs) NewNATS(ctx context.Context, dir string) (*NATS, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	n := &NATS{URL: "nats://" + address}
	n.Process, err = newProcess(p.NATS, dir, n.ready, "--addr", host, "--port", port, "--jetstream", "--store_dir", dir)
	return n, err
}

func (n *NATS) ready(context.Context) bool {
	nc, err := nats.Connect(n.URL)
	if err != nil {
		return false
	}
	defer nc.Close()
	js, err := nc.JetStream()
	if err != nil {
		return false
	}
	_, err = js.AccountInfo()
	return err == nil
}

// StoreDir is where the streams lie.
func (n *NATS) StoreDir() string { return filepath.Join(n.dir, "jetstream") }

// Redis is a redis-server.
type Redis struct {
	*Process

	Address string
}

// NewRedis returns a redis-server with the settings that complianced asks for. Args are further settings, as
// "--appendonly", "yes". It is not yet started.
func (p Programs) NewRedis(ctx context.Context, dir string, args ...string) (*Redis, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	r := &Redis{Address: address}
	r.Process, err = newProcess(p.Redis, dir, r.ready, append([]string{
		"--bind", host, "--port", port, "--dir", dir, "--save", "",
		"--maxmemory-policy", "noeviction", "--hash-max-listpack-value", "256",
	}, args...)...)
	return r, err
}

// URL is the address for complianced.
func (r *Redis) URL() string { return "redis://" + r.Address }

// Client returns a client that the caller closes.
func (r *Redis) Client() *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr:                     r.Address,
		DialerRetries:            1,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

func (r *Redis) ready(ctx context.Context) bool {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", r.Address)
	if err != nil {
		return false // Without this look the driver writes to standard error.
	}
	_ = conn.Close()
	client := r.Client()
	defer client.Close() //nolint:errcheck // Nothing was written.
	return client.Ping(ctx).Err() == nil
}

// Worker is a complianced serve on servers of their own.
type Worker struct {
	*Process

	// Metrics is the address of /metrics and /readyz.
	Metrics string
	program string
	servers []string
}

// NewWorker returns a complianced serve. Args are further flags. It is not yet started.
func (p Programs) NewWorker(ctx context.Context, dir string, n *NATS, r *Redis, args ...string) (*Worker, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	w := &Worker{Metrics: address, program: p.Complianced, servers: []string{"--nats-url", n.URL, "--redis-url", r.URL()}}
	flags := append([]string{"serve", "--data-dir", dir, "--metrics-listen", address, "--http-listen", "127.0.0.1:0", "--log-format", "json"}, w.servers...)
	w.Process, err = newProcess(p.Complianced, dir, w.ready, append(flags, args...)...)
	return w, err
}

func (w *Worker) ready(ctx context.Context) bool {
	status, _, err := w.Get(ctx, "/readyz")
	return err == nil && status == http.StatusOK
}

// Get asks the worker's listener.
func (w *Worker) Get(ctx context.Context, path string) (status int, body string, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.Metrics+path, nil)
	if err != nil {
		return 0, "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close() //nolint:errcheck // It was read, or its error is returned.
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(text), err
}

// Command runs another command of complianced on the same servers and returns what it prints.
func (w *Worker) Command(ctx context.Context, args ...string) (string, error) {
	return run(ctx, w.dir, w.program, append(args, w.servers...)...)
}
