package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/ingest"
	"github.com/complianced/complianced/internal/rig"
	"github.com/complianced/complianced/store"
)

// deployment is complianced on servers of its own, and one more Redis with the
// same settings for the bare work.
type deployment struct {
	layout compliance.Layout
	// countsAlone says that the program keeps the counts and nothing else that follows
	// from records.
	countsAlone bool
	dir         string
	nats        *rig.NATS
	redis       *rig.Redis
	bare        *rig.Redis
	worker      *rig.Worker

	nc     *nats.Conn
	js     jetstream.JetStream
	state  *store.Redis
	client *redis.Client
	other  *redis.Client
	// goal is what the worker has to reach.
	goal goal
	// drained is called at the end of a drain, while the worker runs.
	drained func(ctx context.Context) error
	limits  limits
}

// limits are how long things may take before they are an error.
type limits struct {
	// settle is for the servers to come to rest, rest the processor time in a
	// restStep up to which they are.
	settle, rest time.Duration
	// stall is for any floor to move while there is something to merge.
	stall time.Duration
	// ack is for NATS to acknowledge a report.
	ack time.Duration
}

var defaultLimits = limits{settle: time.Minute, rest: restTick, stall: time.Minute, ack: 30 * time.Second}

// goal is up to where the floors have to come.
type goal struct {
	// ends are the last sequences of the partitions.
	ends []uint64
	// last are the last sequences of the buckets' own reports.
	last []uint64
}

// redisArgs are the settings of both servers beside those of the rig. The file is
// not rewritten in the midst of a run.
func redisArgs(appendOnly string) []string {
	return []string{"--appendonly", appendOnly, "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0"}
}

// deploy starts the servers and provisions them. The worker is not started.
func deploy(ctx context.Context, programs rig.Programs, s Settings, appendOnly string) (d *deployment, err error) {
	d = &deployment{layout: s.layout(), limits: defaultLimits}
	d.goal = goal{ends: make([]uint64, s.Partitions), last: make([]uint64, s.Buckets)}
	if d.dir, err = os.MkdirTemp(s.dir, "bench-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	if d.nats, err = programs.NewNATS(ctx, filepath.Join(d.dir, "nats")); err != nil {
		return d, err
	}
	if d.redis, err = programs.NewRedis(ctx, filepath.Join(d.dir, "redis"), redisArgs(appendOnly)...); err != nil {
		return d, err
	}
	if d.bare, err = programs.NewRedis(ctx, filepath.Join(d.dir, "bare"), redisArgs(appendOnly)...); err != nil {
		return d, err
	}
	if d.worker, err = programs.NewWorker(ctx, filepath.Join(d.dir, "worker"), d.nats, d.redis); err != nil {
		return d, err
	}
	if err := errors.Join(d.nats.Start(ctx), d.redis.Start(ctx), d.bare.Start(ctx)); err != nil {
		return d, err
	}
	_, err = d.worker.Command(ctx, "provision", "--max-age", "0",
		"--partitions", strconv.Itoa(s.Partitions), "--buckets", strconv.Itoa(s.Buckets))
	if err != nil {
		return d, err
	}
	return d, d.connect()
}

func (d *deployment) connect() (err error) {
	if d.nc, err = nats.Connect(d.nats.URL); err != nil {
		return err
	}
	d.client, d.other = d.redis.Client(), d.bare.Client()
	if d.state, err = store.New(d.layout, store.Options{URLs: []string{d.redis.URL()}}); err != nil {
		return err
	}
	d.js, err = jetstream.New(d.nc)
	return err
}

// close stops all and removes the data. It works on a deployment that came up in part.
func (d *deployment) close() error {
	var errs []error
	if d.state != nil {
		errs = append(errs, d.state.Close())
	}
	for _, client := range []*redis.Client{d.client, d.other} {
		if client != nil {
			errs = append(errs, client.Close())
		}
	}
	if d.nc != nil {
		d.nc.Close()
	}
	for _, p := range d.processes() {
		errs = append(errs, p.Kill())
	}
	return errors.Join(append(errs, os.RemoveAll(d.dir))...)
}

func (d *deployment) processes() []*rig.Process {
	var all []*rig.Process
	if d.worker != nil {
		all = append(all, d.worker.Process)
	}
	for _, r := range []*rig.Redis{d.redis, d.bare} {
		if r != nil {
			all = append(all, r.Process)
		}
	}
	if d.nats != nil {
		all = append(all, d.nats.Process)
	}
	return all
}

// At rest means that all servers together use no more than a clock tick of processor
// time, in which it is counted, in a step: 2 %. That is less than what a Redis takes
// to enlarge its tables in the background.
const (
	restStep = 500 * time.Millisecond
	restTick = 10 * time.Millisecond
)

// settle waits until the servers have nothing more to do, so that the work of a
// preload is not counted as that of a drain.
func (d *deployment) settle(ctx context.Context) error {
	began := time.Now()
	before, err := d.cpu()
	for err == nil {
		if err = pause(ctx, restStep); err != nil {
			return err
		}
		var now time.Duration
		if now, err = d.cpu(); err != nil || now-before <= d.limits.rest {
			return err
		}
		if time.Since(began) > d.limits.settle {
			return wrongf("the servers do not come to rest in %s: they used %s of processor time in the last %s", d.limits.settle, now-before, restStep)
		}
		before = now
	}
	return err
}

// cpu is what all servers have used together.
func (d *deployment) cpu() (time.Duration, error) {
	var sum time.Duration
	for _, p := range d.processes() {
		if !p.Running() {
			continue
		}
		used, err := p.CPU()
		if err != nil {
			return 0, err
		}
		sum += used
	}
	return sum, nil
}

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// streamEnd returns the last sequence of a partition's stream.
func (d *deployment) streamEnd(ctx context.Context, partition int) (uint64, error) {
	info, err := ingest.NewJetStream(d.js, ingest.StreamName(d.layout, partition)).Info(ctx)
	if err != nil {
		return 0, fmt.Errorf("read the stream: %w", err)
	}
	return info.Last, nil
}
