package heal_test

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestRedisIsEmptiedUnderLoad(t *testing.T) {
	inTurn(t)
	d := deploy(t, appendOnly...)
	d.report()
	for range length.harms {
		d.run(length.seconds)
		d.noticed("store_empty", d.flush)
	}
	d.run(length.seconds / 2)
	d.judge(inSequence)
}

func TestRedisIsEmptiedWithoutTraffic(t *testing.T) {
	inTurn(t)
	d := deploy(t, appendOnly...)
	d.report()
	d.run(length.seconds)
	d.judge(inSequence)
	for range length.harms {
		began := time.Now()
		d.noticed("store_empty", d.flush)
		d.settle()
		t.Logf("state complete after %s", time.Since(began).Round(time.Millisecond))
		d.compare(inSequence)
	}
}

func (d *deployment) flush() {
	d.Helper()
	must(d.T, d.client.FlushAll(d.Context()).Err())
}

func TestAnOlderSnapshotOfRedisIsPutBack(t *testing.T) {
	inTurn(t)
	d := deploy(t, "--appendonly", "no")
	dump := filepath.Join(d.redis.Dir(), "dump.rdb")
	d.report()
	for range max(1, length.harms/2) {
		d.run(length.seconds / 2)
		must(t, d.save())
		older, err := os.ReadFile(dump)
		must(t, err)
		d.run(length.snapshot)
		d.noticed("store_behind", func() {
			must(t, d.save(), d.redis.Kill(), os.WriteFile(dump, older, 0o600), d.redis.Start(t.Context()))
		})
	}
	d.run(length.seconds / 2)
	d.judge(inSequence)
}

// As where a lagging replica takes over behind one address: the worker's connections
// stay, and nothing but the floors tells.
func TestRedisGoesBackWithItsConnectionsKept(t *testing.T) {
	inTurn(t)
	d := deploy(t, "--appendonly", "no", "--enable-debug-command", "yes")
	d.report()
	for range length.harms {
		d.run(length.seconds / 2)
		must(t, d.save())
		d.run(length.seconds)
		d.noticed("store_behind", func() {
			must(t, d.client.Do(t.Context(), "DEBUG", "RELOAD", "NOSAVE").Err())
		})
	}
	d.run(length.seconds / 2)
	d.judge(inSequence)
}

func (d *deployment) save() error { return d.client.Save(d.Context()).Err() }

func TestTheAppendOnlyFileIsCut(t *testing.T) {
	inTurn(t)
	d := deploy(t, append(appendOnly, "--aof-load-truncated", "yes")...)
	d.report()
	for range 3 * length.harms {
		d.run(length.seconds / 2)
		d.setBack(func() { d.cut(t.Context()) })
	}
	d.run(length.seconds / 2)
	d.judge(inSequence)
}

// setBack does harm after which Redis is behind or empty, and waits until that was
// noticed.
func (d *deployment) setBack(harm func()) {
	d.Helper()
	count := func() (float64, bool) {
		behind, ok := d.counter(d.worker, rewinds("store_behind"))
		empty, okEmpty := d.counter(d.worker, rewinds("store_empty"))
		return behind + empty, ok && okEmpty
	}
	before, _ := count()
	harm()
	took := eventually(d.T, "a rewind because the store is behind or empty", func() bool {
		now, ok := count()
		return ok && now > before
	})
	d.Logf("noticed after %s, the restart included", took.Round(time.Millisecond))
}

// cut kills Redis, cuts its append-only file at a random byte, and starts it. The
// last tenth is left out: what was under way there counts for nobody.
func (d *deployment) cut(ctx context.Context) {
	d.Helper()
	must(d.T, d.redis.Kill())
	files, err := filepath.Glob(filepath.Join(d.redis.Dir(), "appendonlydir", "*.incr.aof"))
	if err != nil || len(files) != 1 {
		d.Fatal(err, files)
	}
	info, err := os.Stat(files[0])
	must(d.T, err)
	at := rand.Int64N(info.Size() * 9 / 10)
	d.Logf("append-only file of %d bytes cut at %d", info.Size(), at)
	must(d.T, os.Truncate(files[0], at), d.redis.Start(ctx))
}

func TestRedisIsKilled(t *testing.T) {
	inTurn(t)
	d := deploy(t, appendOnly...)
	d.report()
	for range 4 * length.harms {
		d.run(length.seconds / 4)
		must(t, d.redis.Kill(), d.redis.Start(t.Context()))
	}
	d.run(length.seconds / 2)
	d.judge(inSequence)
}
