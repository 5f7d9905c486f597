package spool_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/complianced/complianced/publisher/internal/natstest"
	"github.com/complianced/complianced/publisher/spool"
)

var errDisk = errors.New("the disk does not answer")

// inTheFile is a change that is in the file though its last fsync failed.
func inTheFile(db *bbolt.DB, change func(*bbolt.Tx) error) error {
	return errors.Join(db.Update(change), errDisk)
}

func TestAReportWhoseFsyncFailedIsCountedAndKeepsItsID(t *testing.T) {
	server := natstest.New(t)
	stream := natstest.MakeStream(t, natstest.Connect(t, server.ClientURL()))
	s := open(t, t.TempDir(), spool.Options{})
	spool.FailNext(s, inTheFile)
	o := numbered(0, 0)
	got, err := s.Publish(t.Context(), o)
	if !errors.Is(err, errDisk) || got.EventID == "" || got.EventTime.IsZero() {
		t.Fatalf("%+v, %v", got, err)
	}
	if stats := s.Stats(); stats.Waiting != 1 {
		t.Errorf("%+v, but the report is in the file", stats)
	}
	o.EventID, o.EventTime = got.EventID, got.EventTime
	publish(t, s, o)
	run(t, s, natstest.Publisher(t, server.ClientURL(), quick))
	empty(t, s)
	if diff := cmp.Diff(spool.Stats{Sent: 2}, s.Stats()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, msg := range stored(t, stream) {
		if msg.Header.Get("ce-id") != got.EventID {
			t.Errorf("sent with the id %s, want %s", msg.Header.Get("ce-id"), got.EventID)
		}
	}
}

func TestWhatWasTakenOutThoughFsyncFailedIsCountedOnce(t *testing.T) {
	server := natstest.New(t)
	stream := natstest.MakeStream(t, natstest.Connect(t, server.ClientURL()))
	p := natstest.Publisher(t, server.ClientURL(), quick)
	dir := t.TempDir()
	s := open(t, dir, spool.Options{})
	publish(t, s, numbered(0, 0), numbered(1, 0))
	spool.FailNext(s, inTheFile)
	if err := s.Run(t.Context(), p); !errors.Is(err, errDisk) {
		t.Fatalf("Run: %v", err)
	}
	if diff := cmp.Diff(spool.Stats{Sent: 2}, s.Stats()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	publish(t, s, numbered(2, 0))
	run(t, s, p)
	empty(t, s)
	shut(t, s)
	if diff := cmp.Diff(spool.Stats{Sent: 3}, open(t, dir, spool.Options{}).Stats()); diff != "" {
		t.Errorf("opened again (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(upTo(3), platforms(t, stored(t, stream))); diff != "" {
		t.Errorf("reports (-want +got):\n%s", diff)
	}
}

// Where memory is short bbolt cannot map the file, and does not use it any more.
func TestAFileThatCouldNotBeMappedIsOpenedAgain(t *testing.T) {
	s := open(t, t.TempDir(), spool.Options{})
	publish(t, s, numbered(0, 0))
	spool.FailNext(s, func(db *bbolt.DB, _ func(*bbolt.Tx) error) error {
		return errors.Join(db.Close(), berrors.ErrInvalidMapping)
	})
	if _, err := s.Publish(t.Context(), numbered(1, 0)); !errors.Is(err, berrors.ErrInvalidMapping) {
		t.Errorf("got %v", err)
	}
	publish(t, s, numbered(2, 0))
	if stats := s.Stats(); stats.Waiting != 2 {
		t.Errorf("%+v", stats)
	}
}
