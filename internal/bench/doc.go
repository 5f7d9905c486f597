// Command bench measures complianced on this machine, on loopback, with a nats-server, a redis-server and a
// complianced as processes of their own, and beside it the bare work: what any program must do that reads the same
// stream and writes the same nine values.
//
//	go run ./internal/bench --json bench.json
//
// Parts, chosen by --only:
//
//   - speed: the worker is down, reports are preloaded, the worker is started and drains them. Reports a second,
//     processor time of each process, allocations, peak memory; then the same of the bare work.
//   - latency: reports at a fixed rate, from the store time of a report to its merge; before that, from the store time
//     to the reply of Redis of the bare work, which writes at once what waits. The rate that was kept is printed; one
//     that is too low is an error.
//   - memory: bytes of Redis per record, in all and without what the state over time needs, as they are created and
//     after the speed runs; of records of which every property has a version of its own; and of the bare work's hashes.
//   - derived: what roll-up, indexes, and the numbers but the counts by status add to the processor time of the steady
//     fleet, by taking turns with a complianced that is built without them, with twice as many runs as the others.
//   - profile: one more drain by a worker that profiles itself; the ten functions that took most. --profile keeps the
//     profiles.
//   - backlog: peak memory of the worker over many waiting reports, also with blocks of bodies at the limit of the
//     stream.
//   - reads: a scrape of complianced with many records under many policies in as many buckets as there can be, and the
//     pages of lists, while nothing is merged.
//
// Speed, latency and profile are measured for each mix of reports. In "worst case" each report changes every property
// of its record. In "steady fleet" all bodies but the partial ones are full: 95 % change only lastReportedDateTime, 3 %
// the status too, 1 % are partial, 1 % duplicates; nine in ten records are compliant.
//
// The bare work is an ordered consumer with the settings of the worker's that only counts, and for each report that
// it counted one blind HSET of nine values that lay ready in memory, pipelined. It decodes nothing, decides nothing
// and remembers nothing, so it is no solution: it is a floor under what any solution costs. It runs with Go's default
// GOGC of 100, complianced with the 150 that it sets itself; what lies ready holds no pointers, so that either way the
// bare work has little to collect.
//
// At the end stands each target beside what was measured. One that is missed at the default load is exit status 1.
//
// A run that went wrong prints no figures: records, counts, outcomes and dead letters are compared with what was
// sent, and every difference is an error and exit status 1. So is a worker that does not come up, dies or merges
// nothing for a minute, a report that is not acknowledged, and servers that do not come to rest before a measurement.
package main
