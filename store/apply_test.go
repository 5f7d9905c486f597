package store_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/store"
	"github.com/complianced/complianced/store/storetest"
)

const keepTombstones = storetest.Tombstones

var device = compliance.Key{Policy: "policy", Device: devicesOfBucket0()[0]}

func apply(t *testing.T, s storetest.Store, from, to compliance.Floor, reports ...*compliance.Report) []compliance.Outcome {
	t.Helper()
	effects, err := s.Apply(t.Context(), compliance.Transaction{From: from, To: to, Reports: reports})
	if err != nil {
		t.Fatal(err)
	}
	var outcomes []compliance.Outcome
	for _, effect := range effects {
		outcomes = append(outcomes, effect.Outcome)
	}
	return outcomes
}

func wantCounts(t *testing.T, s storetest.Store, want map[string][compliance.NumStatuses]int) {
	t.Helper()
	have, err := s.Counts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Error(diff)
	}
}

// cutter stands between a client and the server and breaks the connection at an
// EXEC: before it is passed on, or after, so that its answer never comes.
type cutter struct {
	listener net.Listener
	target   string
	after    bool

	mu   sync.Mutex
	cuts int
}

func startCutter(t *testing.T, target string, after bool, cuts int) *cutter {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{listener: listener, target: target, after: after, cuts: cuts}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go c.pass(client)
		}
	}()
	return c
}

func (c *cutter) pass(client net.Conn) {
	defer client.Close()
	upstream, err := net.Dial("unix", c.target)
	if err != nil {
		return
	}
	defer upstream.Close()
	muted := make(chan struct{})
	go func() {
		buffer := make([]byte, 1<<16)
		for {
			n, err := upstream.Read(buffer)
			if err != nil {
				return
			}
			select {
			case <-muted:
				return
			default:
			}
			if _, err := client.Write(buffer[:n]); err != nil {
				return
			}
		}
	}()
	buffer := make([]byte, 1<<16)
	for {
		n, err := client.Read(buffer)
		if err != nil {
			return
		}
		cut := false
		if bytes.Contains(bytes.ToLower(buffer[:n]), []byte("\r\nexec\r\n")) {
			c.mu.Lock()
			if cut = c.cuts > 0; cut {
				c.cuts--
			}
			c.mu.Unlock()
		}
		if cut && !c.after {
			return
		}
		if cut {
			close(muted)
		}
		if _, err := upstream.Write(buffer[:n]); err != nil {
			return
		}
		if cut {
			return
		}
	}
}

func TestATransactionWhoseAnswerNeverCameHappensOnce(t *testing.T) {
	for _, c := range []struct {
		name  string
		after bool
	}{{"EXEC was lost", false}, {"the answer to EXEC was lost", true}} {
		t.Run(c.name, func(t *testing.T) {
			s := startServer(t)
			between := startCutter(t, s.raw.Options().Addr, c.after, 2)
			retries := 0
			r, err := store.New(layout, store.Options{
				URLs: []string{"redis://" + between.listener.Addr().String()}, Backoff: time.Millisecond,
				OnRetry: func(error, time.Duration) { retries++ },
			})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			have := apply(t, r, compliance.Floor{}, floor(1, "a"), report(t, 1, device, `{"status":"error"}`))
			if diff := cmp.Diff([]compliance.Outcome{compliance.Applied}, have); diff != "" {
				t.Error(diff)
			}
			if retries == 0 {
				t.Error("nothing was cut")
			}
			wantCounts(t, r, map[string][compliance.NumStatuses]int{"policy": {compliance.StatusError: 1}})
		})
	}
}

func TestACorruptKeyIsToldAndMended(t *testing.T) {
	name := "cs:{00}:policy:" + device.Device
	for what, harm := range map[string]func(s *server, ctx context.Context) error{
		"a record of another type": func(s *server, ctx context.Context) error {
			return errors.Join(s.raw.Del(ctx, name).Err(), s.raw.Set(ctx, name, "x", 0).Err())
		},
		"versions that are none": func(s *server, ctx context.Context) error { return s.raw.HSet(ctx, name, "v", "x").Err() },
		"a count that is no number": func(s *server, ctx context.Context) error {
			return s.raw.HSet(ctx, "cs:{00}:|counts", "policy|error", "x").Err()
		},
		"a count that is too low":    func(s *server, ctx context.Context) error { return s.raw.Del(ctx, "cs:{00}:|counts").Err() },
		"counts of another type":     func(s *server, ctx context.Context) error { return s.raw.Set(ctx, "cs:{00}:|counts", "x", 0).Err() },
		"tombstones of another type": func(s *server, ctx context.Context) error { return s.raw.Set(ctx, "cs:{00}:|tombs", "x", 0).Err() },
	} {
		t.Run(what, func(t *testing.T) {
			s := startServer(t)
			r := s.open(t, store.Options{})
			first := report(t, 1, device, `{"status":"error"}`)
			apply(t, r, compliance.Floor{}, floor(1, "a"), first)
			if err := harm(s, t.Context()); err != nil {
				t.Fatal(err)
			}
			removal := report(t, 2, device, `{"@removed":{}}`)
			_, err := r.Apply(t.Context(), compliance.Transaction{From: floor(1, "a"), To: floor(2, "b"), Reports: []*compliance.Report{removal}})
			if _, ok := errors.AsType[*compliance.CorruptError](err); !ok {
				t.Fatalf("want a CorruptError, have %v", err)
			}
			floors, err := r.Floors(t.Context(), []compliance.Bucket{0})
			if err != nil {
				t.Fatal(err)
			}
			again := floor(0, "c")
			again.Repair = true
			_, err = r.Apply(t.Context(), compliance.Transaction{From: floors[0], To: again, Recount: true})
			if err != nil {
				t.Fatal(err)
			}
			apply(t, r, again, floor(1, "d"), first)
			wantCounts(t, r, recounted(t, s))
			apply(t, r, floor(1, "d"), floor(2, "e"), removal)
			wantCounts(t, r, map[string][compliance.NumStatuses]int{})
		})
	}
}

// recounted is what the one record of the test counts as.
func recounted(t *testing.T, s *server) map[string][compliance.NumStatuses]int {
	t.Helper()
	if s.raw.HExists(t.Context(), "cs:{00}:policy:"+device.Device, "t").Val() {
		return map[string][compliance.NumStatuses]int{}
	}
	return map[string][compliance.NumStatuses]int{"policy": {compliance.StatusError: 1}}
}

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
	want := map[string]string{"layout": "1", "partitions": "1", "buckets": "4"}
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

func TestAnErrorHoldsNoPassword(t *testing.T) {
	r, err := store.New(layout, store.Options{URLs: []string{"redis://:hush@127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Ping(t.Context()); err == nil || strings.Contains(err.Error(), "hush") || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Error(err)
	}
	if _, err := store.New(layout, store.Options{URLs: []string{"http://:hush@x"}}); !errors.Is(err, store.ErrURL) || strings.Contains(err.Error(), "hush") {
		t.Error(err)
	}
}
