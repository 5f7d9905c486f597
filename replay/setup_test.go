package replay_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/ingest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// broker is a real nats-server with the streams of a deployment.
type broker struct {
	*testing.T
	layout compliance.Layout
	nc     *nats.Conn
	js     jetstream.JetStream
}

func startBroker(t *testing.T, partitions int) *broker {
	t.Helper()
	b := &broker{T: t, layout: compliance.Layout{Partitions: partitions, Buckets: 16}}
	dir := t.TempDir()
	config := filepath.Join(dir, "nats.conf")
	text := fmt.Sprintf("listen: \"127.0.0.1:-1\"\njetstream {store_dir: %q}\n%s\n", dir, ingest.Mapping(b.layout))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	options, err := server.ProcessConfigFile(config)
	if err != nil {
		t.Fatal(err)
	}
	options.NoSigs, options.NoLog, options.Port = true, true, server.RANDOM_PORT
	s, err := server.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server takes no connections")
	}
	if b.nc, err = nats.Connect(s.ClientURL()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.nc.Close()
		s.Shutdown()
		s.WaitForShutdown()
	})
	if b.js, err = jetstream.New(b.nc); err != nil {
		t.Fatal(err)
	}
	b.provision()
	return b
}

func (b *broker) provision() {
	b.Helper()
	if err := ingest.Provision(b.Context(), b.js, ingest.Provisioning{Layout: b.layout}); err != nil {
		b.Fatal(err)
	}
}

// streams are the names of the streams.
func (b *broker) streams() (names []string) {
	for n := range b.layout.Partitions {
		names = append(names, ingest.StreamName(b.layout, n))
	}
	return names
}

// publish publishes a report by a plain client.
func (b *broker) publish(subject, body string) {
	b.Helper()
	if _, err := b.js.Publish(b.Context(), subject, []byte(body)); err != nil {
		b.Fatal(err)
	}
}
