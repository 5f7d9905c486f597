package heal_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// proxy stands between a worker and Redis and loses the replies of transactions: it
// brings a transaction to Redis, keeps the reply back for a while, and hangs up.
type proxy struct {
	listener net.Listener
	redis    string
	hold     time.Duration
	// armed is how many replies are still to be lost, lost how many were.
	armed, lost atomic.Int64
}

// startProxy starts a proxy that ends with the test.
func startProxy(t *testing.T, redis string, hold time.Duration) *proxy {
	t.Helper()
	ctx := t.Context()
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	must(t, err)
	p := &proxy{listener: listener, redis: redis, hold: hold}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() { p.serve(ctx, conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		all.Wait()
	})
	return p
}

func (p *proxy) address() string { return p.listener.Addr().String() }

// serve joins a connection with one to Redis until either ends, or the test does.
func (p *proxy) serve(ctx context.Context, worker net.Conn) {
	defer worker.Close()
	redis, err := new(net.Dialer).DialContext(ctx, "tcp", p.redis)
	if err != nil {
		return
	}
	defer redis.Close()
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-ctx.Done():
			_ = errors.Join(worker.Close(), redis.Close())
		case <-done:
		}
	}()
	var executing atomic.Bool
	go func() {
		_, _ = io.Copy(redis, watching{worker, &executing})
		_ = redis.Close()
	}()
	p.answer(ctx, worker, redis, &executing)
}

// watching notes when a transaction goes by. The driver sends one in one write.
type watching struct {
	io.Reader
	executing *atomic.Bool
}

func (w watching) Read(b []byte) (int, error) {
	n, err := w.Reader.Read(b)
	if bytes.HasSuffix(bytes.ToLower(b[:n]), []byte("\r\nexec\r\n")) {
		w.executing.Store(true)
	}
	return n, err
}

// answer brings back what Redis says, until a reply is to be lost.
func (p *proxy) answer(ctx context.Context, worker io.Writer, redis io.Reader, executing *atomic.Bool) {
	b := make([]byte, 1<<20)
	for {
		n, err := redis.Read(b)
		if err != nil {
			return
		}
		if executing.Swap(false) && changesCounts(b[:n]) && p.take() {
			timer := time.NewTimer(p.hold)
			defer timer.Stop()
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
			p.lost.Add(1)
			return
		}
		if _, err := worker.Write(b[:n]); err != nil {
			return
		}
	}
}

// changesCounts tells whether a reply is that of a transaction which happened and
// wrote a record, counts and the floor: the kind that must not happen twice.
func changesCounts(reply []byte) bool {
	fenced := bytes.HasSuffix(reply, []byte("*-1\r\n")) || bytes.HasSuffix(reply, []byte("_\r\n"))
	return !fenced && bytes.Count(reply, []byte("+QUEUED")) >= 3
}

// take takes one of the replies that are to be lost.
func (p *proxy) take() bool {
	for n := p.armed.Load(); n > 0; n = p.armed.Load() {
		if p.armed.CompareAndSwap(n, n-1) {
			return true
		}
	}
	return false
}
