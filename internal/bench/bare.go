package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
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

// bareCommand is the argument that makes this program the bare work. It reads one
// BareTask from standard input, prepares it, says so by a line, waits for a line,
// works, and prints a BareResult.
const bareCommand = "bare"

// BareSettings are how the bare work drives Redis.
type BareSettings struct {
	Pipeline    int `json:"pipeline"`
	Connections int `json:"connections"`
}

// BareTask is what the bare work is to do.
type BareTask struct {
	NATS     string            `json:"nats"`
	Redis    string            `json:"redis"`
	Layout   compliance.Layout `json:"layout"`
	Settings BareSettings      `json:"settings"`
	Load     LoadOptions       `json:"load"`
	// First are the sequences to read from, of each partition; none where nothing
	// is read.
	First []uint64 `json:"first"`
	// Each is how many reports are in each partition.
	Each []int `json:"each"`
	// Skip is how many reports of the mix came before.
	Skip int `json:"skip"`
	// Create makes it write the first values of all records, instead.
	Create bool `json:"create"`
}

// BareResult is what it took.
type BareResult struct {
	Read    int           `json:"read"`
	Written int           `json:"written"`
	Took    time.Duration `json:"took"`
	CPU     time.Duration `json:"cpu"`
	Mallocs uint64        `json:"mallocs"`
}

// bareFields are the fields of the nine values, as short as those of a record.
var bareFields = [compliance.NumProperties]string{"i", "n", "u", "m", "p", "g", "s", "r", "e"}

// bareKey has the length of a record's key.
func bareKey(layout compliance.Layout, key compliance.Key) string {
	return fmt.Sprintf("cs:{%02x}:%s:%s", int(layout.BucketOf(key.Device)), key.Policy, key.Device)
}

// command is one HSET that lies ready.
type command struct {
	key    string
	fields []any
}

// runBare is the bare work as a process.
func runBare(ctx context.Context, in io.Reader, out io.Writer) error {
	input := bufio.NewReader(in)
	line, err := input.ReadBytes('\n')
	if err != nil {
		return err
	}
	var task BareTask
	if err := json.Unmarshal(line, &task); err != nil {
		return err
	}
	work, err := newBareWork(task)
	if err != nil {
		return err
	}
	defer work.close()
	// Nothing is collected while it works: what lies ready is not to cost it anything.
	runtime.GC()
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(4 << 30)
	if _, err := fmt.Fprintln(out, "ready"); err != nil {
		return err
	}
	if _, err := input.ReadBytes('\n'); err != nil {
		return err
	}
	result, err := work.measure(ctx)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(result)
}

// bareWork is the bare work, ready to begin.
type bareWork struct {
	task     BareTask
	nc       *nats.Conn
	js       jetstream.JetStream
	client   *redis.Client
	// shards are the commands of each connection, and shard is the one of each
	// report: a record keeps to one connection, so that its last value stays.
	shards [][]command
	shard  []int
}

func newBareWork(task BareTask) (*bareWork, error) {
	w := &bareWork{task: task, shards: make([][]command, task.Settings.Connections), client: redis.NewClient(&redis.Options{
		Addr:                     task.Redis,
		PoolSize:                 task.Settings.Connections,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})}
	w.prepare()
	var err error
	if w.nc, err = nats.Connect(task.NATS); err != nil {
		return nil, errors.Join(err, w.client.Close())
	}
	w.js, err = jetstream.New(w.nc)
	return w, err
}

func (w *bareWork) close() {
	w.nc.Close()
	_ = w.client.Close()
}

// prepare makes the commands.
func (w *bareWork) prepare() {
	l := newLoad(w.task.Load)
	for n := range l.pairs {
		l.first(n)
		if w.task.Create {
			w.add(l, n)
		}
	}
	if w.task.Create {
		return
	}
	for range w.task.Skip {
		l.next()
	}
	for range w.reports() {
		w.add(l, l.next().pair)
	}
}

