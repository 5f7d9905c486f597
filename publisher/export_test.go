package publisher

// Backoff is backoff, for its test.
var Backoff = backoff

// AttemptError and Temporary decide what is tried again.
var (
	AttemptError = attemptError
	Temporary    = temporary
)
