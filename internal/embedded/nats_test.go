package embedded_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/internal/embedded"
)

func startNATS(t *testing.T, o embedded.NATSOptions) *embedded.NATS {
	t.Helper()
	if o.Port == 0 {
		o.Port = embedded.FreePort
	}
	n, err := embedded.StartNATS(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

func connect(tb testing.TB, url string) (*nats.Conn, jetstream.JetStream) {
	tb.Helper()
	conn, err := nats.Connect(url, nats.NoReconnect())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		tb.Fatal(err)
	}
	return conn, js
}

func TestNATSKeepsMessagesOverARestart(t *testing.T) {
	dir := t.TempDir()
	n := startNATS(t, embedded.NATSOptions{StoreDir: dir})
	conn, js := connect(t, n.URL())
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "s.a", []byte("kept")); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	n.Close()
	n.Close() // A second Close does nothing.

	n = startNATS(t, embedded.NATSOptions{StoreDir: dir})
	_, js = connect(t, n.URL())
	stream, err := js.Stream(t.Context(), "S")
	if err != nil {
		t.Fatal(err)
	}
	msg, err := stream.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(msg.Data); got != "kept" {
		t.Errorf("message 1 is %q, want %q", got, "kept")
	}
}

func TestNATSRefusesAnUnknownFieldInAnAPIRequest(t *testing.T) {
	n := startNATS(t, embedded.NATSOptions{StoreDir: t.TempDir()})
	conn, _ := connect(t, n.URL())
	msg, err := conn.RequestWithContext(t.Context(), "$JS.API.STREAM.CREATE.S",
		[]byte(`{"name":"S","subjects":["s.>"],"no_such_setting":true}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(msg.Data); !strings.Contains(got, "no_such_setting") || !strings.Contains(got, `"code":400`) {
		t.Errorf("answer %s, want error 400 that names the field", got)
	}
}

func TestNATSSaysWhenItsPortIsTaken(t *testing.T) {
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = embedded.StartNATS(t.Context(), embedded.NATSOptions{
		StoreDir: t.TempDir(), Port: l.Addr().(*net.TCPAddr).Port,
	})
	if !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("error %v, want EADDRINUSE", err)
	}
	for _, want := range []string{"already listens on " + l.Addr().String(), "--nats-listen"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error %q does not say %q", err, want)
		}
	}
}

func TestNATSDoesNotStart(t *testing.T) {
	for name, tc := range map[string]struct {
		o    embedded.NATSOptions
		want string
	}{
		"without a folder":            {embedded.NATSOptions{Port: embedded.FreePort}, "set StoreDir"},
		"under a file":                {embedded.NATSOptions{StoreDir: "/dev/null/x", Port: embedded.FreePort}, "store folder"},
		"at an address that is wrong": {embedded.NATSOptions{StoreDir: t.TempDir(), Host: "256.0.0.1"}, "--nats-listen"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := embedded.StartNATS(t.Context(), tc.o)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one that says %q", err, tc.want)
			}
		})
	}
	t.Run("after a cancel", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := embedded.StartNATS(ctx, embedded.NATSOptions{StoreDir: t.TempDir(), Port: embedded.FreePort})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want context.Canceled", err)
		}
	})
}

func TestNATSReportsWhatTheServerCallsFatal(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "jetstream"), nil, 0o600); err != nil { // Where it wants a folder.
		t.Fatal(err)
	}
	_, err := embedded.StartNATS(t.Context(), embedded.NATSOptions{StoreDir: dir, Port: embedded.FreePort})
	if err == nil || !strings.Contains(err.Error(), "JetStream") {
		t.Errorf("error %v, want one about JetStream", err)
	}
}

func TestNATSLogsNoSubjectOfAReport(t *testing.T) {
	var text bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&text, nil))
	embedded.LogWarning(logger, "Internal subscription on %q took too long: %v", "compliance.status.p1.laptop-7", "2s")
	if got := text.String(); strings.Contains(got, "laptop-7") || !strings.Contains(got, "took too long: 2s") {
		t.Errorf("logged %s", got)
	}
}

func TestDialAddress(t *testing.T) {
	for listen, want := range map[string]string{
		"127.0.0.1:4222": "127.0.0.1:4222",
		"0.0.0.0:4222":   "127.0.0.1:4222",
		"[::]:4222":      "[::1]:4222",
		"10.1.2.3:4222":  "10.1.2.3:4222",
	} {
		if got := embedded.DialAddress(listen); got != want {
			t.Errorf("DialAddress(%q) = %q, want %q", listen, got, want)
		}
	}
}

// BenchmarkNATSPublish compares how often the stream is forced to disk.
func BenchmarkNATSPublish(b *testing.B) {
	for _, interval := range []time.Duration{time.Second, 2 * time.Minute} {
		b.Run("sync every "+interval.String(), func(b *testing.B) {
			n, err := embedded.StartNATS(b.Context(), embedded.NATSOptions{
				StoreDir: b.TempDir(), Port: embedded.FreePort, SyncInterval: interval,
			})
			if err != nil {
				b.Fatal(err)
			}
			defer n.Close()
			_, js := connect(b, n.URL())
			if _, err := js.CreateStream(b.Context(), jetstream.StreamConfig{
				Name: "S", Subjects: []string{"s.>"}, Compression: jetstream.S2Compression,
			}); err != nil {
				b.Fatal(err)
			}
			body := make([]byte, 400)
			for i := range b.N { // b.Loop does not tell its end, and the acknowledgements come after it.
				if _, err := js.PublishAsync("s."+strconv.Itoa(i%10_000), body); err != nil {
					b.Fatal(err)
				}
			}
			<-js.PublishAsyncComplete()
		})
	}
}
