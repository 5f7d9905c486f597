package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/ingest"
	"github.com/complianced/complianced/internal/embedded"
	"github.com/complianced/complianced/store"
)

// startServers starts the servers that were not named, and connects to NATS.
func (s *server) startServers(ctx context.Context, group *errgroup.Group, path string) (addresses, error) {
	found := addresses{NATS: s.common.natsURL, Redis: s.common.redisURL, RedisMaster: s.common.redisMaster}
	if found.NATS == "" {
		host, port, _ := splitListen(s.natsListen)
		if port == 0 {
			port = embedded.FreePort
		}
		own, err := embedded.StartNATS(ctx, embedded.NATSOptions{StoreDir: filepath.Join(path, "nats"), Host: host, Port: port, Logger: s.log})
		if err != nil {
			return found, err
		}
		s.closers = append(s.closers, own.Close)
		found.NATS = own.URL()
	}
	if len(found.Redis) == 0 {
		own, err := s.startRedis(ctx, group, path)
		if err != nil {
			return found, err
		}
		found.Redis, found.RedisMaster, found.RedisEmbedded = urlList{own.URL()}, "", true
	}
	return found, s.connect(ctx, group, found.NATS)
}

// connect connects to NATS. The serve ends where the client gives up for good.
func (s *server) connect(ctx context.Context, group *errgroup.Group, servers string) error {
	closed := make(chan error, 1)
	nc, err := s.common.waitForNATS(servers, "complianced", connection{
		log: s.log, changed: s.pipeline.SetNATSConnected, closed: func(err error) { closed <- err },
	})
	if err != nil {
		return err
	}
	s.closers = append(s.closers, nc.Close)
	group.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case err := <-closed:
			return err
		}
	})
	s.nats, s.servers = nc, servers
	s.js, err = jetstream.New(nc, jetstream.WithPublishAsyncTimeout(clientTimeout))
	return err
}

func (s *server) startRedis(ctx context.Context, group *errgroup.Group, path string) (*embedded.Redis, error) {
	own, err := embedded.StartRedis(ctx, embedded.RedisOptions{DataDir: path})
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, func() {
		if err := own.Close(); err != nil {
			s.log.WarnContext(ctx, "the embedded redis did not end as it must", slog.Any("error", err))
		}
	})
	if own.StandIn() {
		s.log.WarnContext(ctx, "a stand-in takes the place of redis", slog.String("meaning", embedded.StandInWarning))
		return own, nil
	}
	group.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case <-own.Done():
			return fmt.Errorf("the embedded Redis server ended by itself; its log is in %s: %w", path, own.Err())
		}
	})
	return own, nil
}

// prepare waits until the servers are there and hold the same layout, and shows
// that Redis does what the transaction needs.
func (s *server) prepare(ctx context.Context, options store.Options) error {
	if s.common.natsURL == "" {
		own := ingest.Provisioning{
			Layout:     compliance.Layout{Partitions: 1, Buckets: defaultBuckets},
			KeepMaxAge: true, KeepReplicas: true, // Those that an operator gave to streams that are there.
		}
		if err := s.insist(ctx, "provision the embedded NATS", func(ctx context.Context) error {
			return ingest.Provision(ctx, s.js, own)
		}); err != nil {
			return err
		}
	}
	err := s.insist(ctx, "read the layout of the streams in nats at "+withoutPassword(s.servers), func(ctx context.Context) (err error) {
		if err := s.connected(ctx); err != nil {
			return err
		}
		if s.layout, err = ingest.ReadLayout(ctx, s.js); err != nil {
			return err
		}
		maxAge, err := ingest.MaxAge(ctx, s.js, s.layout)
		if options.Tombstones = s.tombstones; s.tombstones == 0 && maxAge > 0 {
			options.Tombstones = maxAge + tombstonesBeyond
		}
		return err
	})
	if err != nil {
		return err
	}
	options.OnRetry = func(err error, wait time.Duration) {
		s.pipeline.SetRedisConnected(false)
		s.log.WarnContext(ctx, "redis does not answer as it must; trying again",
			slog.String("address", s.store.Address()), slog.Any("error", err), slog.Duration("wait", wait))
	}
	if s.store, err = store.New(s.layout, options); err != nil {
		return usagef("--redis-url: %w", err)
	}
	return s.insist(ctx, "check redis at "+s.store.Address(), func(ctx context.Context) error {
		err := s.checkRedis(ctx, options)
		s.pipeline.SetRedisConnected(err == nil)
		return err
	})
}

// connected waits for NATS, or says why it is not there: the client itself tells it
// of the first attempt and of a lost connection only.
func (s *server) connected(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	changed := s.nats.StatusChanged(nats.CONNECTED)
	defer s.nats.RemoveStatusListener(changed)
	for !s.nats.IsConnected() {
		select {
		case <-changed:
		case <-ctx.Done():
			return s.notConnected()
		}
	}
	return nil
}

func (s *server) notConnected() error { return fmt.Errorf("not connected: %s", lastError(s.nats)) }

// checkRedis shows that Redis holds this layout and does what the roles need. For
// the state alone it writes nothing: its user may be one who only reads.
func (s *server) checkRedis(ctx context.Context, options store.Options) error {
	if s.is(roleIngest) {
		if err := s.store.SelfTest(ctx); err != nil {
			return err
		}
		return s.store.EnsureLayout(ctx)
	}
	err := checkLayout(ctx, options, s.layout)
	if errors.Is(err, store.ErrNoLayout) {
		return nil // Nothing was merged yet.
	}
	return err
}

// checkLayout reads which layout Redis holds. The error is [store.ErrNoLayout] where
// it holds none, and [*store.LayoutError] where it holds another one than wanted.
func checkLayout(ctx context.Context, options store.Options, want compliance.Layout) error {
	there, err := store.Open(ctx, options)
	switch {
	case errors.Is(err, compliance.ErrLayout):
		return &store.LayoutError{Want: want} // Waiting does not mend it.
	case err != nil:
		return err
	}
	defer there.Close() //nolint:errcheck // Nothing was written.
	if have := there.Layout(); have != want {
		return &store.LayoutError{Want: want, Have: have, Version: compliance.LayoutVersion}
	}
	return nil
}

// insist tries until it succeeds, the context ends, or the error is one that
// waiting does not mend.
func (s *server) insist(ctx context.Context, what string, try func(context.Context) error) error {
	for {
		err := func() error {
			ctx, cancel := context.WithTimeout(ctx, clientTimeout)
			defer cancel()
			return try(ctx)
		}()
		_, layout := errors.AsType[*store.LayoutError](err)
		_, version := errors.AsType[*ingest.VersionError](err)
		switch {
		case err == nil:
			return nil
		case layout, version, errors.Is(err, store.ErrNoFence), ctx.Err() != nil:
			return err
		}
		s.log.WarnContext(ctx, "not ready; trying again", slog.String("what", what), slog.Any("error", err))
		wait(ctx, time.Second)
	}
}
