package replay_test

import (
	"errors"
	"fmt"
	"net"
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
	layout  compliance.Layout
	options *server.Options
	server  *server.Server
	nc      *nats.Conn
	js      jetstream.JetStream
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
	var err error
	if b.options, err = server.ProcessConfigFile(config); err != nil {
		t.Fatal(err)
	}
	b.options.NoSigs, b.options.NoLog, b.options.Port = true, true, server.RANDOM_PORT
	if err := b.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.stop)
	if b.nc, err = nats.Connect(b.server.ClientURL(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.nc.Close)
	if b.js, err = jetstream.New(b.nc); err != nil {
		t.Fatal(err)
	}
	b.provision()
	return b
}

// start starts the server, again where it was.
func (b *broker) start() (err error) {
	if b.server, err = server.NewServer(b.options); err != nil {
		return err
	}
	b.server.Start()
	if !b.server.ReadyForConnections(10 * time.Second) {
		return errors.New("the server takes no connections")
	}
	b.options.Port = b.server.Addr().(*net.TCPAddr).Port
	return nil
}

func (b *broker) stop() {
	b.server.Shutdown()
	b.server.WaitForShutdown()
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
