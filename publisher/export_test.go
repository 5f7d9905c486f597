package publisher

// AttemptError and Temporary decide what is tried again.
var (
	AttemptError = attemptError
	Temporary    = temporary
)
