package main

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/complianced/complianced/internal/fleet"
	"github.com/complianced/complianced/internal/rig"
)

// One report of largeEvery is as large as the stream takes. They come in blocks of
// largeBlock, 64 MB each: spread out they would come to no limit of what the worker
// reads ahead (16 MiB) and merges at a time (8 MiB).
const (
	largeEvery = 100
	largeBlock = 1000
)

// isLarge tells whether the i-th of n reports is large. The block is the last part of
// its share.
func isLarge(i, n int) bool {
	block := max(1, min(largeBlock, n/largeEvery))
	return i%(block*largeEvery) >= block*(largeEvery-1)
}

// maxMessage is the greatest report that the stream takes, headers included.
const maxMessage = 64 << 10

// drainBacklog drains many waiting reports, and once more as many with large ones
// among them, which become dead letters.
func drainBacklog(ctx context.Context, programs rig.Programs, s Settings, appendOnly string, progress func(string)) (b Backlog, err error) {
	b = Backlog{AppendOnly: appendOnly, Reports: s.Backlog}
	options := LoadOptions{
		Mix: fleet.Worst, Devices: s.Devices, Policies: s.Policies, Seed: s.Seed, Start: time.Now().UTC().Truncate(time.Second),
	}
	f, err := options.fleet()
	if err != nil {
		return b, err
	}
	d, err := deploy(ctx, programs, s, appendOnly)
	if err != nil {
		return b, err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	e := newExpected(int(f.Records()))
	lot := func(next func(i int) fleet.Report) (sent, Drained, error) {
		want, err := d.preload(ctx, e, s.Backlog, 0, next)
		if err != nil {
			return want, Drained{}, err
		}
		r, err := d.drain(ctx, want)
		return want, r, errors.Join(err, d.checkState(ctx, e), d.checkDead(ctx, want.rejected))
	}
	_, plain, err := lot(func(i int) fleet.Report { return f.At(uint64(i)) })
	if err != nil {
		return b, err
	}
	b.Peak, b.Seconds = plain.peak, plain.took.Seconds()
	progress("backlog: the first is drained")
	want, large, err := lot(func(i int) fleet.Report {
		r := f.At(uint64(s.Backlog + i))
		if isLarge(i, s.Backlog) {
			enlarge(&r)
		}
		return r
	})
	b.Large, b.PeakLarge, b.SecondsLarge = want.rejected, large.peak, large.took.Seconds()
	return b, err
}

// enlarge fills a report up to what the stream takes.
func enlarge(r *fleet.Report) {
	header := len("NATS/1.0\r\n\r\n")
	for name, all := range r.Message().Header {
		header += len(name) + len(": \r\n") + len(all[0])
	}
	end := len(r.Body) - 1
	spaces := bytes.Repeat([]byte(" "), maxMessage-header-len(r.Body))
	r.Body = append(append(r.Body[:end:end], spaces...), '}')
}
