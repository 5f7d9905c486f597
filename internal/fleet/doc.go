// Package fleet makes up the reports of a synthetic fleet of devices, sends them
// as a load, and keeps a journal of what was accepted.
//
// # Promises
//
//   - Reproducible: the same seed and options give the same reports (keys, ids,
//     bodies, event times as a distance from Options.Start), in the same order of
//     sending, however fast they are asked for.
//   - Small: nothing is kept of a device. A report is a function of the options
//     and its index, so 10^7 devices take the memory of one. All that is kept is
//     a queue of at most 1,024 reports that are sent later than they were made.
//   - A time of its own: no two reports have the same event time in ticks of 100 ns,
//     across all devices. A report that is sent twice is the same report: id, time
//     and body.
//   - Clearly right or clearly wrong: Report.Code says with which code a report is
//     refused, or that it is applied. The event time of a right one is that of
//     sending or earlier, but for the device's clock error of at most MaxClockSkew;
//     see Options.Rate for how fast reports may be asked for.
//
// # Ways
//
// [Fleet.Next] gives the reports one by one, to send by whatever means. [Fleet.At]
// gives the one with a certain index. [Load.Run] sends them to NATS, at a pace, and
// again until they are accepted. [ReadJournal] reads what a load wrote down.
//
// # Time
//
// Report i is made i/Rate seconds after the start, also where it is sent later.
// Event times lie on 32 lanes of ticks, so that they cannot meet: a device has one
// of sixteen clock errors, and each error has a lane for reports on time and one
// for late reports, whose places within an hour are a permutation.
package fleet
