package store_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/store"
)

func TestTheLayoutIsWrittenOnceAndRefusedWhenItIsAnother(t *testing.T) {
	s := startServer(t)
	r := s.open(t, store.Options{})
	if _, err := store.Open(t.Context(), store.Options{URLs: []string{s.url}}); !errors.Is(err, store.ErrNoLayout) {
		t.Errorf("want ErrNoLayout, have %v", err)
	}
	for range 2 {
		if err := r.EnsureLayout(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	other, err := store.New(compliance.Layout{Partitions: 2, Buckets: 8}, store.Options{URLs: []string{s.url}})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, ok := errors.AsType[*store.LayoutError](other.EnsureLayout(t.Context())); !ok {
		t.Error("another layout was taken")
	}
	if err := s.raw.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Floors(t.Context(), []compliance.Bucket{0}); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"layout": "3", "partitions": "1", "buckets": "4"}
	if diff := cmp.Diff(want, s.raw.HGetAll(t.Context(), "cs:|meta").Val()); diff != "" {
		t.Error(diff)
	}
	if err := r.SelfTest(t.Context()); err != nil {
		t.Error(err)
	}
	if n := s.raw.DBSize(t.Context()).Val(); n != 1 {
		t.Errorf("the self-test left keys: %d", n)
	}
}

func TestALayoutErrorSaysWhatFitsTheVersion(t *testing.T) {
	for version, want := range map[int]string{
		compliance.LayoutVersion - 1: "empty this Redis and run complianced provision",
		compliance.LayoutVersion:     "the numbers that it was provisioned with",
		compliance.LayoutVersion + 1: "a newer complianced wrote it",
		0:                            "give this deployment a Redis of its own",
	} {
		s := startServer(t)
		if err := s.raw.HSet(t.Context(), "cs:|meta", "layout", version, "partitions", 1, "buckets", 8).Err(); err != nil {
			t.Fatal(err)
		}
		if err := s.open(t, store.Options{}).EnsureLayout(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("version %d: %v", version, err)
		}
	}
}

func TestAUserWhoMayNotWatchFailsTheSelfTest(t *testing.T) {
	s := startServer(t)
	if err := s.raw.Do(t.Context(), "ACL", "SETUSER", "weak", "on", ">hush", "~*", "+@all", "-watch").Err(); err != nil {
		t.Fatal(err)
	}
	r, err := store.New(layout, store.Options{URLs: []string{"unix://weak:hush@" + s.raw.Options().Addr}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.SelfTest(t.Context()); err == nil || strings.Contains(err.Error(), "hush") {
		t.Error(err)
	}
}
