// Package publisher sends compliance reports and knows when they are accepted.
// It is what device agents and replay tools import.
//
// # An agent's view
//
//	p, err := publisher.Connect(ctx, "nats://nats.example:4222", publisher.Options{Device: "laptop-7"})
//	if err != nil {
//		return err
//	}
//	defer p.Close()
//
//	ack, err := p.Publish(ctx, publisher.Outgoing{
//		Key:  compliance.Key{Policy: "disk-encryption", Device: "laptop-7"},
//		Body: []byte(`{"status":"compliant"}`),
//	})
//
// One publisher serves a whole program: its methods may be called from many
// goroutines. An agent in another language needs no more than a NATS client: a
// JetStream publish to compliance.status.<policy>.<device> with the headers
// ce-id and ce-time.
//
// # Promises
//
//   - Accepted means stored: Publish returns an [Ack] for a PubAck of JetStream
//     that is not marked duplicate, and for nothing else.
//   - One report, one id, one time: the id (UUIDv7) and the time are made once
//     and every further attempt carries the same. An attempt whose PubAck was
//     lost is stored, and the next one stores the report a second time. That is
//     harmless: the merge law makes the state a function of the set of reports,
//     and the second copy changes nothing.
//   - Time goes up: no two reports of a publisher are stamped with the same
//     100 ns tick, and a later one has a later tick, also where the clock stands
//     still or is set back by up to ten minutes. A clock that was further ahead
//     than that made reports that are refused (futureEventTime); the publisher
//     follows it back.
//   - Nats-Msg-Id is never set. The server's de-duplication spans all devices,
//     so one device could suppress the report of another.
//   - Nothing is sent while there is no connection, so that an outage does not
//     end in a burst of copies.
//   - No error text holds a device, a user, a secret or the URL, and nothing is
//     logged.
//   - PublishAsync calls done exactly once for each report that it took, and never
//     has more than Options.MaxInFlight under way. They may be stored in another
//     order than that of the calls, which the merge law makes harmless, but for
//     reports without a time of their own (Outgoing.NoEventTime).
//   - Close waits for what is in flight.
//
// A publisher does not look into the body: whether a report is right is decided
// by one decoder, behind the stream. A report that is wrong is accepted all the
// same, becomes a dead letter and, for PublishAndWait, a result whose outcome is
// rejected.
//
// # Errors, and what an agent does
//
//	error            when                                          what to do
//	[*UnackedError]  ctx ended, MaxAttempts used up, or Close      keep the report; publish it again with the
//	                                                               EventID and EventTime that the error holds
//	ErrNoStream      ┐ the cause of the last attempt, inside       the operator runs complianced provision
//	ErrNotConnected  │ an UnackedError; find it with errors.Is     wait for the network
//	ErrNoAnswer      ┘                                             wait for the server
//	ErrMaxAttempts   why an UnackedError: no attempt was left      as for UnackedError
//	ErrInvalidKey    an id is not 1 to 128 of A-Z a-z 0-9 _ -      correct the program
//	ErrInvalidHeader a header or event id that cannot be sent      correct the program
//	ErrInvalidTime   a time that is zero when cut to 100 ns, or
//	                 outside the years 1 to 9999                   correct the program or the clock
//	ErrTooLarge      the server or stream takes no report so large send less; 16 KiB is the most that is applied
//	ErrMaxPayload    the ErrTooLarge of the server's max_payload   tell the operator: it is too low
//	ErrNotAllowed    the server refused credentials or permission  tell the operator; keep the report
//	ErrCredentials   the ErrNotAllowed of refused credentials      renew them; the connection goes on trying
//	ErrDuplicate     the caller set Nats-Msg-Id                    leave Nats-Msg-Id out and publish again
//	[*RefusedError]  JetStream refused for another reason for good tell the operator
//	ErrDriver        a server without headers, an answer that is   tell the operator; keep the report
//	                 no PubAck, and all else that is not known to
//	                 go away
//	[*NoResultError] PublishAndWait: accepted, but no result       nothing: the report is safe
//	ErrClosed        the publisher or its connection is closed     connect again
//
// All but UnackedError, NoResultError and their causes are permanent: the same
// call will fail again until somebody changes something.
//
// A NATS server reports a missing permission beside the request and not in
// answer to it. The publisher finds it when the PubAck has not come in
// Options.AckTimeout, so ErrNotAllowed takes that long.
//
// # Permissions
//
// An agent needs to publish to compliance.status.*.<device> and to subscribe to
// _INBOX.> (or to the prefix of [nats.CustomInboxPrefix]), where PubAcks come.
// For PublishAndWait it sets Options.Device and needs to subscribe to
// compliance.result.<device>.> as well.
package publisher
