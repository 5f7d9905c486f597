package main

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/internal/rig"
)

// Memory is Redis memory per record, everything included: keys, counts, floors,
// indexes and what the server needs to keep them.
type Memory struct {
	AppendOnly string `json:"appendonly"`
	// Uniform is that of records written by full reports.
	Uniform        float64 `json:"uniform"`
	UniformRecords int     `json:"uniform_records"`
	// Own is that of records of which every property has a version of its own.
	Own        float64 `json:"own"`
	OwnRecords int     `json:"own_records"`
}

// ownShare is how many of the records the second figure is measured on: one in this
// many, each of which takes nine reports.
const ownShare = 25

// measureMemory fills two deployments.
func measureMemory(ctx context.Context, programs rig.Programs, s Settings, appendOnly string) (Memory, error) {
	m := Memory{AppendOnly: appendOnly, UniformRecords: s.Devices * s.Policies}
	m.OwnRecords = max(1, m.UniformRecords/ownShare)
	var err error
	m.Uniform, err = fill(ctx, programs, s, appendOnly, m.UniformRecords, m.UniformRecords,
		func(l *load, i int) outgoing { return l.first(i) })
	if err != nil {
		return m, err
	}
	m.Own, err = fill(ctx, programs, s, appendOnly, m.OwnRecords, m.OwnRecords*compliance.NumProperties, func(l *load, i int) outgoing {
		record, report := i/compliance.NumProperties, i%compliance.NumProperties
		// The id comes last: its version is then none of the others'.
		return l.single(record, compliance.Property((report+1)%compliance.NumProperties))
	})
	return m, err
}

// fill drains reports into an empty deployment and returns the bytes per record.
func fill(ctx context.Context, programs rig.Programs, s Settings, appendOnly string, records, reports int, next func(*load, int) outgoing,
) (perRecord float64, err error) {
	d, err := deploy(ctx, programs, s, appendOnly)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	before, err := d.usedMemory(ctx)
	if err != nil {
		return 0, err
	}
	l := newLoad(LoadOptions{Mix: WorstCase, Devices: s.Devices, Policies: s.Policies, Seed: s.Seed, Epoch: time.Now().UTC().Truncate(time.Second)})
	want, err := d.preload(ctx, reports, 0, func(i int) outgoing { return next(l, i) })
	if err != nil {
		return 0, err
	}
	if _, err := d.drain(ctx, want); err != nil {
		return 0, err
	}
	if err := d.checkState(ctx, l, records); err != nil {
		return 0, err
	}
	after, err := d.usedMemory(ctx)
	return float64(after-before) / float64(records), err
}

// usedMemory waits until the server has settled: its tables grow step by step, and
// the buffers of connections that closed go.
func (d *deployment) usedMemory(ctx context.Context) (int64, error) {
	last := int64(-1)
	for {
		text, err := d.client.Info(ctx, "memory").Result()
		if err != nil {
			return 0, err
		}
		used := int64(-1)
		for line := range strings.Lines(text) {
			if value, ok := strings.CutPrefix(line, "used_memory:"); ok {
				if used, err = strconv.ParseInt(strings.TrimSpace(value), 10, 64); err != nil {
					return 0, err
				}
			}
		}
		if used > 0 && (used-last)*1000 < used && (last-used)*1000 < used {
			return used, nil
		}
		last = used
		if err := pause(ctx, time.Second/2); err != nil {
			return 0, err
		}
	}
}
