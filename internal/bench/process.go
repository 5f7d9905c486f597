package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// bareProcess is the other side of runBare.
type bareProcess struct {
	d       *deployment
	cmd     *exec.Cmd
	in      io.WriteCloser
	encoder *json.Encoder
	decoder *json.Decoder
}

// startBare starts the bare work of a deployment.
func (d *deployment) startBare(ctx context.Context, settings BareSettings, load LoadOptions) (*bareProcess, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &bareProcess{d: d, cmd: exec.CommandContext(ctx, program, bareCommand)}
	p.cmd.Stderr = os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	p.encoder, p.decoder = json.NewEncoder(p.in), json.NewDecoder(out)
	options := BareOptions{
		NATS: d.nats.URL, Redis: d.bare.Address, Partitions: d.layout.Partitions, Buckets: d.layout.Buckets,
		Settings: settings, Load: load,
	}
	if err := p.encoder.Encode(options); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

func (p *bareProcess) close() error { return errors.Join(p.in.Close(), p.cmd.Wait()) }

// prepare makes it get ready, and does not wait for it.
func (p *bareProcess) prepare(task BareTask) error { return p.encoder.Encode(task) }

// ready waits until it is ready.
func (p *bareProcess) ready() error {
	var ready BareReady
	if err := p.decoder.Decode(&ready); err != nil {
		return fmt.Errorf("the bare work is not ready: %w", err)
	}
	return nil
}

// run lets it work.
func (p *bareProcess) run(ctx context.Context, start BareStart) (result BareResult, used Usage, err error) {
	if err := p.d.settle(ctx); err != nil {
		return result, used, err
	}
	redis, errRedis := p.d.bare.CPU()
	nats, errNATS := p.d.nats.CPU()
	if err := errors.Join(errRedis, errNATS, p.encoder.Encode(start)); err != nil {
		return result, used, err
	}
	if err := p.decoder.Decode(&result); err != nil {
		return result, used, fmt.Errorf("the bare work ended early: %w", err)
	}
	redisAfter, errRedis := p.d.bare.CPU()
	natsAfter, errNATS := p.d.nats.CPU()
	used = Usage{Program: result.CPU, Redis: redisAfter - redis, NATS: natsAfter - nats}
	return result, used, errors.Join(errRedis, errNATS)
}

// live lets it work on reports that are published meanwhile.
func (p *bareProcess) live(start BareStart, publish func() error) (result BareResult, err error) {
	if err := errors.Join(p.encoder.Encode(start), p.ready()); err != nil {
		return result, err
	}
	if err := publish(); err != nil {
		return result, err
	}
	if err := p.decoder.Decode(&result); err != nil {
		return result, fmt.Errorf("the bare work ended early: %w", err)
	}
	return result, nil
}
