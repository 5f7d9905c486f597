package store

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/complianced/complianced/compliance"
)

// Options say where Redis is and how to use it.
type Options struct {
	// URLs are the addresses as redis://, rediss:// or unix:// URLs. One is a
	// single server, several are the seeds of a cluster, or the Sentinels where
	// SentinelMaster is set.
	URLs []string
	// SentinelMaster is the name under which the Sentinels know the master. The
	// Sentinels themselves must not ask for a password.
	SentinelMaster string
	// Password, where not empty, takes the place of one in the URL.
	Password string
	// TLS is used for rediss:// URLs. Defaults to the system's roots.
	TLS *tls.Config
	// Tombstones is how long the tombstone of a removed record is kept, counted in
	// store times. Defaults to 0: for ever.
	Tombstones time.Duration
	// Backoff is the wait before the first retry of a transaction; it doubles up
	// to 50 times that. Defaults to 20 ms.
	Backoff time.Duration
	// OnRetry, where not nil, hears of each attempt of a transaction that did not
	// come through, and how long the store waits before the next.
	OnRetry func(err error, wait time.Duration)
}

// Redis is the store in a Redis server, a Sentinel group or a Redis Cluster. It
// is safe for concurrent use.
type Redis struct {
	client  redis.UniversalClient
	options Options
	layout  compliance.Layout
	address string
	// idle holds applications whose memory can be used again.
	idle sync.Pool
	// connections is how many were made, and seen how many there had been at the last
	// transaction of each bucket.
	connections atomic.Uint64
	seen        [compliance.MaxBuckets]atomic.Uint64
}

// Connections returns how many connections were made to Redis. Where it has grown, the
// server may be another one, or the same after it lost its tail.
func (r *Redis) Connections() uint64 { return r.connections.Load() }

// reconnected tells whether a connection was made since the last transaction of a
// bucket.
func (r *Redis) reconnected(b compliance.Bucket) bool {
	made := r.connections.Load()
	return r.seen[b].Swap(made) != made
}

// ErrURL says that no usable Redis URL was given.
var ErrURL = errors.New("the Redis URL is not redis://host:port, rediss://host:port or unix:///path")

// What else can be wrong with the URLs.
var (
	ErrURLsDiffer = errors.New("the Redis URLs have different users, passwords or databases; give all of them the same")
	ErrURLOption  = errors.New("a Redis URL has an option after ? that is neither db nor skip_verify")
)

// New returns the store for a layout. It connects when it is first used. The
// error is [ErrURL], [ErrURLsDiffer], [ErrURLOption] or [compliance.ErrLayout]; it
// never holds a password.
func New(layout compliance.Layout, options Options) (*Redis, error) {
	if err := layout.Validate(); err != nil {
		return nil, err
	}
	if options.Backoff <= 0 {
		options.Backoff = 20 * time.Millisecond
	}
	universal, err := universalOptions(options)
	if err != nil {
		return nil, err
	}
	r := &Redis{options: options, layout: layout, address: strings.Join(universal.Addrs, ",")}
	universal.OnConnect = func(context.Context, *redis.Conn) error {
		r.connections.Add(1)
		return nil
	}
	r.client = redis.NewUniversalClient(universal)
	return r, nil
}

// parseURL reads one address. Its errors hold nothing of it, for it may hold a
// password.
func parseURL(text string) (*redis.Options, error) {
	parsed, err := url.Parse(text)
	if err != nil {
		return nil, ErrURL
	}
	for option := range parsed.Query() {
		if option != "skip_verify" && option != "db" {
			return nil, ErrURLOption
		}
	}
	one, err := redis.ParseURL(text)
	if err != nil {
		return nil, ErrURL
	}
	return one, nil
}

func universalOptions(options Options) (*redis.UniversalOptions, error) {
	universal := &redis.UniversalOptions{
		MasterName: options.SentinelMaster,
		// A transaction is never sent again behind our back: a lost answer is
		// settled by the floor.
		MaxRetries: -1,
		// RESP3 has nothing that is used here, and before each reply the client would
		// look whether it is a push notification. HGETALL then comes as an array, which
		// is read without making a map of it.
		Protocol:                 2,
		ContextTimeoutEnabled:    true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	for i, text := range options.URLs {
		one, err := parseURL(strings.TrimSpace(text))
		if err != nil {
			return nil, err
		}
		if i > 0 && (universal.Username != one.Username || universal.Password != one.Password || universal.DB != one.DB) {
			return nil, ErrURLsDiffer
		}
		universal.Addrs = append(universal.Addrs, one.Addr)
		universal.Username, universal.Password, universal.DB = one.Username, one.Password, one.DB
		if one.Network == "unix" {
			path := one.Addr
			universal.Dialer = func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", path)
			}
		}
		if one.TLSConfig != nil {
			universal.TLSConfig = one.TLSConfig
			if options.TLS != nil {
				universal.TLSConfig = options.TLS
			}
		}
	}
	if len(universal.Addrs) == 0 {
		return nil, ErrURL
	}
	if universal.TLSConfig != nil && (len(universal.Addrs) > 1 || options.SentinelMaster != "") {
		// Each server is to show a certificate with its own name, not the last one's.
		universal.TLSConfig = universal.TLSConfig.Clone()
		universal.TLSConfig.ServerName = ""
	}
	if options.Password != "" {
		universal.Password = options.Password
	}
	return universal, nil
}

// Address returns where the server is, without credentials.
func (r *Redis) Address() string { return r.address }

// Close closes the connections.
func (r *Redis) Close() error { return r.client.Close() }

// Ping asks the server for a sign of life.
func (r *Redis) Ping(ctx context.Context) error {
	if err := r.client.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("redis at %s: %w", r.address, err)
	}
	return nil
}

// master returns the server that holds a key. In a cluster a transaction runs on
// the master's own client: ClusterClient.Watch can return nil without having run
// its function while a slot moves.
func (r *Redis) master(ctx context.Context, key string) (*redis.Client, error) {
	switch client := r.client.(type) {
	case *redis.Client:
		return client, nil
	case *redis.ClusterClient:
		return client.MasterForKey(ctx, key)
	}
	return nil, ErrURL
}

// noticeMoved makes a cluster's client look where the slots are now, when an
// error says that one has moved.
func (r *Redis) noticeMoved(ctx context.Context, err error) {
	cluster, ok := r.client.(*redis.ClusterClient)
	if !ok {
		return
	}
	if _, moved := redis.IsMovedError(err); moved || redis.IsReadOnlyError(err) {
		cluster.ReloadState(ctx)
	}
}

// pause waits before another attempt, longer each time. It returns the context's
// error where that ends first.
func (r *Redis) pause(ctx context.Context, attempt int, cause error) error {
	wait := min(r.options.Backoff<<min(attempt, 10), 50*r.options.Backoff)
	if r.options.OnRetry != nil {
		r.options.OnRetry(cause, wait)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return fmt.Errorf("redis at %s: %w (the last attempt: %w)", r.address, context.Cause(ctx), cause)
	case <-timer.C:
		return nil
	}
}
