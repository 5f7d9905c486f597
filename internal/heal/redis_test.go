package heal_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/complianced/complianced/internal/oracle"
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
		// The only time that is asserted, and where nothing else runs.
		if took := d.noticed("store_empty", d.flush); *full && took > noticeLimit {
			t.Errorf("noticed after %s, want within 2s", took)
		}
		d.settle()
		t.Logf("state complete after %s", time.Since(began).Round(time.Millisecond))
		d.compare(inSequence)
	}
}

// noticeLimit is how soon a worker without traffic notices that Redis is empty, with
// time for a poll.
const noticeLimit = 2*time.Second + 100*time.Millisecond

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
			must(t, d.redis.Kill(), os.WriteFile(dump, older, 0o600), d.redis.Start(t.Context()))
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
	for range length.cuts {
		d.run(length.seconds / 2)
		d.cut()
	}
	d.run(length.seconds / 2)
	d.judge(inSequence)
}

// cut kills Redis, cuts its append-only file at a random byte, and starts it. Where
// the cut took a transaction that the worker had built on, the worker must notice;
// what was under way at the end of the file counts for nobody.
func (d *deployment) cut() {
	d.Helper()
	file := d.appendOnlyFile()
	size := func() int64 {
		info, err := os.Stat(file)
		must(d.T, err)
		return info.Size()
	}
	builtOn := size()
	d.built()
	before, ok := d.setsBack()
	if !ok {
		d.Fatal("no counters of rewinds")
	}
	must(d.T, d.redis.Kill())
	at := rand.Int64N(size())
	d.Logf("append-only file of %d bytes cut at %d; the worker has built on more than %d", size(), at, builtOn)
	must(d.T, os.Truncate(file, at), d.redis.Start(d.Context()))
	if at >= builtOn {
		d.built() // What there is to be noticed is noticed before the next harm.
		return
	}
	took := eventually(d.T, "a rewind because the store is behind or empty", func() bool {
		now, ok := d.setsBack()
		return ok && now > before
	})
	d.Logf("noticed after %s", took.Round(time.Millisecond))
}

// A cut leaves a part of a transaction of the last bucket in the file, with records and
// without counts. Redis takes it in when it starts once more, from a file that ends before
// the bucket has another transaction.
func TestRedisTakesInAPartOfATransaction(t *testing.T) {
	inTurn(t)
	d := deploy(t, append(appendOnly, "--aof-load-truncated", "yes")...)
	d.report()
	const multi, exec = "*1\r\n$5\r\nMULTI\r\n", "*1\r\n$4\r\nEXEC\r\n"
	tag := fmt.Sprintf("cs:{%02x}:", buckets-1)
	for range length.harms {
		d.run(length.seconds / 2)
		before, _ := d.setsBack()
		must(t, d.redis.Kill())
		file, err := os.ReadFile(d.appendOnlyFile())
		must(t, err)
		at := bytes.LastIndex(file, []byte(tag+"|counts"))
		if at < 0 {
			t.Fatal("no transaction changed counts")
		}
		must(t, os.Truncate(d.appendOnlyFile(), int64(at)), d.redis.Start(t.Context()))
		d.built()

		must(t, d.redis.Kill())
		file, err = os.ReadFile(d.appendOnlyFile())
		must(t, err)
		size := len(file)
		if next := at + bytes.Index(file[at:], []byte(tag)); bytes.Contains(file[at:next], []byte(exec)) {
			size = bytes.LastIndex(file[:next], []byte(multi))
		}
		t.Logf("append-only file cut at %d of a transaction that began before, then at %d", at, size)
		must(t, os.Truncate(d.appendOnlyFile(), int64(size)), d.redis.Start(t.Context()))
		eventually(t, "a recount", func() bool {
			now, ok := d.setsBack()
			log, err := os.ReadFile(d.worker.LogFile())
			return ok && now > before && err == nil && bytes.Contains(log, []byte("redis took in a part of a transaction"))
		})
	}
	d.run(length.seconds / 2)
	d.judge(inSequence)
}

func (d *deployment) appendOnlyFile() string {
	d.Helper()
	files, err := filepath.Glob(filepath.Join(d.redis.Dir(), "appendonlydir", "*.incr.aof"))
	if err != nil || len(files) != 1 {
		d.Fatal(err, files)
	}
	return files[0]
}

// setsBack is how often the worker noticed that Redis is behind or empty.
func (d *deployment) setsBack() (float64, bool) {
	behind, ok := d.counter(d.worker, rewinds("store_behind"))
	empty, okEmpty := d.counter(d.worker, rewinds("store_empty"))
	return behind + empty, ok && okEmpty
}

// built waits until the worker has built on a transaction of every bucket that was
// not there before: until each floor moved twice.
func (d *deployment) built() {
	d.Helper()
	moves, last := map[string]int{}, oracle.Snapshot{}
	eventually(d.T, "two transactions of every bucket", func() bool {
		floors, ok := d.floors()
		if !ok {
			return false
		}
		all := true
		for key, floor := range floors {
			if before, known := last[key]; known && before.Text != floor.Text {
				moves[key]++
			}
			all = all && moves[key] > 1
		}
		last = floors
		return all
	})
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
