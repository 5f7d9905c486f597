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
)

// sink is what both stores are.
type sink interface {
	Apply(ctx context.Context, tx compliance.Transaction) ([]compliance.Effect, error)
	Get(ctx context.Context, key compliance.Key) (compliance.Record, error)
	Counts(ctx context.Context) (map[string][compliance.NumStatuses]int, error)
	Floors(ctx context.Context, buckets []compliance.Bucket) ([]compliance.Floor, error)
	Gaps(ctx context.Context, buckets []compliance.Bucket) ([][]compliance.Gap, error)
}

const keepTombstones = 100 * time.Second

// TestConformance is the contract of a store, which both must keep.
func TestConformance(t *testing.T) {
	s := startServer(t)
	for name, open := range map[string]func(t *testing.T) sink{
		"memory": func(*testing.T) sink { return store.NewMemory(keepTombstones) },
		"redis": func(t *testing.T) sink {
			t.Helper()
			if err := s.raw.FlushAll(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			return s.open(t, store.Options{Tombstones: keepTombstones})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Run("reports of one record are merged in sequence", func(t *testing.T) { inSequence(t, open(t)) })
			t.Run("a removed record is a tombstone until it expires", func(t *testing.T) { tombstones(t, open(t)) })
			t.Run("a floor that is not there fences the writer off", func(t *testing.T) { fenced(t, open(t)) })
			t.Run("gaps are kept until they are accepted", func(t *testing.T) { gaps(t, open(t)) })
		})
	}
}

var device = compliance.Key{Policy: "policy", Device: devicesOfBucket0()[0]}

func apply(t *testing.T, s sink, from, to compliance.Floor, reports ...*compliance.Report) []compliance.Outcome {
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

func wantCounts(t *testing.T, s sink, want map[string][compliance.NumStatuses]int) {
	t.Helper()
	have, err := s.Counts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Error(diff)
	}
}

