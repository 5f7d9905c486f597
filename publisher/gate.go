package publisher

import "sync"

// gate counts who is inside and can be closed: from then on nobody gets in, and
// closing is done when all have left.
type gate struct {
	mu      sync.Mutex // guards closed, and inside against growing from 0 while close waits
	closed  bool
	inside  sync.WaitGroup
	closing chan struct{}
}

func newGate() *gate { return &gate{closing: make(chan struct{})} }

// enter reports whether the gate is open; the caller must leave then.
func (g *gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.inside.Add(1)
	return true
}

func (g *gate) leave() { g.inside.Done() }

// isClosing reports whether close has been called.
func (g *gate) isClosing() bool {
	select {
	case <-g.closing:
		return true
	default:
		return false
	}
}

// close may be called more than once; each call waits.
func (g *gate) close() {
	g.mu.Lock()
	if !g.closed {
		g.closed = true
		close(g.closing)
	}
	g.mu.Unlock()
	g.inside.Wait()
}
