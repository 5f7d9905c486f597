package token

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// keyLifetime is how long keys are used before the issuer is asked whether they are still
// its own.
const keyLifetime = time.Hour

// keyring has the keys of an issuer, and fetches them when they are needed.
type keyring struct {
	fetch    func(context.Context) ([]jose.JSONWebKey, error)
	interval time.Duration
	logger   *slog.Logger
	now      func() time.Time
	turn     chan struct{} // Has room for the one who fetches.
	last     atomic.Pointer[fetched]
}

// fetched is what is known after an attempt to fetch the keys.
type fetched struct {
	keys  []jose.JSONWebKey // Of the last attempt that succeeded.
	since time.Time         // When that was; zero where there was none.
	tried time.Time         // When the last attempt was.
	err   error             // Of the last attempt.
}

func newKeyring(fetch func(context.Context) ([]jose.JSONWebKey, error), interval time.Duration, logger *slog.Logger, now func() time.Time) *keyring {
	k := &keyring{fetch: fetch, interval: interval, logger: logger, now: now, turn: make(chan struct{}, 1)}
	k.last.Store(&fetched{})
	return k
}

// verify returns nil where a key of the issuer signed the token. The error is
// [graph.ErrToken] where none did; another one means that there is no key of that name
// and the issuer cannot be asked for it.
func (k *keyring) verify(ctx context.Context, token *jwt.JSONWebToken) error {
	seen := k.current(ctx)
	verified, named := seen.verify(token)
	if verified {
		return nil
	}
	// The key may be newer than ours, also one of the same name.
	next, err := k.renewed(ctx, seen)
	if err != nil {
		return err
	}
	if next != seen {
		verified, named = next.verify(token)
	}
	switch {
	case verified:
		return nil
	case !named && next.err != nil:
		return next.err
	}
	return refused("no key of the issuer signed it")
}

// verify reports whether one of the keys signed the token, and whether there is one of the
// name that the token gives.
func (f *fetched) verify(token *jwt.JSONWebToken) (verified, named bool) {
	header := token.Headers[0]
	for _, key := range f.keys {
		if header.KeyID != "" && header.KeyID != key.KeyID {
			continue
		}
		named = true
		if key.Algorithm != "" && key.Algorithm != header.Algorithm {
			continue
		}
		if token.Claims(key.Key) == nil {
			return true, true
		}
	}
	return false, named
}

// current returns the keys. Where they are old, one who asks renews them, if possible.
func (k *keyring) current(ctx context.Context) *fetched {
	seen := k.last.Load()
	if seen.since.IsZero() || k.now().Sub(seen.since) < keyLifetime {
		return seen
	}
	select {
	case k.turn <- struct{}{}:
		defer k.leave()
	default:
		return seen
	}
	next := k.attempt(ctx, seen)
	if next != seen && next.err != nil {
		k.logger.LogAttrs(ctx, slog.LevelWarn, "keys of the token issuer cannot be renewed, the old ones are used", slog.Any("error", next.err))
	}
	return next
}

// renewed returns what there is after seen, which is seen itself where it is too early to
// ask again. Those who come while one asks wait for the same answer.
func (k *keyring) renewed(ctx context.Context, seen *fetched) (*fetched, error) {
	select {
	case k.turn <- struct{}{}:
		defer k.leave()
		return k.attempt(ctx, seen), nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the keys of the token issuer: %w", ctx.Err())
	}
}

func (k *keyring) leave() {
	<-k.turn
}

// attempt fetches the keys, if nobody did since seen and the time has come. It wants the
// turn.
func (k *keyring) attempt(ctx context.Context, seen *fetched) *fetched {
	last, now := k.last.Load(), k.now()
	if last != seen || now.Sub(last.tried) < k.interval {
		return last
	}
	next := &fetched{keys: last.keys, since: last.since, tried: now}
	// A client that goes away must not spoil it for the others.
	keys, err := k.fetch(context.WithoutCancel(ctx))
	if err != nil {
		next.err = fmt.Errorf("fetch the keys of the token issuer: %w", err)
	} else {
		next.keys, next.since = keys, now
	}
	k.last.Store(next)
	return next
}
