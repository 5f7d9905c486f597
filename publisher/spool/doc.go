// Package spool keeps the reports of a device agent on disk until a server takes
// them, so that neither an outage of NATS nor a restart of the agent loses one.
//
// # An agent's view
//
//	s, err := spool.Open("/var/lib/agent/spool", spool.Options{Device: "laptop-7"})
//	if err != nil {
//		return err
//	}
//	defer s.Close()
//	go func() { // Close waits for Run.
//		if err := s.Run(ctx, p); err != nil && ctx.Err() == nil { // p is a publisher.Publisher.
//			log.Print(err) // The table below says when to call it again.
//		}
//	}()
//
//	_, err = s.Publish(ctx, publisher.Outgoing{
//		Key:  compliance.Key{Policy: "disk-encryption", Device: "laptop-7"},
//		Body: []byte(`{"status":"compliant"}`),
//	})
//
// # Promises
//
//   - Accepted means on disk: what Publish accepted outlives kill -9 of the agent
//     and a failure of the machine, and is sent until a server has stored it. With
//     Options.NoSync it outlives kill -9 alone.
//   - One report, one id, one time: both are given when the report is accepted,
//     kept with it, and the same in every attempt, also after restarts. Times go
//     up over restarts too, as those of a publisher do.
//   - At least once: after kill -9 up to 256 reports that were already accepted by
//     the server, and those of Options.InFlight, are sent again, with the same id
//     and time. The merge law makes the copies harmless.
//   - In order: the oldest first, each when the one before it is stored, unless
//     Options.InFlight allows more.
//   - Bounded: at most Options.MaxBytes wait. Beyond that the oldest are dropped,
//     and Stats.Dropped counts them.
//   - Nothing blocks the rest for ever: a report that the server refuses for good
//     is handed to Options.OnRefused and counted.
//   - Checked: each entry has a checksum. One that does not fit is not sent, but
//     counted in Stats.Corrupt. A file that cannot be read at all is set aside under
//     a name with the time, and the spool begins anew: an agent starts whatever
//     happened to its disk.
//   - Accounted for: every report that the file took is waiting, sent, dropped,
//     refused or corrupt, and Stats counts it once. A file that is set aside takes
//     its reports and its numbers along, and they begin anew; Stats.Damaged names
//     it.
//   - One process a folder: a second Open waits for a second and is ErrLocked.
//     The lock ends with its process; it is on the file reports.lock, which stays.
//   - Nothing is logged, and no error text holds a device, a user or a secret; an
//     error of the disk holds the path of the folder.
//
// A report has its time before it waits: with NoEventTime it needs ce-time in Header,
// else Publish refuses it. So it does with headers of the server, whose names begin
// with Nats-.
//
// A spool sees no more than the publisher does: a report that is wrong in itself,
// as JSON or by the rules of the record, is sent and becomes a dead letter.
//
// # Errors, and what an agent does
//
//	error                        when                              what to do
//	publisher.ErrInvalidKey      ┐ Publish: the report could       correct the program
//	publisher.ErrInvalidHeader   │ never be sent; it is not in     correct the program
//	publisher.ErrInvalidTime     │ the spool                       correct the program or the clock
//	publisher.ErrTooLarge        ┘                                 send less; 16 KiB is the most that is applied
//	ErrLocked                    Open: another process has the     give each agent its own folder, or stop the other
//	                             folder
//	ErrClosed                    Publish, Run: after Close         open it again
//	ErrRunning                   Run: it is under way already      call it once
//	ErrOtherDevice               Run: the publisher is not for     correct the program; nothing is lost
//	                             the device of a report
//	ErrDamaged                   Publish, Run: a page of the file  close the spool and open it again; tell the
//	                             cannot be read any more           operator to look at the disk
//	publisher.ErrClosed          Run: the publisher is closed      connect again and call Run; nothing is lost
//	the error of ctx             Run: ctx ended                    call Run again; nothing is lost
//	an error of the disk         Open, Publish, Run: no room, no   tell the operator; publish again with the id and
//	                             permission                        time that came with the error; call Run again
//
// What a server answers never comes out of Publish. Run tries again for as long as
// it takes where the fault goes away by itself (no connection, no stream, no
// answer) or lies in the credentials; for Options.GiveUpAfter where it may be the
// server's (ErrNotAllowed of a subject, ErrMaxPayload, RefusedError, ErrDriver); and
// not at all where it is the report's (ErrTooLarge of the stream).
//
// # The file
//
// The spool is one file, reports.v1.db, of [bbolt]: a log that is changed in
// transactions has no torn tail to be repaired, and a file system that is full
// leaves it as it was. Beside it lies reports.lock. It grows with what waits, up to about twice
// Options.MaxBytes, or 4 MiB where that is more, and keeps its size.
//
// [bbolt]: https://pkg.go.dev/go.etcd.io/bbolt
package spool
