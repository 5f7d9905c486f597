// Package ingest reads the reports of a partition in sequence and has them
// merged into the sink.
//
// # Promises
//
//   - There are no acks. The position lies in the sink, of each bucket, and moves
//     in the transaction that writes the data. A bucket's floor at s means: every
//     report of the partition up to s that concerns the bucket is merged in it, or
//     has its dead letter.
//   - A floor that is not the expected one is told apart: ahead or level, and the
//     loop adopts it; behind, absent or of another stream, and the loop goes back
//     to it. A sink that lost its tail is healed by this and nothing else.
//   - A bucket that is torn, because Redis took in a part of a transaction from a file
//     that was cut, is recounted where its floor is, before anything else is written to
//     it. That counts as a floor that is behind. So that such a part cannot leave a
//     value behind, the reports of the batch after a loss are merged by whole
//     transactions.
//   - The stream is watched too: recreated or rolled back, which it must look to be
//     twice, every bucket is merged again; a gap is written to the sink in the
//     transaction that lets the floor pass it. Nothing is skipped in silence.
//   - A floor never passes a report whose dead letter is not acknowledged.
//   - A server that is away is waited for. The stream is the buffer.
//   - A loop that ends leaves every floor at the end of what it merged, if the sink
//     lets it.
//
// # The way
//
//	Source.Next → Rules.Decode → Outlet.Bury → Store.Apply → Outlet.Reply
//
// [Loop] depends on [Source], [Store] and [Outlet] alone. [JetStream] and
// [Publisher] are the source and the outlet on NATS. [Touched] reads beside the loop which
// records reports concern.
package ingest
