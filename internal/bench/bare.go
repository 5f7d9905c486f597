package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"golang.org/x/sync/errgroup"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/ingest"
)

// bareCommand is the argument that makes this program the bare work. It reads from
// standard input one BareOptions, and then again and again a BareTask, which it
// prepares, and a BareStart, upon which it works. It answers each with one line: a
// BareReady or a BareResult. With a live task there is one more BareReady before
// the result, once it reads.
const bareCommand = "bare"

// BareSettings are how the bare work drives Redis.
type BareSettings struct {
	// Pipeline is how many commands are sent at once.
	Pipeline    int `json:"pipeline"`
	Connections int `json:"connections"`
}

// BareOptions are those of a process of the bare work.
type BareOptions struct {
	NATS       string       `json:"nats"`
	Redis      string       `json:"redis"`
	Partitions int          `json:"partitions"`
	Buckets    int          `json:"buckets"`
	Settings   BareSettings `json:"settings"`
	Load       LoadOptions  `json:"load"`
}

func (o *BareOptions) layout() compliance.Layout {
	return compliance.Layout{Partitions: o.Partitions, Buckets: o.Buckets}
}

// BareTask is what to get ready for.
type BareTask struct {
	// From is the index of the first report, and Reports how many follow.
	From    uint64 `json:"from"`
	Reports int    `json:"reports"`
	// Create makes it write the first values of all records, without reading.
	Create bool `json:"create"`
	// Live makes it write each report as it comes, and measure how long that takes.
	Live bool `json:"live"`
}

// BareStart says where the reports are, by partition.
type BareStart struct {
	// First are the sequences to read from.
	First []uint64 `json:"first"`
	// Each is how many reports to read. A live task reads as many as it has.
	Each []int `json:"each"`
}

// BareReady says that a task is prepared.
type BareReady struct{}

// BareResult is what a task took.
type BareResult struct {
	Read    int           `json:"read"`
	Written int           `json:"written"`
	Took    time.Duration `json:"took"`
	CPU     time.Duration `json:"cpu"`
	Mallocs uint64        `json:"mallocs"`
	Bytes   uint64        `json:"bytes"`
	// Latency is that of a live task, from store time to reply.
	Latency Quantiles `json:"latency"`
}

// runBare is the bare work as a process. It ends with its input.
func runBare(ctx context.Context, in io.Reader, out io.Writer) (err error) {
	decoder, encoder := json.NewDecoder(bufio.NewReader(in)), json.NewEncoder(out)
	var options BareOptions
	if err := decoder.Decode(&options); err != nil {
		return err
	}
	w, err := newBareWork(options)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	for {
		var task BareTask
		if err := decoder.Decode(&task); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		lot, err := w.prepare(task)
		if err != nil {
			return err
		}
		runtime.GC()
		ready := func() error { return encoder.Encode(BareReady{}) }
		if err := ready(); err != nil {
			return err
		}
		var start BareStart
		if err := decoder.Decode(&start); err != nil {
			return err
		}
		var result BareResult
		if task.Live {
			result, err = w.live(ctx, lot, start, ready)
		} else {
			result, err = w.measure(ctx, lot, start)
		}
		if err != nil {
			return err
		}
		if err := encoder.Encode(result); err != nil {
			return err
		}
	}
}

// bareWork is the bare work with its connections.
type bareWork struct {
	options BareOptions
	nc      *nats.Conn
	js      jetstream.JetStream
	client  *redis.Client
}

func newBareWork(options BareOptions) (*bareWork, error) {
	w := &bareWork{options: options, client: redis.NewClient(&redis.Options{
		Addr:                     options.Redis,
		PoolSize:                 options.Settings.Connections,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})}
	var err error
	if w.nc, err = nats.Connect(options.NATS); err != nil {
		return nil, errors.Join(err, w.client.Close())
	}
	w.js, err = jetstream.New(w.nc)
	return w, err
}

func (w *bareWork) close() error {
	w.nc.Close()
	return w.client.Close()
}

// measure counts the reports and writes one command for each that it counted.
func (w *bareWork) measure(ctx context.Context, lot *lot, start BareStart) (BareResult, error) {
	var before, after syscall.Rusage
	var memory, memoryAfter runtime.MemStats
	runtime.ReadMemStats(&memory)
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &before); err != nil {
		return BareResult{}, err
	}
	began := time.Now()
	read, err := w.run(ctx, lot, start)
	if err != nil {
		return BareResult{}, err
	}
	took := time.Since(began)
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &after); err != nil {
		return BareResult{}, err
	}
	runtime.ReadMemStats(&memoryAfter)
	return BareResult{
		Read: read, Written: len(lot.shard), Took: took, CPU: processorTime(&after) - processorTime(&before),
		Mallocs: memoryAfter.Mallocs - memory.Mallocs, Bytes: memoryAfter.TotalAlloc - memory.TotalAlloc,
	}, nil
}

