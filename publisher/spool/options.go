package spool

import (
	"errors"
	"time"

	"github.com/complianced/complianced/publisher"
)

// minBytes is the least that MaxBytes may be: the largest report fits in several
// times.
const minBytes = 1 << 20

// Options says how much a spool keeps and how it sends. The zero value works.
type Options struct {
	// Device is the one device that is reported for; see publisher.Options.
	// Defaults to any device.
	Device string
	// MaxBytes is how many bytes of reports wait at most, ids, headers and 24
	// bytes each included. When a report does not fit the oldest are dropped. The
	// file takes up to about twice as much. Defaults to 16 MiB, about 45,000 reports
	// of 200 bytes; at least 1 MiB.
	MaxBytes int64
	// NoSync leaves it to the operating system when reports reach the disk.
	// Publish is faster and outlives kill -9 all the same, but when the machine
	// itself fails, all that waits may be lost. Defaults to fsync before Publish
	// returns.
	NoSync bool
	// InFlight is how many reports are under way at once. With more than 1 they
	// are sent faster over long ways, but may be stored in another order than
	// that in which they were accepted, which the merge law makes harmless: each
	// has a time of its own.
	// Defaults to 1: strictly in order.
	InFlight int
	// GiveUpAfter is for how long a report is tried again that the server refuses
	// for a reason which may be its own: a missing permission, a sealed stream.
	// Then it counts as refused and makes way for the next. The time counts from
	// the first such answer, also over restarts, by the clock of the machine.
	// Defaults to 1 h.
	GiveUpAfter time.Duration
	// OnRefused is called from Run with a report that the server refuses for
	// good, before it is taken out of the spool; after a crash perhaps again. It
	// must not call Close. Defaults to counting alone.
	OnRefused func(report publisher.Outgoing, err error)
	// Now is the clock that event times come from. Defaults to time.Now.
	Now func() time.Time
}

func (o Options) validate() error {
	if o.MaxBytes < 0 || o.InFlight < 0 || o.GiveUpAfter < 0 {
		return errors.New("spool options: a number or a duration is negative; leave it at 0 for the default")
	}
	if o.MaxBytes != 0 && o.MaxBytes < minBytes {
		return errors.New("spool options: MaxBytes is less than 1 MiB; a few of the largest reports would not fit")
	}
	return nil
}

func (o Options) withDefaults() Options {
	if o.MaxBytes == 0 {
		o.MaxBytes = 16 << 20
	}
	if o.InFlight == 0 {
		o.InFlight = 1
	}
	if o.GiveUpAfter == 0 {
		o.GiveUpAfter = time.Hour
	}
	if o.OnRefused == nil {
		o.OnRefused = func(publisher.Outgoing, error) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}
