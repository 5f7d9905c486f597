package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/complianced/complianced/compliance"
)

// LayoutError says that Redis holds a state in another layout.
type LayoutError struct {
	Want compliance.Layout
	Have compliance.Layout
	// Version is the version of the layout that is there.
	Version int
}

// Error says what is there, what was expected and what to do.
func (e *LayoutError) Error() string {
	advice := "give this deployment a Redis of its own, or the numbers that it was provisioned with"
	switch {
	case e.Version > compliance.LayoutVersion:
		advice = "a newer complianced wrote it: run that one, or give this deployment a Redis of its own"
	case e.Version > 0 && e.Version < compliance.LayoutVersion:
		advice = "an older complianced wrote it: stop every one of that version, empty this Redis and run complianced provision; " +
			"serve then makes the state anew from the stream, as far as the stream reaches"
	}
	return fmt.Sprintf("redis holds layout version %d with %d partitions and %d buckets, expected is version %d with %d and %d; %s",
		e.Version, e.Have.Partitions, e.Have.Buckets, compliance.LayoutVersion, e.Want.Partitions, e.Want.Buckets, advice)
}

// EnsureLayout writes the layout to cs:|meta where there is none, and otherwise
// checks it. The error is [*LayoutError] where it is another one.
func (r *Redis) EnsureLayout(ctx context.Context) error {
	for {
		fields, err := r.client.HGetAll(ctx, metaKey).Result()
		if err != nil {
			return fmt.Errorf("read layout: %w", err)
		}
		if len(fields) > 0 {
			return r.checkLayout(fields)
		}
		err = r.client.HSet(ctx, metaKey, "layout", compliance.LayoutVersion,
			"partitions", r.layout.Partitions, "buckets", r.layout.Buckets).Err()
		if err != nil {
			return fmt.Errorf("write layout: %w", err)
		}
	}
}

func (r *Redis) checkLayout(fields map[string]string) error {
	version, _ := strconv.Atoi(fields["layout"])
	partitions, _ := strconv.Atoi(fields["partitions"])
	buckets, _ := strconv.Atoi(fields["buckets"])
	have := compliance.Layout{Partitions: partitions, Buckets: buckets}
	if version != compliance.LayoutVersion || have != r.layout {
		return &LayoutError{Want: r.layout, Have: have, Version: version}
	}
	return nil
}

// ErrNoFence says that the server, or a proxy before it, does not honour WATCH.
var ErrNoFence = errors.New("redis does not honour WATCH and MULTI for this user: a transaction went through although its key had changed; connect to the server itself, without a proxy")

// SelfTest shows that the server honours WATCH, MULTI and EXEC for this user, by
// a transaction that must fail and one that must not, on a key of its own that
// it deletes.
func (r *Redis) SelfTest(ctx context.Context) error {
	key := tag(0) + selfTestKey + uuid.NewString()
	master, err := r.master(ctx, key)
	if err != nil {
		return fmt.Errorf("self-test: %w", err)
	}
	defer func() { _ = master.Del(context.WithoutCancel(ctx), key).Err() }()
	attempt := func(interfere bool) error {
		return master.Watch(ctx, func(tx *redis.Tx) error {
			if interfere {
				if err := master.Set(ctx, key, "other", time.Minute).Err(); err != nil {
					return err
				}
			}
			_, err := tx.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
				pipe.Set(ctx, key, "own", time.Minute)
				return nil
			})
			return err
		}, key)
	}
	switch err := attempt(true); {
	case err == nil:
		return ErrNoFence
	case !errors.Is(err, redis.TxFailedErr):
		return fmt.Errorf("self-test: %w", err)
	}
	if err := attempt(false); err != nil {
		return fmt.Errorf("self-test: %w", err)
	}
	return nil
}

// ErrNoLayout says that Redis holds no state.
var ErrNoLayout = errors.New("redis holds no state of complianced yet; start complianced serve on it first")

// Open returns the store for the layout that Redis holds. The error is
// [ErrNoLayout] where it holds none.
func Open(ctx context.Context, options Options) (*Redis, error) {
	r, err := New(compliance.Layout{Partitions: 1, Buckets: 1}, options)
	if err != nil {
		return nil, err
	}
	fields, err := r.client.HGetAll(ctx, metaKey).Result()
	switch {
	case err != nil:
		err = fmt.Errorf("redis at %s: %w", r.address, err)
	case len(fields) == 0:
		err = ErrNoLayout
	default:
		partitions, _ := strconv.Atoi(fields["partitions"])
		buckets, _ := strconv.Atoi(fields["buckets"])
		r.layout = compliance.Layout{Partitions: partitions, Buckets: buckets}
		if err = r.layout.Validate(); err == nil {
			err = r.checkLayout(fields)
		}
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// Layout returns the layout that the store works with.
func (r *Redis) Layout() compliance.Layout { return r.layout }
