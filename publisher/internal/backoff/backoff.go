// Package backoff spreads attempts in time.
package backoff

import (
	"math/rand/v2"
	"time"
)

// Pause returns the pause after the nth attempt, from 1: a random share ("full
// jitter") of base doubled n-1 times, at most limit.
func Pause(n int, base, limit time.Duration) time.Duration {
	bound := min(base, limit)
	for ; n > 1 && bound < limit; n-- {
		bound += min(bound, limit-bound)
	}
	return rand.N(bound) + 1
}
