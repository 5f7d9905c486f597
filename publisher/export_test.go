package publisher

// Backoff is backoff, for its test.
var Backoff = backoff