func inSequence(t *testing.T, s sink) {
	t.Helper()
	const at = "2026-01-01T00:00:00Z"
	have := apply(t, s, compliance.Floor{}, floor(5, "a"),
		report(t, 1, device, `{"status":"error","userName":"b"}`, "ce-id", "1", "ce-time", at),
		report(t, 2, device, `{"status":"error","userName":"b"}`, "ce-id", "1", "ce-time", at),
		report(t, 3, device, `{"userName":"c"}`, "ce-id", "1", "ce-time", at),
		report(t, 4, device, `{"userName":"z"}`, "ce-id", "1", "ce-time", "2025-01-01T00:00:00Z"),
		report(t, 5, device, `{"status":"compliant","userName":null}`, "ce-id", "2", "ce-time", "2026-01-02T00:00:00Z"),
	)
	want := []compliance.Outcome{compliance.Applied, compliance.Unchanged, compliance.Applied, compliance.Stale, compliance.Applied}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Error(diff)
	}
	// A tie with what is stored: its value decides.
	have = apply(t, s, floor(5, "a"), floor(7, "b"),
		report(t, 6, device, `{"status":"notApplicable"}`, "ce-id", "2", "ce-time", "2026-01-02T00:00:00Z"),
		report(t, 7, device, `{"userName":""}`, "ce-id", "2", "ce-time", "2026-01-02T00:00:00Z"))
	// The id is set by every report: both have its version and value.
	if diff := cmp.Diff([]compliance.Outcome{compliance.Unchanged, compliance.Applied}, have); diff != "" {
		t.Error(diff)
	}
	effects, err := s.Apply(t.Context(), compliance.Transaction{From: floor(7, "b"), To: floor(8, "c"), Reports: []*compliance.Report{
		report(t, 8, device, `{}`, "Compliance-Reply", "token"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	if record := string(effects[0].Record); !strings.Contains(record, `"status":"compliant"`) || !strings.Contains(record, `"userName":""`) {
		t.Error(record)
	}
	record, err := s.Get(t.Context(), device)
	if err != nil || !record.Exists() || record.Values[compliance.UserName] != compliance.TextValue("") ||
		record.Values[compliance.Platform].Kind != compliance.Unset {
		t.Errorf("%v: %v", err, record.Values)
	}
	wantCounts(t, s, map[string][compliance.NumStatuses]int{"policy": {compliance.StatusCompliant: 1}})
}

func tombstones(t *testing.T, s sink) {
	t.Helper()
	apply(t, s, compliance.Floor{}, floor(2, "a"),
		report(t, 1, device, `{"status":"error"}`), report(t, 2, device, `{"@removed":{}}`))
	wantCounts(t, s, map[string][compliance.NumStatuses]int{})
	const old = "2020-01-01T00:00:00Z"
	have := apply(t, s, floor(2, "a"), floor(50, "b"), report(t, 50, device, `{"status":"error"}`, "ce-time", old))
	if diff := cmp.Diff([]compliance.Outcome{compliance.Stale}, have); diff != "" {
		t.Error(diff)
	}
	// The stale report was stored at 50: the tombstone lives until 150.
	have = apply(t, s, floor(50, "b"), floor(149, "c"), report(t, 149, device, `{"status":"error"}`, "ce-time", old))
	if diff := cmp.Diff([]compliance.Outcome{compliance.Stale}, have); diff != "" {
		t.Error(diff)
	}
	// In one transaction: the report before its end makes no record, the one at its
	// end does.
	have = apply(t, s, floor(149, "c"), floor(249, "d"),
		report(t, 248, compliance.Key{Policy: "other", Device: device.Device}, `{}`, "ce-time", old),
		report(t, 249, device, `{"status":"error"}`, "ce-time", old))
	if diff := cmp.Diff([]compliance.Outcome{compliance.Applied, compliance.Applied}, have); diff != "" {
		t.Error(diff)
	}
	apply(t, s, floor(249, "d"), floor(251, "e"), report(t, 251, device, `{"@removed":{}}`))
	apply(t, s, floor(251, "e"), floor(352, "f"))
	record, err := s.Get(t.Context(), device)
	if err != nil || !record.Empty() {
		t.Errorf("%v: an expired tombstone is still there: %v", err, record)
	}
	wantCounts(t, s, map[string][compliance.NumStatuses]int{"other": {compliance.StatusUnknown: 1}})
}

func fenced(t *testing.T, s sink) {
	t.Helper()
	first := report(t, 1, device, `{"status":"error"}`)
	apply(t, s, compliance.Floor{}, floor(1, "a"), first)
	_, err := s.Apply(t.Context(), compliance.Transaction{To: floor(1, "b"), Reports: []*compliance.Report{report(t, 1, device, `{"status":"compliant"}`)}})
	foreign, ok := errors.AsType[*compliance.FloorError](err)
	if !ok || !foreign.Have.Equal(floor(1, "a")) {
		t.Errorf("want the floor that is there, have %v", err)
	}
	wantCounts(t, s, map[string][compliance.NumStatuses]int{"policy": {compliance.StatusError: 1}})
	effects, err := s.Apply(t.Context(), compliance.Transaction{To: floor(1, "a"), Reports: []*compliance.Report{first}})
	if err != nil || effects != nil {
		t.Errorf("a transaction that has happened: %v, %v", effects, err)
	}
	floors, err := s.Floors(t.Context(), []compliance.Bucket{1, 0})
	if err != nil || !floors[0].Absent() || !floors[1].Equal(floor(1, "a")) {
		t.Errorf("%v: %v", err, floors)
	}
}

func gaps(t *testing.T, s sink) {
	t.Helper()
	gap := compliance.Gap{First: 3, Last: 9, Seen: began}
	if _, err := s.Apply(t.Context(), compliance.Transaction{To: floor(9, "a"), Gaps: []compliance.Gap{gap}}); err != nil {
		t.Fatal(err)
	}
	have, err := s.Gaps(t.Context(), []compliance.Bucket{0})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([][]compliance.Gap{{gap}}, have); diff != "" {
		t.Error(diff)
	}
	if _, err := s.Apply(t.Context(), compliance.Transaction{From: floor(9, "a"), To: floor(9, "b"), Accept: true}); err != nil {
		t.Fatal(err)
	}
	if have, err := s.Gaps(t.Context(), []compliance.Bucket{0}); err != nil || len(have[0]) != 0 {
		t.Errorf("%v: %v", err, have)
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
