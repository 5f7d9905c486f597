package backoff_test

import (
	"math"
	"testing"
	"time"

	"github.com/complianced/complianced/publisher/internal/backoff"
)

func TestPausesAreARandomShareOfADoublingBound(t *testing.T) {
	const base, limit = 100 * time.Millisecond, 5 * time.Second
	for n, bound := range map[int]time.Duration{
		1: base, 2: 2 * base, 3: 4 * base, 6: 32 * base, 7: limit, 8: limit, 1_000_000: limit,
	} {
		least, most := limit, time.Duration(0)
		for range 1000 {
			pause := backoff.Pause(n, base, limit)
			least, most = min(least, pause), max(most, pause)
		}
		// Less than a tenth and more than nine tenths: each is missed with probability 0.9^1000.
		if least > bound/10 || most < bound*9/10 || most > bound {
			t.Errorf("after attempt %d: pauses of %v to %v, want 0 to %v", n, least, most, bound)
		}
	}
	if pause := backoff.Pause(100, 1, math.MaxInt64); pause <= 0 {
		t.Errorf("pause %v", pause)
	}
	if pause := backoff.Pause(1, limit, base); pause > base {
		t.Errorf("pause %v, more than the limit", pause)
	}
}
