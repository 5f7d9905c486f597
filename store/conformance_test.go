package store_test

import (
	"context"
	"testing"

	"github.com/complianced/complianced/store"
	"github.com/complianced/complianced/store/storetest"
)

func TestMemoryKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(*testing.T) storetest.Store { return store.NewMemory(storetest.Tombstones) })
}

func TestRedisKeepsTheContract(t *testing.T) {
	s := startServer(t)
	conform(t, store.Options{URLs: []string{s.url}}, func(ctx context.Context) error { return s.raw.FlushAll(ctx).Err() })
}

// conform runs the conformance suite, each case on a store that was emptied.
func conform(t *testing.T, options store.Options, empty func(ctx context.Context) error) {
	t.Helper()
	options.Tombstones = storetest.Tombstones
	storetest.Run(t, func(t *testing.T) storetest.Store {
		t.Helper()
		if err := empty(t.Context()); err != nil {
			t.Fatal(err)
		}
		r, err := store.New(storetest.Layout(), options)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() })
		if err := r.SelfTest(t.Context()); err != nil {
			t.Fatal(err)
		}
		return r
	})
}
