package fleet

import "context"

// RunOn is Run on a publisher of the test's.
func (l Load) RunOn(ctx context.Context, connected func(context.Context) error, js publisher) (Summary, error) {
	l.MaxPending = 100
	return l.withDefaults().run(ctx, connected, js)
}
