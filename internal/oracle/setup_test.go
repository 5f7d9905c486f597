package oracle_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/ingest"
	"github.com/complianced/complianced/internal/embedded"
	"github.com/complianced/complianced/internal/oracle"
	"github.com/complianced/complianced/store"
)

// broker is a real nats-server with the streams of a layout.
type broker struct {
	testing.TB
	options embedded.NATSOptions
	server  *embedded.NATS
	layout  compliance.Layout
	nc      *nats.Conn
	js      jetstream.JetStream
}

func startBroker(tb testing.TB, layout compliance.Layout) *broker {
	tb.Helper()
	b := &broker{TB: tb, layout: layout, options: embedded.NATSOptions{StoreDir: tb.TempDir(), Port: embedded.FreePort}}
	b.start()
	address, err := url.Parse(b.server.URL())
	if err != nil {
		tb.Fatal(err)
	}
	if b.options.Port, err = strconv.Atoi(address.Port()); err != nil {
		tb.Fatal(err)
	}
	b.nc, err = nats.Connect(b.server.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		b.nc.Close()
		b.server.Close()
	})
	if b.js, err = jetstream.New(b.nc); err != nil {
		tb.Fatal(err)
	}
	b.provision()
	return b
}

func (b *broker) start() {
	b.Helper()
	var err error
	if b.server, err = embedded.StartNATS(b.Context(), b.options); err != nil {
		b.Fatal(err)
	}
}

func (b *broker) provision() {
	b.Helper()
	if err := ingest.Provision(b.Context(), b.js, ingest.Provisioning{Layout: b.layout}); err != nil {
		b.Fatal(err)
	}
}

// makeAnew deletes the only stream and makes another one under its name. The
// server moves the files aside to remove them; of a stream that is deleted while
// that goes on for the one before, it keeps the messages for the next.
func (b *broker) makeAnew() {
	b.Helper()
	if err := b.js.DeleteStream(b.Context(), "COMPLIANCE_STATUS"); err != nil {
		b.Fatal(err)
	}
	eventually(b, "a stream whose files are gone", func() bool {
		files, err := filepath.Glob(filepath.Join(b.options.StoreDir, "jetstream", "$G", "streams", "*COMPLIANCE_STATUS"))
		return err == nil && len(files) == 0
	})
	b.provision()
}

func (b *broker) streams() []string {
	var names []string
	for partition := range b.layout.Partitions {
		names = append(names, ingest.StreamName(b.layout, partition))
	}
	return names
}

// publish publishes a body with headers under a subject.
func (b *broker) publish(subject, body string, headers ...string) {
	b.Helper()
	m := nats.NewMsg(subject)
	for i := 0; i+1 < len(headers); i += 2 {
		m.Header[headers[i]] = append(m.Header[headers[i]], headers[i+1])
	}
	m.Data = []byte(body)
	eventually(b, "an acknowledgement", func() bool {
		_, err := b.js.PublishMsg(b.Context(), m)
		return err == nil
	})
}

// publishRaw publishes a header that no driver would send.
func (b *broker) publishRaw(subject, header, body string) {
	b.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(b.server.URL(), "nats://"))
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "CONNECT {\"verbose\":false,\"headers\":true}\r\nHPUB %s %d %d\r\n%s%s\r\nPING\r\n",
		subject, len(header), len(header)+len(body), header, body)
	if err != nil {
		b.Fatal(err)
	}
	// The server answers the ping when it has the message.
	for lines := bufio.NewScanner(conn); lines.Scan() && lines.Text() != "PONG"; {
	}
}

// subject returns the subject that the report of a device has in its stream.
func (b *broker) subject(policy, device string) string {
	key := compliance.Key{Policy: policy, Device: device}
	if b.layout.Partitions == 1 {
		return key.Subject()
	}
	return key.PartitionSubject(b.layout.PartitionOf(device))
}

// history returns what all streams hold.
func (b *broker) history() oracle.History {
	b.Helper()
	own := b.copy()
	b.catchUp(own)
	return own.History()
}

// sink is a real Redis server, the store on it, and a client that looks from outside.
type sink struct {
	store *store.Redis
	raw   *redis.Client
	url   string
}

func startSink(tb testing.TB, layout compliance.Layout) *sink {
	tb.Helper()
	own, err := embedded.StartRedis(tb.Context(), embedded.RedisOptions{DataDir: tb.TempDir()})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = own.Close() })
	if own.StandIn() {
		tb.Fatal("the tests need redis-server or valkey-server in PATH: run make deps")
	}
	options, err := redis.ParseURL(own.URL())
	if err != nil {
		tb.Fatal(err)
	}
	s := &sink{raw: redis.NewClient(options), url: own.URL()}
	tb.Cleanup(func() { _ = s.raw.Close() })
	s.store = s.open(tb, layout, 0)
	if err := s.store.EnsureLayout(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return s
}

// open opens a store that keeps tombstones for so long, 0 for ever.
func (s *sink) open(tb testing.TB, layout compliance.Layout, tombstones time.Duration) *store.Redis {
	tb.Helper()
	r, err := store.New(layout, store.Options{URLs: []string{s.url}, Tombstones: tombstones})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = r.Close() })
	return r
}

// run runs a loop for each partition until the returned function is called.
func (s *sink) run(b *broker) (stop func()) {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error)
	for partition := range b.layout.Partitions {
		source := ingest.NewJetStream(b.js, ingest.StreamName(b.layout, partition))
		loop, err := ingest.NewLoop(source, s.store, ingest.NewPublisher(b.js), ingest.Options{
			Layout: b.layout, Partition: partition, LookEvery: 50 * time.Millisecond, Backoff: 10 * time.Millisecond,
		})
		if err != nil {
			b.Fatal(err)
		}
		go func() {
			err := loop.Run(ctx)
			source.Close()
			done <- err
		}()
	}
	return func() {
		cancel()
		for range b.layout.Partitions {
			if err := <-done; err != nil {
				b.Error(err)
			}
		}
	}
}

// snapshot returns what Redis holds.
func (s *sink) snapshot(tb testing.TB) oracle.Snapshot {
	tb.Helper()
	all, err := oracle.ReadRedis(tb.Context(), s.raw)
	if err != nil {
		tb.Fatal(err)
	}
	return all
}

// letters returns all dead letters.
func (b *broker) letters() []oracle.Message {
	b.Helper()
	letters, err := oracle.ReadDeadLetters(b.Context(), b.nc)
	if err != nil {
		b.Fatal(err)
	}
	return letters
}

func eventually(tb testing.TB, what string, happened func() bool) {
	tb.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for !happened() {
		select {
		case <-deadline.C:
			tb.Fatalf("did not happen within 30 s: %s", what)
		case <-again.C:
		}
	}
}

// floorsAt reports whether every floor that must be there is, which is the case
// when Redis has no difference that names a floor.
func floorsAt(differences []string) bool {
	for _, what := range differences {
		if strings.Contains(what, ":|floor") {
			return false
		}
	}
	return true
}
