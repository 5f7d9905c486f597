// Package oracle says what the state of complianced must be. It computes it from
// the messages that the streams ever held, and compares it with what lies in
// Redis and among the dead letters.
//
// # The way
//
//	Copy.Run, Copy.CatchUp → Copy.History → Fold → State ─┬─ Compare ← ReadRedis
//	                                                      └─ CompareDeadLetters ← ReadDeadLetters
//
// [Copy] keeps every message of its streams, also those that a stream lost since.
// [Fold] decides of each message whether it is a report, and makes records, floors
// and dead letters of them. The comparisons derive what follows from the records and
// return the differences in words; none at all means that everything is as it must
// be. [Equal] compares two states of Redis with each other.
//
// # Independence
//
// An error that is copied is an error that is not found. So nothing of the
// product is imported here, and where there are two ways to do a thing, this
// package takes the other one: a report is read into a tree before it is judged,
// a date is a regular expression, and a record is the greatest of all values that
// were ever set, found by sorting, instead of one merge after the other. The
// product's test vectors, fuzzing and property tests hold the two against each
// other.
//
// # Promises
//
//   - Every key of the Redis server is looked at: its name, its type, that it has
//     no expiry, and each of its fields in the one canonical form.
//   - Every rejected message has exactly one dead letter, and there is no other.
//   - Only what the documented rules leave open is left aside: the write id of a
//     floor, the time at which a gap was seen, and of a dead letter the wording of
//     messages.
//
// # The store times of tombstones
//
// A tombstone's store time is the greatest of the reports merged while it was one,
// so that it depends on what was merged again after a loss. [Fold] therefore knows
// the store times that it can have, and [Compare] checks that the hash has one of
// them and the index the same. With Config.InSequence, for a history in which
// nothing was merged again on top of its own records, it must be the one.
//
// # Out of scope
//
//   - Tombstones that expire, without Config.InSequence.
//   - A message that a stream lost before the copy or the workers read it. Call
//     [Copy.CatchUp] before taking something away from a stream on purpose.
//   - Dead letters that were purged, retried or grew too old.
//   - Redis while it is written to: a snapshot is not taken in one instant. Wait
//     until every floor is at the end of its stream.
package oracle
