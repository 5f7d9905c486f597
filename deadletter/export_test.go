package deadletter

import "time"

// SetPatience says how long a list waits for the next letter.
func (b *Box) SetPatience(d time.Duration) { b.patience = d }
