// Package deadletter reads the stream of the dead letters: reports that can never be
// applied, kept with the reason.
//
// # Promises
//
//   - A [Letter] holds the report as it was, as far as it decides anything: decoding
//     its envelope under the same rules gives the same verdict, unless the letter says
//     that headers were dropped.
//   - A message that is no dead letter is told as an [*UnreadableError] and does not
//     stop a list.
//   - A list ends at what the stream held when the list began, or a little later.
//   - Nothing here publishes, and nothing is deleted but by [Box.Delete].
//   - Errors hold no device and no value of a report.
package deadletter
