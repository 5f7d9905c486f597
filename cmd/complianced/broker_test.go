package main_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/complianced/complianced/internal/embedded"
)

// broker is a nats-server that is not the serve's.
type broker struct {
	*testing.T
	dir string
	// lines are further ones of its configuration.
	lines  string
	server *server.Server
	addr   string
}

// startBroker starts a server that knows these users, or everybody.
func startBroker(t *testing.T, users string) *broker {
	t.Helper()
	return startBrokerWith(t, users, "")
}

// startBrokerWith is startBroker with further lines of the configuration.
func startBrokerWith(t *testing.T, users, lines string) *broker {
	t.Helper()
	b := &broker{T: t, dir: t.TempDir(), lines: lines, addr: "127.0.0.1:-1"}
	t.Cleanup(b.stop)
	b.start(users)
	return b
}

// start starts the server, again where it was.
func (b *broker) start(users string) {
	b.Helper()
	text := fmt.Sprintf("listen: %q\njetstream {store_dir: %q}\n%s\n", b.addr, b.dir, b.lines)
	if users != "" {
		text += "authorization {users: [" + users + "\n]}\n"
	}
	file := filepath.Join(b.dir, "nats.conf")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	options, err := server.ProcessConfigFile(file)
	if err != nil {
		b.Fatal(err)
	}
	options.NoSigs, options.NoLog = true, true
	if b.server, err = server.NewServer(options); err != nil {
		b.Fatal(err)
	}
	b.server.Start()
	if !b.server.ReadyForConnections(10 * time.Second) {
		b.Fatal("nats-server does not start")
	}
	b.addr = b.server.Addr().String()
}

func (b *broker) stop() {
	b.server.Shutdown()
	b.server.WaitForShutdown()
}

// url is the address for a user, as name:password.
func (b *broker) url(user string) string {
	if user != "" {
		user += "@"
	}
	return "nats://" + user + b.addr
}

// provision makes the streams and the layout, and returns the user's address.
func (b *broker) provision(user string, own *embedded.Redis, args ...string) string {
	b.Helper()
	b.Setenv("COMPLIANCED_NATS_URL", b.url(user))
	defer os.Unsetenv("COMPLIANCED_NATS_URL")
	_, stderr, status := command(b.T, "", append([]string{"provision", "--redis-url", own.URL()}, args...)...)
	if status != 0 {
		b.Fatal(stderr)
	}
	return b.url(user)
}

// injector is a TCP proxy before a server, that can put in a line of the server's.
type injector struct {
	listener net.Listener
	lines    chan string
}

func startInjector(t *testing.T, upstream string) *injector {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &injector{listener: listener, lines: make(chan string, 1)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			p.serve(client, upstream)
		}
	}()
	t.Cleanup(func() { listener.Close(); <-done })
	return p
}

// serve joins one client to the server. A line goes in where the server has just
// ended one of its own.
func (p *injector) serve(client net.Conn, upstream string) {
	defer client.Close()
	server, err := net.Dial("tcp", upstream)
	if err != nil {
		return
	}
	go func() {
		defer server.Close()
		buffer := make([]byte, 64<<10)
		for {
			n, err := client.Read(buffer)
			if err != nil {
				return
			}
			if _, err := server.Write(buffer[:n]); err != nil {
				return
			}
		}
	}()
	buffer := make([]byte, 64<<10)
	for {
		n, err := server.Read(buffer)
		if err != nil {
			return
		}
		text := string(buffer[:n])
		if strings.HasSuffix(text, "\r\n") {
			select {
			case line := <-p.lines:
				text += line
			default:
			}
		}
		if _, err := client.Write([]byte(text)); err != nil {
			return
		}
	}
}
