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

// ownVersions measures the memory of records of which every property has a version of
// its own.
func ownVersions(ctx context.Context, programs rig.Programs, s Settings, appendOnly string) (m Memory, err error) {
	options := LoadOptions{
		Mix: fleet.Worst, Devices: max(1, s.Devices/ownShare), Policies: s.Policies, Seed: s.Seed, Start: time.Now().UTC().Truncate(time.Second),
	}
	f, err := options.fleet()
	if err != nil {
		return m, err
	}
	d, err := deploy(ctx, programs, s, appendOnly)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	empty, err := usedMemory(ctx, d.client)
	if err != nil {
		return m, err
	}
	records := int(f.Records())
	e := newExpected(records)
	want, err := d.preload(ctx, e, records*compliance.NumProperties, 0, func(i int) fleet.Report { return single(f, i) })
	if err != nil {
		return m, err
	}
	if _, err := d.drain(ctx, want); err != nil {
		return m, err
	}
	if err := d.checkState(ctx, e); err != nil {
		return m, err
	}
	return d.memoryOf(ctx, appendOnly, ofOwn, empty, records)
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

// memoryOf measures the memory of so many records, beside what the server needs when it
// is empty.
func (d *deployment) memoryOf(ctx context.Context, appendOnly string, of Measured, empty int64, records int) (Memory, error) {
	used, err := usedMemory(ctx, d.client)
	if err != nil {
		return Memory{}, err
	}
	follows, err := d.followingMemory(ctx)
	n := float64(records)
	return Memory{
		AppendOnly: appendOnly, Of: of, Records: records, All: float64(used-empty) / n, Alone: float64(used-empty-follows) / n,
	}, err
}

// followingMemory is that of the keys that the state over time needs.
func (d *deployment) followingMemory(ctx context.Context) (sum int64, err error) {
	for b := range d.layout.Buckets {
		for _, name := range []string{"worst", "days", "gracedays", "grace", "attention", "devices", "rollup"} {
			n, err := d.client.MemoryUsage(ctx, fmt.Sprintf("cs:{%02x}:|%s", b, name), 0).Result()
			if err != nil && !errors.Is(err, redis.Nil) {
				return 0, fmt.Errorf("the memory of what follows from records: %w", err)
			}
			sum += n
		}
	}
	return sum, nil
}

// usedMemory waits until the server has settled: its tables grow step by step, and
// connections close. The buffers of clients and of the append-only file come and go,
// and do not count.
func usedMemory(ctx context.Context, client *redis.Client) (int64, error) {
	last := int64(-1)
	for {
		text, err := client.Info(ctx, "memory").Result()
		if err != nil {
			return 0, err
		}
		var n [3]int64
		for i, name := range []string{"used_memory", "mem_clients_normal", "mem_not_counted_for_evict"} {
			if n[i], err = strconv.ParseInt(infoValue(text, name), 10, 64); err != nil {
				return 0, fmt.Errorf("the server's memory: %w", err)
			}
		}
		used := n[0] - n[1] - n[2]
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
