package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/internal/embedded"
	"github.com/complianced/complianced/store"
)

// middle stands between a client and the server and passes on what a test lets
// it pass on.
type middle struct {
	server *server
	// ask sees what the client sends and passes on what the server is to get.
	ask func(w *way, chunk []byte)

	listener net.Listener
	all      sync.WaitGroup
	mu       sync.Mutex
	open     map[net.Conn]bool
}

func startMiddle(t *testing.T, s *server, ask func(w *way, chunk []byte)) *middle {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &middle{server: s, ask: ask, listener: listener, open: map[net.Conn]bool{}}
	m.all.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			m.all.Go(func() { m.serve(client) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		m.mu.Lock()
		for conn := range m.open {
			_ = conn.Close()
		}
		m.open = nil
		m.mu.Unlock()
		m.all.Wait()
	})
	return m
}

func (m *middle) url() string { return "redis://" + m.listener.Addr().String() }

// way is a client's connection through the middle.
type way struct{ client, server net.Conn }

// pass sends to the server. A closed way is found by the next read.
func (w *way) pass(chunk []byte) { _, _ = w.server.Write(chunk) }

// hangUp closes the way to the client: no answer to what is passed on after it
// comes back.
func (w *way) hangUp() { _ = w.client.Close() }

func (m *middle) serve(client net.Conn) {
	server, err := net.Dial("unix", m.server.raw.Options().Addr)
	if err != nil {
		_ = client.Close()
		return
	}
	w := &way{client, server}
	m.mu.Lock()
	late := m.open == nil
	if !late {
		m.open[client], m.open[server] = true, true
	}
	m.mu.Unlock()
	copyAll := func(from, to net.Conn, each func(chunk []byte)) {
		defer from.Close()
		defer to.Close()
		buffer := make([]byte, 1<<16)
		for !late {
			n, err := from.Read(buffer)
			if err != nil {
				return
			}
			each(buffer[:n])
		}
	}
	var both sync.WaitGroup
	both.Go(func() { copyAll(client, server, func(chunk []byte) { m.ask(w, chunk) }) })
	both.Go(func() { copyAll(server, client, func(chunk []byte) { _, _ = client.Write(chunk) }) })
	both.Wait()
}

func isExec(chunk []byte) bool { return bytes.Contains(bytes.ToLower(chunk), []byte("\r\nexec\r\n")) }

// retries notes what a store says of its attempts.
type retries struct {
	mu     sync.Mutex
	causes []string
	first  func()
}

func (r *retries) note(err error, _ time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.causes = append(r.causes, err.Error())
	if len(r.causes) == 1 && r.first != nil {
		r.first()
	}
}

func (r *retries) n() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.causes)
}

func (r *retries) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.causes, "\n")
}

