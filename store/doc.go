// Package store keeps the state in Redis: one hash a record, the counts, and of
// each bucket the floor that says how far it is.
//
// # Promises
//
//   - Every write to a bucket is one fenced transaction ([Redis.Apply]): it
//     happens as a whole or not at all, only on top of the expected floor, and
//     leaves a new one. An answer that never came is settled by the floor.
//   - A part of a transaction that Redis takes in all the same, from an append-only file
//     that was cut, is told by the seal: [Redis.Floors] calls the floor torn, and nothing
//     is written to the bucket until it is recounted. The records lose nothing by it that
//     the reports after the floor do not bring back, where the transactions that follow a
//     loss are whole ([compliance.Transaction]); a record that shows that they were not is
//     corrupt.
//   - A record whose values are not those that its head was written with is corrupt: its
//     digest tells. No transaction builds on it; the bucket is merged again.
//   - The counts are written as absolute values in the transaction that changes
//     the records. They equal a recount at every instant.
//   - [compliance.Record.Merge] alone decides what is stored. [Memory] calls it
//     too, and counts when asked; both pass the same conformance suite (package
//     storetest).
//   - What is stored is a function of the record, not of its history.
//   - [Redis.Verify] derives anew all that follows from the records while reports are
//     merged. What it calls a difference was one at one moment; what it repairs, it
//     repairs in one fenced step for each bucket. [Redis.Compare] compares the records
//     themselves with those of a state that was rebuilt from the stream.
//   - No scripts, no functions, no KEYS: any server that honours WATCH, MULTI and
//     EXEC does. [Redis.SelfTest] shows that this one does for this user.
//
// # The floor
//
// A floor is one line of text, its fields parted by single spaces:
//
//	<stream> <created> <sequence> <stored> <partitions> <buckets> <write id> [repair]
//
// created and stored are Unix times in nanoseconds (stored is 0 before the first
// report). The last word is there only while the bucket is merged again on
// purpose.
//
// # The seal
//
// The seal is a number: the first 52 bits of the xxh3 of the floor's write id. A
// transaction moves it by the difference, in its first command. Where there is no seal,
// nothing is torn.
//
// # Keys
//
// See keys.go for the keys, schema.go for the fields of a record, digest.go for the
// digest among them, and derived.go for all that follows from the records: numbers,
// roll-up and indexes.
package store
