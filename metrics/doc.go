// Package metrics shows Prometheus what the pipeline does and what the state is.
// All names begin with compliance_.
//
// [Pipeline] counts what one worker does, [API] requests. [NewState] returns a collector that
// reads the state whenever it is scraped; only one replica should serve it, or the
// same devices are counted twice.
//
// # Promises
//
//   - Every bounded label value is there from the start, at 0. No label is ever a
//     device or a user.
//   - Counting never stops the work: no method of Pipeline blocks, fails or, for a
//     value that it does not know, panics.
//   - What cannot be read is not shown, rather than shown as 0. Where the read fails
//     there are state_up 0, the time that it took, and no series of the state. A
//     part that the read leaves out has no series.
//   - A scrape waits for the state no longer than the timeout, whatever the read
//     does, and at most one read is under way.
//   - At most a bounded number of policies are labels: those with most devices. The
//     rest is summed in policy="__other__", so that a sum over all policies is right
//     whatever the bound.
package metrics