func processorTime(usage *syscall.Rusage) time.Duration {
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func (w *bareWork) run(ctx context.Context, lot *lot, start BareStart) (int, error) {
	group, ctx := errgroup.WithContext(ctx)
	turns := make([]chan int, len(lot.shards))
	for i := range turns {
		turns[i] = make(chan int, 16)
		group.Go(func() error { return w.write(ctx, lot, lot.shards[i], turns[i]) })
	}
	read := 0
	group.Go(func() error {
		t := turn{lot: lot, pipeline: w.options.Settings.Pipeline, turns: turns, open: make([]int, len(turns))}
		defer t.end()
		for partition, first := range start.First {
			if err := w.count(ctx, partition, first, start.Each[partition], &t); err != nil {
				return err
			}
		}
		read = t.n
		for t.n < len(lot.shard) { // Nothing is read for them.
			if err := t.next(ctx); err != nil {
				return err
			}
		}
		return t.rest(ctx)
	})
	err := group.Wait()
	return read, err
}

// turn tells the connections how many commands to send.
type turn struct {
	lot      *lot
	pipeline int
	turns    []chan int
	// open are the commands of each connection that were counted and not yet told.
	open []int
	n    int
}

// next counts one report.
func (t *turn) next(ctx context.Context) error {
	shard := t.lot.shard[t.n]
	t.n++
	t.open[shard]++
	if t.open[shard] < t.pipeline {
		return nil
	}
	return t.tell(ctx, int(shard))
}

func (t *turn) tell(ctx context.Context, shard int) error {
	select {
	case t.turns[shard] <- t.open[shard]:
		t.open[shard] = 0
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// rest tells what is left.
func (t *turn) rest(ctx context.Context) error {
	for shard, n := range t.open {
		if n == 0 {
			continue
		}
		if err := t.tell(ctx, shard); err != nil {
			return err
		}
	}
	return nil
}

func (t *turn) end() {
	for _, c := range t.turns {
		close(c)
	}
}

// What the worker asks NATS for, see package ingest.
const (
	pullReports = 8000
	pullBytes   = 8 << 20
	heartbeat   = time.Second
	expiry      = 5 * time.Second
	inactive    = 30 * time.Second
)

// messages reads a partition as package ingest does.
func (w *bareWork) messages(ctx context.Context, partition int, first uint64) (jetstream.MessagesContext, error) {
	consumer, err := w.js.OrderedConsumer(ctx, ingest.StreamName(w.options.layout(), partition), jetstream.OrderedConsumerConfig{
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       first,
		InactiveThreshold: inactive,
	})
	if err != nil {
		return nil, err
	}
	return consumer.Messages(jetstream.PullMaxMessagesWithBytesLimit(pullReports, pullBytes),
		jetstream.PullHeartbeat(heartbeat), jetstream.PullExpiry(expiry))
}

// count reads reports of a partition and does nothing with them.
func (w *bareWork) count(ctx context.Context, partition int, first uint64, n int, t *turn) error {
	messages, err := w.messages(ctx, partition, first)
	if err != nil {
		return err
	}
	defer messages.Stop()
	for range n {
		if _, err := messages.Next(); err != nil {
			return err
		}
		if err := t.next(ctx); err != nil {
			return err
		}
	}
	return nil
}

// write sends the commands of a connection, as many in a pipeline as it is told.
func (w *bareWork) write(ctx context.Context, lot *lot, commands []command, turns <-chan int) error {
	room := make([]values, w.options.Settings.Pipeline)
	for n := range turns {
		if err := w.send(ctx, lot, commands[:n], room); err != nil {
			return err
		}
		commands = commands[n:]
	}
	return nil
}

// send writes commands in one pipeline. There is room for the values of each.
func (w *bareWork) send(ctx context.Context, lot *lot, commands []command, room []values) error {
	var memory [2 * compliance.NumProperties]any
	_, err := w.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i, c := range commands {
			key, fields := lot.read(c, &room[i], memory[:0])
			pipe.HSet(ctx, key, fields...)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write hashes: %w", err)
	}
	return nil
}
