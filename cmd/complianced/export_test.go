package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/complianced/complianced/deadletter"
	"github.com/complianced/complianced/metrics"
)

// These guard the addresses of servers.
var (
	WithoutPassword = withoutPassword
	HoldsPassword   = holdsPassword
	CheckAddresses  = checkAddresses
)

// Root is the command line.
var Root = newRoot

// PatientNATS returns the options of a connection that waits for its server.
func PatientNATS() []nats.Option { return connection{log: slog.New(slog.DiscardHandler)}.options("") }

// SplitListen takes an address to listen on apart.
var SplitListen = splitListen

// URLList is the list of Redis URLs in serve.json.
type URLList = urlList

// Addresses is what serve.json holds.
type Addresses = addresses

// EmptyDir locks a data folder, empties it and unlocks it.
func EmptyDir(path string) error {
	dir, err := lockDir(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.empty(), dir.close())
}

// SetFlag gives a flag a setting of YAML.
var SetFlag = set

// WatchRead returns the read with its causes of failure logged until stopped.
func WatchRead(log *slog.Logger, stopped <-chan struct{}, read func(context.Context) (metrics.Snapshot, error)) func(context.Context) (metrics.Snapshot, error) {
	return (&watchedRead{read: read, log: log, pipeline: metrics.NewPipeline(prometheus.NewRegistry(), version), stopped: stopped}).call
}

// Confirm asks for a confirmation.
var Confirm = confirm

// Progress tells how far a command is until told to end.
func Progress(w io.Writer, total int, every time.Duration) (add, end func()) {
	p := newProgress(w, "removing", total, every)
	return p.add, p.end
}

// RateLine is what a progress tells that began so long ago, at a number.
func RateLine(from, done, total int, ago time.Duration) string {
	now := time.Now()
	p := &progress{what: "replaying", total: total, rate: &speed{began: now.Add(-ago), first: int64(from)}}
	p.done.Store(int64(done))
	return p.line(now)
}

// Quoted is a word as a shell takes it.
var Quoted = quoted

// What a terminal gets of a payload.
var (
	Visible = visible
	Excerpt = excerpt
)

// EncodeLine writes JSON that is fit for a terminal.
var EncodeLine = encodeLine

// Again returns the body and the headers of a report that is sent again, changed by a
// merge patch.
func Again(l *deadletter.Letter, patch string) ([]byte, map[string][]string, error) {
	o, err := again(l, &mending{patch: patch})
	return o.Body, o.Header, err
}

// FaultsIn returns what is wrong with the report of a dead letter, with the places.
var FaultsIn = faultsIn
