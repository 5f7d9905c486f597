// Package replay sends reports again: from a stream, from a file that capture
// wrote, or from dead letters, to the same deployment or to another.
//
// # The way of a report
//
//	Source → Filter → Shuffle → Resend → publisher → Table
//
// A [Source] hands over reports as they were stored. [Resend] makes of each the one
// that is sent. [Run] sends them, no faster than it may, and counts what becomes of
// them. [Predict] counts what would become of them, and sends nothing.
//
// # Promises
//
//   - A replay moves no state that is whole: what is sent decodes to the report that
//     was stored (key, event id, event time, values), or is refused with the code
//     with which that was refused. For this ce-id is the id header that the law took
//     (none where it took a hash), ce-time the event time that it took, and
//     Compliance-Stored the first store time, after which nothing may be from the
//     future. Compliance-Reply and Nats-* headers are not sent again; the other
//     ce-* headers, traceparent and Compliance-Retry-Of are.
//   - The order of a replay is a function of its source, filters and seed. Reports of
//     one record are sent in that order, each when the one before it is accepted. The
//     records do not depend on it, the outcomes do.
//   - A report is passed when it has a PubAck, or cannot be sent at all and counts as
//     failed. A [Position] names only reports before which all are passed. In a
//     [PositionFile] it survives the end of the process at any moment, and after a
//     power cut it is 10 s old at most. What is sent a second time for that is
//     harmless.
//   - A replay goes on where its position is, or says that it cannot: the reports that
//     are passed must still be the first ones of its order, where only their number
//     says which they are. Reports that the streams lose before they are read are
//     counted.
//   - The rate is bounded by Options.Rate, and falls while Options.Lag grows.
//   - Memory is bounded: by what is in flight, by two batches of each stream, by the
//     window of [Shuffle], by 200,000 reports behind one that is not passed (without
//     their payloads), and in [Predict] by the number of records that the reports are of.
//   - No error text holds a device, a user, or a part of a payload.
package replay
