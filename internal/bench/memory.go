package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/internal/fleet"
	"github.com/complianced/complianced/internal/rig"
)

// ownShare is how many of the devices the second figure is measured on: one in this
// many, with nine reports for each record.
const ownShare = 25

// ownMemory returns the memory of Redis per record, and how many records it was
// measured on, of records of which every property has a version of its own.
func ownMemory(ctx context.Context, programs rig.Programs, s Settings, appendOnly string) (perRecord float64, records int, err error) {
	options := LoadOptions{
		Mix: fleet.Worst, Devices: max(1, s.Devices/ownShare), Policies: s.Policies, Seed: s.Seed, Start: time.Now().UTC().Truncate(time.Second),
	}
	f, err := options.fleet()
	if err != nil {
		return 0, 0, err
	}
	d, err := deploy(ctx, programs, s, appendOnly)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	before, err := usedMemory(ctx, d.client)
	if err != nil {
		return 0, 0, err
	}
	records = int(f.Records())
	e := newExpected(records)
	want, err := d.preload(ctx, e, records*compliance.NumProperties, 0, func(i int) fleet.Report { return single(f, i) })
	if err != nil {
		return 0, 0, err
	}
	if _, err := d.drain(ctx, want); err != nil {
		return 0, 0, err
	}
	if err := d.checkState(ctx, e); err != nil {
		return 0, 0, err
	}
	after, err := usedMemory(ctx, d.client)
	return float64(after-before) / float64(records), records, err
}

// single returns the i-th report with one property alone: another one in each round,
// and in the last round none, so that the id has a version of its own too.
func single(f *fleet.Fleet, i int) fleet.Report {
	r := f.At(uint64(i))
	property := compliance.Property(i/int(f.Records())+1) % compliance.NumProperties
	var body map[string]json.RawMessage
	if json.Unmarshal(r.Body, &body) != nil {
		return r
	}
	r.Body = []byte("{}")
	if value, set := body[property.String()]; set {
		r.Body = fmt.Appendf(nil, `{"%s":%s}`, property, value)
	}
	return r
}

// usedMemory waits until the server has settled: its tables grow step by step, and
// the buffers of connections that closed go.
func usedMemory(ctx context.Context, client *redis.Client) (int64, error) {
	last := int64(-1)
	for {
		text, err := client.Info(ctx, "memory").Result()
		if err != nil {
			return 0, err
		}
		used, err := strconv.ParseInt(infoValue(text, "used_memory"), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("the server's memory: %w", err)
		}
		if (used-last)*1000 < used && (last-used)*1000 < used {
			return used, nil
		}
		last = used
		if err := pause(ctx, time.Second/5); err != nil {
			return 0, err
		}
	}
}

// infoValue returns a value of the server's INFO.
func infoValue(info, name string) string {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
