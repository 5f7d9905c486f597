package main

import (
	"context"
	"errors"
	"time"

	"github.com/complianced/complianced/internal/fleet"
	"github.com/complianced/complianced/internal/rig"
)

// session is a deployment with the load of one mix, whose records are all there.
type session struct {
	*deployment

	settings Settings
	options  LoadOptions
	fleet    *fleet.Fleet
	expected *expected
	// made is the index of the next report.
	made uint64
	// bareWork has its own records, in a Redis of its own.
	bareWork *bareProcess
	// empty is the memory of Redis without records, and bareEmpty that of the bare
	// work's.
	empty, bareEmpty int64
}

// newSession starts a deployment and creates all records, and those of the bare work.
func newSession(ctx context.Context, programs rig.Programs, s Settings, appendOnly string, mix fleet.Mix) (*session, error) {
	o, err := startSession(ctx, programs, s, appendOnly, mix, false)
	if err != nil {
		return nil, err
	}
	if err := o.createBare(ctx); err != nil {
		return nil, errors.Join(err, o.close())
	}
	return o, nil
}

// startSession starts a deployment and creates all records. With countsAlone, the
// program keeps nothing else that follows from them.
func startSession(ctx context.Context, programs rig.Programs, s Settings, appendOnly string, mix fleet.Mix, countsAlone bool) (o *session, err error) {
	o = &session{settings: s, options: LoadOptions{
		Mix: mix, Devices: s.Devices, Policies: s.Policies, Seed: s.Seed, Start: time.Now().UTC().Truncate(time.Second),
	}}
	if o.fleet, err = o.options.fleet(); err != nil {
		return nil, err
	}
	if o.deployment, err = deploy(ctx, programs, s, appendOnly); err != nil {
		return nil, err
	}
	o.countsAlone = countsAlone
	if err := o.create(ctx); err != nil {
		return nil, errors.Join(err, o.close())
	}
	return o, nil
}

func (o *session) close() error {
	var err error
	if o.bareWork != nil {
		err = o.bareWork.close()
	}
	return errors.Join(err, o.deployment.close())
}

func (o *session) records() int { return int(o.fleet.Records()) }

// memory is that of the records.
func (o *session) memory(ctx context.Context, appendOnly string, of Measured) (Memory, error) {
	return o.memoryOf(ctx, appendOnly, of, o.empty, o.records())
}

// bareMemory is that of the hashes of the bare work.
func (o *session) bareMemory(ctx context.Context, appendOnly string) (Memory, error) {
	used, err := usedMemory(ctx, o.other)
	return Memory{AppendOnly: appendOnly, Of: ofBare, Records: o.records(), All: float64(used-o.bareEmpty) / float64(o.records())}, err
}

// create creates the records by the first round of the mix.
func (o *session) create(ctx context.Context) (err error) {
	o.expected = newExpected(o.records())
	if o.empty, err = usedMemory(ctx, o.client); err != nil {
		return err
	}
	want, err := o.preload(ctx, o.expected, o.records(), 0, func(i int) fleet.Report { return o.fleet.At(uint64(i)) })
	if err != nil {
		return err
	}
	o.made = o.fleet.Records()
	if _, err := o.drain(ctx, want); err != nil {
		return err
	}
	return o.checkState(ctx, o.expected)
}

// createBare starts the bare work, which creates its records.
func (o *session) createBare(ctx context.Context) (err error) {
	if o.bareWork, err = o.startBare(ctx, o.settings.Bare, o.options); err != nil {
		return err
	}
	if o.bareEmpty, err = usedMemory(ctx, o.other); err != nil {
		return err
	}
	if err := errors.Join(o.bareWork.prepare(BareTask{Reports: o.records(), Create: true}), o.bareWork.ready()); err != nil {
		return err
	}
	if _, _, err := o.bareWork.run(ctx, BareStart{}); err != nil {
		return err
	}
	return o.checkBareKeys(ctx, o.expected)
}

// publish publishes n reports of the mix. What was to be sent a second time after
// the end of the reports before is left out, so that a lot follows from where it
// begins.
func (o *session) publish(ctx context.Context, n, rate int) (sent, error) {
	o.fleet.Seek(o.made)
	return o.preload(ctx, o.expected, n, rate, func(int) fleet.Report {
		r := o.fleet.Next()
		o.made = max(o.made, r.Index+1)
		return r
	})
}

// Run is one run of the system and the bare work on the same reports.
type Run struct {
	system Drained
	bare   BareResult
	used   Usage
}

// speed measures as often as the settings say. The system and the bare work take
// turns in being first.
func (o *session) speed(ctx context.Context, progress func(string)) (runs []Run, err error) {
	for i := range o.settings.Count {
		r, err := o.run(ctx, o.bareWork, i%2 == 1)
		if err != nil {
			return nil, err
		}
		progress("speed: " + r.String())
		runs = append(runs, r)
	}
	return runs, nil
}

// run measures once.
func (o *session) run(ctx context.Context, bare *bareProcess, bareFirst bool) (r Run, err error) {
	if err := bare.prepare(BareTask{From: o.made, Reports: o.settings.Reports}); err != nil {
		return r, err
	}
	var start BareStart
	ends := append([]uint64(nil), o.goal.ends...)
	want, err := o.publish(ctx, o.settings.Reports, 0)
	if err := errors.Join(err, bare.ready()); err != nil {
		return r, err
	}
	for partition, end := range ends {
		start.First = append(start.First, end+1)
		start.Each = append(start.Each, int(o.goal.ends[partition]-end))
	}
	work := []func() error{
		func() error { r.system, err = o.drain(ctx, want); return err },
		func() error { r.bare, r.used, err = bare.run(ctx, start); return err },
	}
	if bareFirst {
		work[0], work[1] = work[1], work[0]
	}
	for _, work := range work {
		if err := work(); err != nil {
			return r, err
		}
	}
	if r.bare.Read != want.reports || r.bare.Written != want.reports {
		return r, wrongf("the bare work read %d and wrote %d, not %d", r.bare.Read, r.bare.Written, want.reports)
	}
	return r, errors.Join(o.checkState(ctx, o.expected), o.checkBare(ctx, o.expected))
}
