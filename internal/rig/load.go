package rig

import (
	"context"
	"os"
	"path/filepath"
)

// Load is a complianced simulate.
type Load struct {
	*Process

	// Journal is where it writes down what was accepted. A new start empties it.
	Journal string
}

// NewLoad returns a complianced simulate. Args are further flags. It is not yet started.
func (p Programs) NewLoad(dir string, n *NATS, args ...string) (*Load, error) {
	l := &Load{Journal: filepath.Join(dir, "journal")}
	flags := []string{"simulate", "--nats-url", n.URL, "--journal", l.Journal}
	var err error
	l.Process, err = newProcess(p.Complianced, dir, l.ready, append(flags, args...)...)
	return l, err
}

func (l *Load) ready(context.Context) bool {
	_, err := os.Stat(l.Journal)
	return err == nil
}
