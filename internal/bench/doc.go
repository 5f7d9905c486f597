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
//   - latency: reports at a fixed rate, from the store time of a report to its merge.
//   - memory: bytes of Redis per record.
//   - drain: peak memory of the worker over many waiting reports, also with bodies at the limit of the stream.
//
// Speed and latency are measured for each mix of reports. In "worst case" each report changes every property of its
// record. In "steady fleet" all bodies but the partial ones are full: 95 % change only lastReportedDateTime, 3 % the
// status too, 1 % are partial, 1 % duplicates.
//
// The bare work is an ordered consumer with the settings of the worker's that only counts, and for each report that
// it counted one blind HSET of nine values that lay ready in memory, pipelined. It decodes nothing, decides nothing
// and remembers nothing, so it is no solution: it is a floor under what any solution costs.
//
// A run that went wrong prints no figures: records, counts, outcomes and dead letters are compared with what was
// sent, and every difference is an error and exit status 1.
package main