func TestTheWriterWhoseFloorIsTakenAtItsExecWritesNothing(t *testing.T) {
	s := startServer(t)
	other := s.open(t, store.Options{})
	var once sync.Once
	errs := make(chan error, 1)
	won := floor(1, "other")
	m := startMiddle(t, s, func(w *way, chunk []byte) {
		if isExec(chunk) {
			once.Do(func() { // After all reads, before the EXEC.
				_, err := other.Apply(t.Context(), compliance.Transaction{To: won, Reports: []*compliance.Report{report(t, 1, device, `{"status":"error"}`)}})
				errs <- err
			})
		}
		w.pass(chunk)
	})
	r, err := store.New(layout, store.Options{URLs: []string{m.url()}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	effects, err := r.Apply(t.Context(), compliance.Transaction{To: floor(1, "own"), Reports: []*compliance.Report{report(t, 1, device, `{"status":"compliant"}`)}})
	if err := <-errs; err != nil {
		t.Fatal(err)
	}
	foreign, ok := errors.AsType[*compliance.FloorError](err)
	if !ok || !foreign.Have.Equal(won) || effects != nil {
		t.Errorf("Apply returns %v and %v, not the winner's floor", effects, err)
	}
	wantCounts(t, r, map[string][compliance.NumStatuses]int{"policy": {compliance.StatusError: 1}})
}

func TestATransactionWhoseAnswerNeverCameHappensOnce(t *testing.T) {
	for name, came := range map[string]bool{"EXEC was lost": false, "the answer to EXEC was lost": true} {
		t.Run(name, func(t *testing.T) {
			s := startServer(t)
			var execs atomic.Int32
			m := startMiddle(t, s, func(w *way, chunk []byte) {
				cut := isExec(chunk) && execs.Add(1) <= 2
				if cut {
					w.hangUp()
				}
				if !cut || came {
					w.pass(chunk)
				}
			})
			heard := &retries{}
			r, err := store.New(layout, store.Options{URLs: []string{m.url()}, Backoff: time.Millisecond, OnRetry: heard.note})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			have := apply(t, r, compliance.Floor{}, floor(1, "a"), report(t, 1, device, `{"status":"error"}`))
			if diff := cmp.Diff([]compliance.Outcome{compliance.Applied}, have); diff != "" {
				t.Error(diff)
			}
			if heard.n() == 0 {
				t.Error("nothing was cut")
			}
			wantCounts(t, r, map[string][compliance.NumStatuses]int{"policy": {compliance.StatusError: 1}})
			record, err := r.Get(t.Context(), device)
			if err != nil || record.Status() != compliance.StatusError {
				t.Errorf("%v: the record reads %v", err, record)
			}
		})
	}
}

func TestATransactionWhoseAnswerWasLostAndThatIsBuiltOnIsNotDoneAgain(t *testing.T) {
	s := startServer(t)
	other := s.open(t, store.Options{})
	var once sync.Once
	own := floor(1, "own")
	m := startMiddle(t, s, func(w *way, chunk []byte) {
		lost := false
		if isExec(chunk) {
			once.Do(func() {
				lost = true
				// The transaction happens, and another is built on it, before its writer
				// hears of it.
				_, err := other.Apply(t.Context(), compliance.Transaction{To: own, Reports: []*compliance.Report{report(t, 1, device, `{"status":"error"}`)}})
				if err == nil {
					_, err = other.Apply(t.Context(), compliance.Transaction{From: own, To: floor(2, "other")})
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		if lost {
			w.hangUp()
			return
		}
		w.pass(chunk)
	})
	r, err := store.New(layout, store.Options{URLs: []string{m.url()}, Backoff: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	_, err = r.Apply(t.Context(), compliance.Transaction{To: own, Reports: []*compliance.Report{report(t, 1, device, `{"status":"error"}`)}})
	foreign, ok := errors.AsType[*compliance.FloorError](err)
	if !ok || !foreign.Have.Equal(floor(2, "other")) {
		t.Errorf("Apply: %v", err)
	}
	wantCounts(t, r, map[string][compliance.NumStatuses]int{"policy": {compliance.StatusError: 1}})
}

func TestWhatAnotherWriterChangesBetweenTwoReadsIsNotCorrupt(t *testing.T) {
	s := startServer(t)
	other := s.open(t, store.Options{})
	apply(t, other, compliance.Floor{}, floor(1, "a"), report(t, 1, device, `{"status":"compliant"}`))
	removed := floor(2, "other")
	var once sync.Once
	m := startMiddle(t, s, func(w *way, chunk []byte) {
		// The record is read before, the counts are read after the other writer.
		if name := bytes.Index(chunk, []byte(":|counts")); name > 0 {
			once.Do(func() {
				command := bytes.LastIndexByte(chunk[:name], '*')
				w.pass(chunk[:command])
				chunk = chunk[command:]
				apply(t, other, floor(1, "a"), removed, report(t, 2, device, `{"@removed":{}}`))
			})
		}
		w.pass(chunk)
	})
	r, err := store.New(layout, store.Options{URLs: []string{m.url()}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	_, err = r.Apply(t.Context(), compliance.Transaction{
		From: floor(1, "a"), To: floor(2, "own"), Reports: []*compliance.Report{report(t, 2, device, `{"status":"error"}`)},
	})
	foreign, ok := errors.AsType[*compliance.FloorError](err)
	if !ok || !foreign.Have.Equal(removed) {
		t.Errorf("Apply: %v", err)
	}
}

func TestKilledConnectionsAreMadeAnew(t *testing.T) {
	s := startServer(t)
	heard := &retries{}
	var execs atomic.Int32
	m := startMiddle(t, s, func(w *way, chunk []byte) {
		if isExec(chunk) && execs.Add(1) <= 3 {
			if err := s.raw.Do(t.Context(), "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").Err(); err != nil {
				t.Error(err)
			}
		}
		w.pass(chunk)
	})
	r, err := store.New(layout, store.Options{URLs: []string{m.url()}, Backoff: time.Millisecond, OnRetry: heard.note})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	have := apply(t, r, compliance.Floor{}, floor(1, "a"), report(t, 1, device, `{"status":"error"}`))
	if diff := cmp.Diff([]compliance.Outcome{compliance.Applied}, have); diff != "" {
		t.Error(diff)
	}
	if heard.n() != 3 {
		t.Errorf("three kills and %d retries:\n%s", heard.n(), heard.text())
	}
	wantCounts(t, r, map[string][compliance.NumStatuses]int{"policy": {compliance.StatusError: 1}})
}

// TestRestart has a short name: it is part of the path of a Unix socket.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	start := func() *embedded.Redis {
		t.Helper()
		own, err := embedded.StartRedis(t.Context(), embedded.RedisOptions{DataDir: dir})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = own.Close() })
		return own
	}
	first := start()
	down := make(chan struct{})
	heard := &retries{first: func() { close(down) }}
	r, err := store.New(layout, store.Options{URLs: []string{first.URL()}, Backoff: time.Millisecond, OnRetry: heard.note})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	apply(t, r, compliance.Floor{}, floor(1, "a"), report(t, 1, device, `{"status":"error"}`))
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	var outcomes []compliance.Outcome
	var applying sync.WaitGroup
	applying.Go(func() {
		outcomes = apply(t, r, floor(1, "a"), floor(2, "b"), report(t, 2, device, `{"status":"compliant"}`))
	})
	<-down
	start()
	applying.Wait()
	if diff := cmp.Diff([]compliance.Outcome{compliance.Applied}, outcomes); diff != "" {
		t.Error(diff)
	}
	wantCounts(t, r, map[string][compliance.NumStatuses]int{"policy": {compliance.StatusCompliant: 1}})
}

func TestAServerThatLoadsIsWaitedFor(t *testing.T) {
	address := startProcess(t, "--appendonly", "yes", "--save", "", "--enable-debug-command", "yes",
		"--aof-use-rdb-preamble", "no", "--key-load-delay", "100")
	raw := redis.NewClient(&redis.Options{Addr: address, ReadTimeout: time.Minute})
	defer raw.Close()
	pipe := raw.Pipeline()
	for range 6000 { // It answers while it loads once in 1,024 commands.
		pipe.Append(t.Context(), "ballast", "x")
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	heard := &retries{}
	r, err := store.New(layout, store.Options{URLs: []string{"redis://" + address}, Backoff: time.Millisecond, OnRetry: heard.note})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	apply(t, r, compliance.Floor{}, floor(1, "a"), report(t, 1, device, `{"status":"error"}`))
	var loading sync.WaitGroup
	loading.Go(func() {
		if err := raw.Do(t.Context(), "DEBUG", "LOADAOF").Err(); err != nil {
			t.Error(err)
		}
	})
	at := floor(1, "a")
	until(t, "a transaction that found the server loading", func(context.Context) bool {
		to := floor(at.Sequence+1, "w")
		apply(t, r, at, to, report(t, to.Sequence, device, `{"status":"error"}`))
		at = to
		return strings.Contains(heard.text(), "LOADING")
	})
	loading.Wait()
	wantCounts(t, r, map[string][compliance.NumStatuses]int{"policy": {compliance.StatusError: 1}})
}

func TestATransactionEndsWithItsContextWhereRedisIsAway(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("the worker is stopped")
	heard := &retries{first: func() { cancel(stopped) }}
	r, err := store.New(layout, store.Options{URLs: []string{"redis://someone:hush@127.0.0.1:1"}, OnRetry: heard.note})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	_, err = r.Apply(ctx, compliance.Transaction{To: floor(1, "a")})
	if !errors.Is(err, stopped) || strings.Contains(err.Error(), "hush") || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("Apply: %v", err)
	}
	for name, err := range map[string]error{
		"Get":    second(r.Get(t.Context(), device)),
		"Counts": second(r.Counts(t.Context())),
		"Floors": second(r.Floors(t.Context(), []compliance.Bucket{0})),
		"Gaps":   second(r.Gaps(t.Context(), []compliance.Bucket{0})),
		"layout": r.EnsureLayout(t.Context()),
		"test":   r.SelfTest(t.Context()),
		"ping":   r.Ping(t.Context()),
		"Open":   second(store.Open(t.Context(), store.Options{URLs: []string{"redis://someone:hush@127.0.0.1:1"}})),
	} {
		if err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestAProxyThatSwallowsWatchFailsTheSelfTest(t *testing.T) {
	s := startServer(t)
	var swallowed atomic.Int32
	m := startMiddle(t, s, func(w *way, chunk []byte) {
		if bytes.Contains(chunk, []byte("\r\nwatch\r\n")) {
			swallowed.Add(1)
		}
		w.pass(bytes.ReplaceAll(chunk, []byte("\r\nwatch\r\n"), []byte("\r\ntouch\r\n"))) // As long, and without effect.
	})
	r, err := store.New(layout, store.Options{URLs: []string{m.url()}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.SelfTest(t.Context()); !errors.Is(err, store.ErrNoFence) {
		t.Errorf("want ErrNoFence, have %v", err)
	}
	if swallowed.Load() == 0 {
		t.Error("no WATCH came by")
	}
	if n := s.raw.DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("the self-test left %d keys", n)
	}
}

func TestAnErrorOfAnAddressHoldsNoPassword(t *testing.T) {
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

func TestACommandThatIsRefusedWithinExecIsNoSuccess(t *testing.T) {
	for name, harm := range map[string]func(*testing.T, *server){
		"a key of another type": func(t *testing.T, s *server) {
			t.Helper()
			if err := errors.Join(s.raw.Del(t.Context(), "cs:{00}:|counts").Err(), s.raw.Set(t.Context(), "cs:{00}:|counts", "x", 0).Err()); err != nil {
				t.Fatal(err)
			}
		},
		"a right that is gone": func(t *testing.T, s *server) {
			t.Helper()
			if err := s.raw.Do(t.Context(), "ACL", "SETUSER", "default", "-hset").Err(); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := startServer(t)
			var once sync.Once
			m := startMiddle(t, s, func(w *way, chunk []byte) {
				if at := bytes.LastIndex(chunk, []byte("*1\r\n$4\r\nexec\r\n")); at >= 0 {
					once.Do(func() {
						w.pass(chunk[:at])
						chunk = chunk[at:]
						for !queued(t, s) {
							if t.Context().Err() != nil {
								return
							}
						}
						harm(t, s)
					})
				}
				w.pass(chunk)
			})
			r, err := store.New(layout, store.Options{URLs: []string{m.url()}, Backoff: time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			_, err = r.Apply(t.Context(), compliance.Transaction{To: floor(1, "a"), Reports: []*compliance.Report{report(t, 1, device, `{"status":"error"}`)}})
			if _, corrupt := errors.AsType[*compliance.CorruptError](err); !corrupt {
				t.Fatalf("Apply: %v", err)
			}
			if err := s.raw.Do(t.Context(), "ACL", "SETUSER", "default", "+hset").Err(); err != nil {
				t.Fatal(err)
			}
			// What the loop does about it.
			back := floor(0, "repair")
			back.Stored, back.Repair = time.Time{}, true
			if _, err := r.Apply(t.Context(), compliance.Transaction{From: floor(1, "a"), To: back, Recount: true}); err != nil {
				t.Fatal(err)
			}
			apply(t, r, back, floor(1, "b"), report(t, 1, device, `{"status":"error"}`))
			wantCounts(t, r, map[string][compliance.NumStatuses]int{"policy": {compliance.StatusError: 1}})
		})
	}
}

// queued tells whether a client has sent the commands of a transaction, the floor
// among them, and not yet its EXEC.
func queued(t *testing.T, s *server) bool {
	t.Helper()
	for line := range strings.Lines(s.raw.ClientList(t.Context()).Val()) {
		if strings.Contains(line, " cmd=set ") && !strings.Contains(line, " multi=-1 ") {
			return true
		}
	}
	return false
}

func TestAServerThatIsFullIsWaitedForAndNamed(t *testing.T) {
	s := startServer(t)
	if err := s.raw.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	heard := &retries{first: func() {
		if err := s.raw.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
			t.Error(err)
		}
	}}
	r := s.open(t, store.Options{Backoff: time.Millisecond, OnRetry: heard.note})
	apply(t, r, compliance.Floor{}, floor(1, "a"), report(t, 1, device, `{"status":"error"}`))
	if heard.n() != 1 || !strings.HasPrefix(heard.text(), "OOM ") {
		t.Errorf("%d retries: %s", heard.n(), heard.text())
	}
	wantCounts(t, r, map[string][compliance.NumStatuses]int{"policy": {compliance.StatusError: 1}})
}

func TestSeveralURLsMustAgree(t *testing.T) {
	for _, c := range []struct {
		urls []string
		want error
	}{
		{[]string{"redis://a:hush@x", "redis://y"}, store.ErrURLsDiffer},
		{[]string{"redis://x/1", "redis://y/2"}, store.ErrURLsDiffer},
		{[]string{"redis://x?read_timeout=1s"}, store.ErrURLOption},
		{[]string{"redis://a:hush@x", "redis://a:hush@y"}, nil},
		{[]string{"rediss://x?skip_verify=true"}, nil},
	} {
		r, err := store.New(layout, store.Options{URLs: c.urls})
		if !errors.Is(err, c.want) || err != nil && strings.Contains(err.Error(), "hush") {
			t.Errorf("%q: %v", c.urls, err)
		}
		if err == nil {
			_ = r.Close()
		}
	}
}

func TestExpiredTombstonesGoAThousandAtATime(t *testing.T) {
	s := startServer(t)
	r, m := s.open(t, store.Options{Tombstones: keepTombstones}), store.NewMemory(keepTombstones)
	const many = 1500
	var reports []*compliance.Report
	for i := range many {
		reports = append(reports, report(t, uint64(i+1), compliance.Key{Policy: fmt.Sprint("p", i), Device: device.Device}, `{"@removed":{}}`))
	}
	last := uint64(many)
	for _, r := range reports {
		r.Stored = floor(last, "").Stored
	}
	both := func(from, to compliance.Floor, reports ...*compliance.Report) {
		t.Helper()
		if diff := cmp.Diff(apply(t, m, from, to, reports...), apply(t, r, from, to, reports...)); diff != "" {
			t.Error(diff)
		}
	}
	at := floor(last, "a")
	both(compliance.Floor{}, at, reports...)
	for i, want := range []int64{many - 1000, 0, 0} {
		last++
		to := floor(last, fmt.Sprint("b", i))
		to.Stored = to.Stored.Add(keepTombstones + time.Hour)
		both(at, to)
		at = to
		if have := s.raw.ZCard(t.Context(), "cs:{00}:|tombs").Val(); have != want || int64(len(m.Dump())) != want {
			t.Errorf("after transaction %d: %d tombstones in Redis, %d in memory, want %d", i, have, len(m.Dump()), want)
		}
	}
}
