package store_test

import (
	"testing"

	"github.com/complianced/complianced/store"
	"github.com/complianced/complianced/store/storetest"
)

func TestMemoryKeepsTheContract(t *testing.T) {
	storetest.Run(t, func(*testing.T) storetest.Store { return store.NewMemory(storetest.Tombstones) })
}

func TestRedisKeepsTheContract(t *testing.T) {
	s := startServer(t)
	storetest.Run(t, func(t *testing.T) storetest.Store {
		t.Helper()
		if err := s.raw.FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		r, err := store.New(storetest.Layout(), store.Options{URLs: []string{s.url}, Tombstones: storetest.Tombstones})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() })
		return r
	})
}
