package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// bareRun runs the bare work as a process of its own, and reads what it cost.
func (d *deployment) bareRun(ctx context.Context, task BareTask) (BareResult, Usage, error) {
	task.NATS, task.Redis, task.Layout = d.nats.URL, d.bare.Address, d.layout
	program, err := os.Executable()
	if err != nil {
		return BareResult{}, Usage{}, err
	}
	cmd := exec.CommandContext(ctx, program, bareCommand)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return BareResult{}, Usage{}, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return BareResult{}, Usage{}, err
	}
	if err := cmd.Start(); err != nil {
		return BareResult{}, Usage{}, err
	}
	result, used, err := d.talk(ctx, task, json.NewEncoder(in), in.Write, bufio.NewReader(out))
	return result, used, errors.Join(err, in.Close(), cmd.Wait())
}

// talk is the other side of runBare.
func (d *deployment) talk(ctx context.Context, task BareTask, encoder *json.Encoder, write func([]byte) (int, error), out *bufio.Reader,
) (result BareResult, used Usage, err error) {
	if err := encoder.Encode(task); err != nil {
		return result, used, err
	}
	if _, err := out.ReadString('\n'); err != nil {
		return result, used, fmt.Errorf("the bare work is not ready: %w", err)
	}
	step("bare: ready")
	if err := d.settle(ctx); err != nil {
		return result, used, err
	}
	step("bare: settled")
	redis, errRedis := d.bare.CPU()
	nats, errNATS := d.nats.CPU()
	if err := errors.Join(errRedis, errNATS); err != nil {
		return result, used, err
	}
	if _, err := write([]byte("go\n")); err != nil {
		return result, used, err
	}
	if err := json.NewDecoder(out).Decode(&result); err != nil {
		return result, used, fmt.Errorf("the bare work ended early: %w", err)
	}
	step("bare: done")
	redisAfter, errRedis := d.bare.CPU()
	natsAfter, errNATS := d.nats.CPU()
	used = Usage{Program: result.CPU, Redis: redisAfter - redis, NATS: natsAfter - nats}
	return result, used, errors.Join(errRedis, errNATS)
}

// Run is one run of the system and the bare work on the same reports.
type Run struct {
	system Drained
	bare   BareResult
	used   Usage
}

// session is a deployment with a load of one mix, whose records are all there.
type session struct {
	*deployment

	settings Settings
	load     *load
	// made is how many reports of the mix were made.
	made int
}

// newSession creates all records, in both servers.
func newSession(ctx context.Context, d *deployment, s Settings, mix Mix) (*session, error) {
	o := &session{deployment: d, settings: s, load: newLoad(LoadOptions{
		Mix: mix, Devices: s.Devices, Policies: s.Policies, Seed: s.Seed, Epoch: time.Now().UTC().Truncate(time.Second),
	})}
	n := len(o.load.pairs)
	want, err := d.preload(ctx, n, 0, o.load.first)
	if err != nil {
		return nil, err
	}
	step("published")
	if _, err := d.drain(ctx, want); err != nil {
		return nil, err
	}
	step("drained")
	if err := d.checkState(ctx, o.load, n); err != nil {
		return nil, err
	}
	return o, nil
}

func (o *session) create(ctx context.Context) error {
	_, _, err := o.bareRun(ctx, BareTask{Settings: o.settings.Bare, Load: o.load.options, Create: true})
	if err != nil {
		return err
	}
	return o.checkBare(ctx, o.load)
}

// publish publishes n reports of the mix.
func (o *session) publish(ctx context.Context, n, rate int) (sent, error) {
	o.made += n
	return o.preload(ctx, n, rate, func(int) outgoing { return o.load.next() })
}

// run measures once. Bare says that the bare work is first.
func (o *session) run(ctx context.Context, bareFirst bool) (Run, error) {
	var r Run
	task := BareTask{Settings: o.settings.Bare, Load: o.load.options, Skip: o.made}
	ends := append([]uint64(nil), o.goal.ends...)
	want, err := o.publish(ctx, o.settings.Reports, 0)
	if err != nil {
		return r, err
	}
	step("run: published")
	defer step("run: all")
	for partition, end := range ends {
		task.First = append(task.First, end+1)
		task.Each = append(task.Each, int(o.goal.ends[partition]-end))
	}
	bare := func() error {
		r.bare, r.used, err = o.bareRun(ctx, task)
		if err == nil && (r.bare.Read != want.reports || r.bare.Written != want.reports) {
			err = wrongf("the bare work read %d and wrote %d, not %d", r.bare.Read, r.bare.Written, want.reports)
		}
		return errors.Join(err, o.checkBare(ctx, o.load))
	}
	if bareFirst {
		if err := bare(); err != nil {
			return r, err
		}
	}
	if r.system, err = o.drain(ctx, want); err != nil {
		return r, err
	}
	if err := o.checkState(ctx, o.load, len(o.load.pairs)); err != nil {
		return r, err
	}
	if !bareFirst {
		return r, bare()
	}
	return r, nil
}
