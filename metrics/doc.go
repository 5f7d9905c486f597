// Package metrics shows Prometheus what the pipeline does and what the state is.
//
// # Promises
//
//   - Every bounded label value is there from the start, at 0. No label is ever a
//     device or a user.
//   - The state is read when it is scraped. What cannot be read is not shown: with
//     Redis down there is state_up 0 and no count, with NATS down there are counts
//     and no lag.
//   - At most a bounded number of policies are labels; the rest is summed in
//     policy="__other__", so that the sum over all policies stays right.
package metrics
