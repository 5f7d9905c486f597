package spool

import (
	"errors"

	"github.com/complianced/complianced/publisher"
)

// What a spool answers with; the package comment has the table.
var (
	// ErrLocked says that another spool, of this process or another, has the
	// folder open.
	ErrLocked = errors.New("another process uses this spool folder; give each agent a folder of its own, or stop the other one")
	// ErrClosed says that the spool is closed.
	ErrClosed = errors.New("the spool is closed")
	// ErrRunning says that Run is already under way.
	ErrRunning = errors.New("the spool is already being sent; call Run once")
	// ErrOtherDevice says that the publisher of Run is for another device than a
	// report that waits. Nothing was sent of it, and it is kept.
	ErrOtherDevice = errors.New("the publisher is for another device than a report in the spool; give both the same Options.Device, and each device a spool folder of its own")
	// ErrDamaged says that the file of the spool cannot be read any more. It was
	// set aside, and the next Open begins a new one.
	ErrDamaged = errors.New("the file of the spool is damaged; it was set aside; close the spool and open it again, which begins a new file")
)

// verdict is what an error of Publish means for the report.
type verdict int

const (
	// again: it says nothing about the report, and goes away in time.
	again verdict = iota
	// doubtful: the server refuses, and the fault may be the report's or its own.
	doubtful
	// refused: the same report will be refused for ever.
	refused
)

func judge(err error) verdict {
	_, unacked := errors.AsType[*publisher.UnackedError](err)
	switch {
	case unacked, errors.Is(err, publisher.ErrCredentials):
		return again
	case errors.Is(err, publisher.ErrMaxPayload):
		return doubtful
	case errors.Is(err, publisher.ErrTooLarge):
		return refused
	}
	return doubtful
}
