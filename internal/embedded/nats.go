package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// FreePort as a NATSOptions.Port lets the server choose a port that is free.
const FreePort = server.RANDOM_PORT

// NATSOptions says how to run the embedded nats-server. StoreDir is required.
type NATSOptions struct {
	// StoreDir is the folder of the streams; it is made where it is missing. One server at a time may use it.
	StoreDir string
	// Host is the address to listen on. Defaults to 127.0.0.1.
	Host string
	// Port is the TCP port to listen on, or FreePort. Defaults to 4222.
	Port int
	// SyncInterval is how often what was written is forced to disk. Defaults to one second, as the append-only file
	// of Redis. nats-server's own default of two minutes suits servers that have replicas; BenchmarkNATSPublish
	// shows no difference between the two (11.3 and 11.6 µs a message).
	SyncInterval time.Duration
	// Logger gets the server's warnings and errors, and its notices at level debug. Defaults to none.
	Logger *slog.Logger
}

// NATS is a running nats-server with JetStream in this process.
type NATS struct {
	server *server.Server
}

// StartNATS starts a nats-server and returns when it takes connections. All streams in StoreDir are recovered by
// then; a recovery that has begun is not interrupted, a done ctx is looked at before and after it.
func StartNATS(ctx context.Context, o NATSOptions) (*NATS, error) {
	if o.StoreDir == "" {
		return nil, errors.New("embedded NATS: no folder to keep the streams in; set StoreDir")
	}
	o = o.withDefaults()
	if err := checkListen(ctx, o.Host, o.Port); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.StoreDir, 0o700); err != nil {
		return nil, fmt.Errorf("embedded NATS: make the store folder: %w", err)
	}
	srv, err := server.NewServer(o.server())
	if err != nil {
		return nil, fmt.Errorf("embedded NATS: %w", err)
	}
	log := &natsLog{logger: o.Logger}
	srv.SetLoggerV2(log, false, false, false)
	srv.Start()
	n := &NATS{server: srv}
	if err := n.started(ctx, log); err != nil {
		n.Close()
		return nil, fmt.Errorf("embedded NATS: %w", err)
	}
	return n, nil
}

// URL is the address for clients on this host, nats://127.0.0.1:4222 for example.
func (n *NATS) URL() string {
	return "nats://" + dialAddress(n.server.Addr().String())
}

// Close ends all connections, closes the streams and returns when the server is gone.
func (n *NATS) Close() {
	n.server.Shutdown()
	n.server.WaitForShutdown()
}

// started says why the server is not running: it does not return an error itself, it logs a fatal one.
func (n *NATS) started(ctx context.Context, log *natsLog) error {
	if err := log.fatal(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if !n.server.ReadyForConnections(10 * time.Second) {
		return errors.New("the server takes no connections 10 s after its start")
	}
	return nil
}

func (o NATSOptions) withDefaults() NATSOptions {
	if o.Host == "" {
		o.Host = "127.0.0.1"
	}
	if o.Port == 0 {
		o.Port = server.DEFAULT_PORT
	}
	if o.SyncInterval == 0 {
		o.SyncInterval = time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

func (o NATSOptions) server() *server.Options {
	return &server.Options{
		ServerName:             "complianced",
		Host:                   o.Host,
		Port:                   o.Port,
		JetStream:              true,
		NoJetStreamStrict:      false, // An unknown field in an API request is an error, not ignored.
		StoreDir:               o.StoreDir,
		SyncInterval:           o.SyncInterval,
		NoSigs:                 true, // Signals belong to this program.
		DisableJetStreamBanner: true,
	}
}

// checkListen finds a port that is taken before the store is opened, and with a typed error, which the server
// itself does not give. Between this check and the server's own listening the port can still be lost.
func checkListen(ctx context.Context, host string, port int) error {
	addr := net.JoinHostPort(host, strconv.Itoa(max(port, 0)))
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("embedded NATS: another program already listens on %s; stop it, name another address "+
			"with --nats-listen, or use that server with --nats-url: %w", addr, err)
	}
	if err != nil {
		return fmt.Errorf("embedded NATS: cannot listen on %s; name another address with --nats-listen: %w", addr, err)
	}
	return l.Close()
}

// dialAddress turns an address that was listened on into one that can be dialed: no client can dial 0.0.0.0
// everywhere.
func dialAddress(listen string) string {
	addr, err := netip.ParseAddrPort(listen)
	if err != nil || !addr.Addr().IsUnspecified() {
		return listen
	}
	loopback := netip.MustParseAddr("127.0.0.1")
	if addr.Addr().Is6() {
		loopback = netip.IPv6Loopback()
	}
	return netip.AddrPortFrom(loopback, addr.Port()).String()
}
