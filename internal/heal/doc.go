// Package heal holds the tests that show how a deployment comes back from harm:
// real servers and real workers under load, killed, emptied and set back, until the
// state is again what the messages of the stream demand, with no manual step.
//
// # The cases
//
// Each is a deployment of its own, with nats-server, redis-server, complianced serve
// and complianced simulate as processes on loopback:
//
//   - the worker is killed, stopped, or one of two that share a partition; replies of
//     Redis are lost
//   - Redis is emptied, set back to an older snapshot (by a restart, and in place
//     with its connections kept), has its append-only file cut, takes in
//     a part of a transaction, or is killed
//   - nats-server is stopped or killed, or refuses dead letters
//   - the stream is made anew, set back to an older copy, or loses its beginning
//   - the same reports come in two orders
//
// # The judge
//
// internal/oracle follows the stream from its beginning and recomputes the state. A
// case passes where Redis and the dead letters are the same in everything, where
// every accepted report of the load's journal is in the stream's copy, and where the
// worker's metrics name what happened.
//
// # Two lengths
//
// The short form is part of go test ./... . The full form is
//
//	go test ./internal/heal -full -timeout 60m -v
//
// How long a worker took to notice is printed. One time is asserted, in the full
// form alone: that an emptied Redis is noticed within 2 s where there is no traffic.
//
// # What is drawn
//
// Where a file is cut is logged. The second of two orders follows from -order-seed,
// which is drawn and logged where it is not set.
package heal