// reports is how many reports there are to read.
func (w *bareWork) reports() int {
	n := 0
	for _, each := range w.task.Each {
		n += each
	}
	return n
}

func (w *bareWork) add(l *load, n int) {
	key := l.key(n)
	c := command{key: bareKey(w.task.Layout, key), fields: make([]any, 0, 2*compliance.NumProperties)}
	for p, value := range l.values(n) {
		c.fields = append(c.fields, bareFields[p], value)
	}
	shard := int(w.task.Layout.BucketOf(key.Device)) % len(w.shards)
	w.shards[shard] = append(w.shards[shard], c)
	w.shard = append(w.shard, shard)
}

func (w *bareWork) measure(ctx context.Context) (BareResult, error) {
	var before, after syscall.Rusage
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	mallocs := memory.Mallocs
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &before); err != nil {
		return BareResult{}, err
	}
	began := time.Now()
	read, err := w.run(ctx)
	if err != nil {
		return BareResult{}, err
	}
	took := time.Since(began)
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &after); err != nil {
		return BareResult{}, err
	}
	runtime.ReadMemStats(&memory)
	return BareResult{
		Read: read, Written: len(w.shard), Took: took, CPU: processorTime(&after) - processorTime(&before),
		Mallocs: memory.Mallocs - mallocs,
	}, nil
}

func processorTime(usage *syscall.Rusage) time.Duration {
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// run counts the reports and writes one command for each that it counted.
func (w *bareWork) run(ctx context.Context) (int, error) {
	group, ctx := errgroup.WithContext(ctx)
	turns := make([]chan int, len(w.shards))
	for i := range turns {
		turns[i] = make(chan int, 16)
		group.Go(func() error { return w.write(ctx, w.shards[i], turns[i]) })
	}
	read := 0
	group.Go(func() error {
		t := turn{work: w, turns: turns, open: make([]int, len(turns))}
		defer t.end()
		if w.task.Create {
			for range w.shard {
				if err := t.next(ctx); err != nil {
					return err
				}
			}
			return t.rest(ctx)
		}
		for partition, first := range w.task.First {
			if err := w.count(ctx, partition, first, w.task.Each[partition], &t); err != nil {
				return err
			}
		}
		read = t.n
		return t.rest(ctx)
	})
	err := group.Wait()
	return read, err
}

// turn tells the connections how many commands to send.
type turn struct {
	work  *bareWork
	turns []chan int
	// open are the commands of each connection that were counted and not yet told.
	open []int
	n    int
}

// next counts one report.
func (t *turn) next(ctx context.Context) error {
	shard := t.work.shard[t.n]
	t.n++
	t.open[shard]++
	if t.open[shard] < t.work.task.Settings.Pipeline {
		return nil
	}
	return t.tell(ctx, shard)
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

// count reads reports of a partition with the settings of package ingest, and does
// nothing with them.
func (w *bareWork) count(ctx context.Context, partition int, first uint64, n int, t *turn) error {
	consumer, err := w.js.OrderedConsumer(ctx, ingest.StreamName(w.task.Layout, partition), jetstream.OrderedConsumerConfig{
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       first,
		InactiveThreshold: 30 * time.Second,
	})
	if err != nil {
		return err
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessagesWithBytesLimit(4000, 4<<20),
		jetstream.PullHeartbeat(time.Second), jetstream.PullExpiry(5*time.Second))
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
func (w *bareWork) write(ctx context.Context, commands []command, turns <-chan int) error {
	for n := range turns {
		if err := w.send(ctx, commands[:n]); err != nil {
			return err
		}
		commands = commands[n:]
	}
	return nil
}

func (w *bareWork) send(ctx context.Context, commands []command) error {
	_, err := w.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, c := range commands {
			pipe.HSet(ctx, c.key, c.fields...)
		}
		return nil
	})
	return err
}
