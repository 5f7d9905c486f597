package spool_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/publisher"
	"github.com/complianced/complianced/publisher/internal/natstest"
	"github.com/complianced/complianced/publisher/spool"
)

const file = "reports.v1.db"

// written returns the file of a spool with so many reports, and their bodies.
func written(tb testing.TB, reports int) (content []byte, bodies map[string]bool) {
	tb.Helper()
	dir := tb.TempDir()
	s := open(tb, dir, spool.Options{NoSync: true})
	bodies = map[string]bool{}
	for n := range reports {
		o := numbered(n, 100+n%7*1500)
		bodies[string(o.Body)] = true
		publish(tb, s, o)
	}
	shut(tb, s)
	content, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		tb.Fatal(err)
	}
	return content, bodies
}

// drained opens a spool on a file, sends all of it, and returns what arrived and the numbers.
func drained(tb testing.TB, content []byte, p *publisher.Publisher, stream jetstream.Stream) ([]*jetstream.RawStreamMsg, spool.Stats) {
	tb.Helper()
	dir := tb.TempDir()
	if err := os.WriteFile(filepath.Join(dir, file), content, 0o600); err != nil {
		tb.Fatal(err)
	}
	if err := stream.Purge(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	s := open(tb, dir, spool.Options{NoSync: true, InFlight: 16})
	stop := run(tb, s, p)
	eventually(tb, "the spool empty, or its file set aside", func() bool {
		return s.Stats().Waiting == 0 || s.Stats().Damaged != ""
	})
	err := stop()
	if !errors.Is(err, spool.ErrDamaged) {
		_, err = s.Publish(tb.Context(), numbered(0, 0)) // It may meet pages that Run did not.
	}
	stats := s.Stats()
	if err != nil && !errors.Is(err, spool.ErrDamaged) {
		tb.Error(err)
	}
	if err == nil {
		shut(tb, s)
		return stored(tb, stream), stats
	}
	if _, err := s.Publish(tb.Context(), numbered(0, 0)); !errors.Is(err, spool.ErrDamaged) {
		tb.Errorf("Publish after %v: %v", spool.ErrDamaged, err)
	}
	_ = s.Close() // It says so once more.
	s = open(tb, dir, spool.Options{NoSync: true})
	if stats := s.Stats(); stats != (spool.Stats{}) {
		tb.Errorf("opened again: %+v, want a new spool", stats)
	}
	publish(tb, s, numbered(0, 0))
	shut(tb, s)
	return stored(tb, stream), stats
}

func TestAnEntryWithAWrongChecksumIsCountedAndNotSent(t *testing.T) {
	server := natstest.New(t)
	stream := natstest.MakeStream(t, natstest.Connect(t, server.ClientURL()))
	content, _ := written(t, 20)
	at := bytes.Index(content, []byte(`{"platform":7}`))
	if at < 0 {
		t.Fatal("the report is not in the file")
	}
	for at >= 0 { // Older copies of a page hold it too.
		content[at+1] = 'P'
		at = bytes.Index(content, []byte(`{"platform":7}`))
	}
	all, stats := drained(t, content, natstest.Publisher(t, server.ClientURL(), quick), stream)
	if len(all) != 19 {
		t.Errorf("%d arrived, want all but one", len(all))
	}
	stats.Bytes = 0
	if diff := cmp.Diff(spool.Stats{Sent: 19, Corrupt: 1, Waiting: 1}, stats); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAFileThatCannotBeReadIsSetAside(t *testing.T) {
	content, _ := written(t, 20)
	for name, damaged := range map[string][]byte{
		"one byte":         content[:1],
		"half a page":      content[:2048],
		"the first pages":  content[:3*4096],
		"half of the file": content[:len(content)/2],
		"no database":      bytes.Repeat([]byte("x"), 100_000),
		"zeros":            make([]byte, 100_000),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, file), damaged, 0o600); err != nil {
				t.Fatal(err)
			}
			s := open(t, dir, spool.Options{NoSync: true})
			want := spool.Stats{Damaged: s.Stats().Damaged}
			if !strings.HasPrefix(want.Damaged, filepath.Join(dir, file+".damaged.2")) {
				t.Errorf("set aside as %s", want.Damaged)
			}
			if diff := cmp.Diff(want, s.Stats()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			aside, err := os.ReadFile(want.Damaged)
			if err != nil || !bytes.Equal(aside, damaged) {
				t.Errorf("set aside: %d bytes, %v, want the damaged file", len(aside), err)
			}
			publish(t, s, numbered(0, 0))
			shut(t, s)
			if stats := open(t, dir, spool.Options{NoSync: true}).Stats(); stats.Waiting != 1 || stats.Damaged != "" {
				t.Errorf("opened again: %+v", stats)
			}
		})
	}
}

func TestAnEmptyFileIsANewSpool(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, file), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(spool.Stats{}, open(t, dir, spool.Options{}).Stats()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Whatever bytes of the file are wrong: the spool opens, and sends nothing that was not accepted.
func TestAnyDamageLeavesASpoolThatWorks(t *testing.T) {
	server := natstest.New(t)
	stream := natstest.MakeStream(t, natstest.Connect(t, server.ClientURL()))
	p := natstest.Publisher(t, server.ClientURL(), quick)
	const reports = 60
	content, bodies := written(t, reports)
	const pageHeader, page = 40, 4096
	whole, part, aside := 0, 0, 0
	files := uint64(60)
	if *full {
		files = 3000
	}
	for seed := range files {
		random := rand.New(rand.NewPCG(seed, 5)) //nolint:gosec // The same damage in every run.
		damaged := bytes.Clone(content)
		for range 1 + random.IntN(3) {
			at := random.IntN(len(damaged))
			if random.IntN(2) == 0 { // The header of a page and its first entries decide most.
				at = at/page*page + random.IntN(pageHeader)
			}
			damaged[min(at, len(damaged)-1)] ^= byte(1 << random.IntN(8))
		}
		all, stats := drained(t, damaged, p, stream)
		for _, msg := range all {
			if !bodies[string(msg.Data)] {
				t.Fatalf("seed %d: sent what was not accepted: %q", seed, msg.Data)
			}
		}
		switch {
		case stats.Damaged != "":
			aside++
		// Where one of the two head pages is damaged the other counts, and the last transaction is not seen.
		case stats.Sent+stats.Corrupt < reports-1 || stats.Sent+stats.Corrupt > reports || int(stats.Sent) != len(all):
			t.Fatalf("seed %d: %d arrived, %+v of %d reports", seed, len(all), stats, reports)
		case stats.Corrupt > 0:
			part++
		default:
			whole++
		}
	}
	t.Logf("%d files without a loss, %d without some reports, %d set aside", whole, part, aside)
	if whole == 0 || part == 0 || aside == 0 {
		t.Error("one of the three never happened")
	}
}

// The process that met the damage still has the file that was set aside, and another one must not begin a new one
// beside it.
func TestAFolderWhoseFileWasSetAsideHasOneSpoolStill(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, spool.Options{})
	if err := os.Rename(filepath.Join(dir, file), filepath.Join(dir, "aside")); err != nil { // As setting aside does.
		t.Fatal(err)
	}
	if _, err := spool.Open(dir, spool.Options{}); !errors.Is(err, spool.ErrLocked) {
		t.Errorf("got %v, want ErrLocked", err)
	}
}

func TestASecondDamagedFileDoesNotOverwriteTheFirst(t *testing.T) {
	dir := t.TempDir()
	names := map[string]string{}
	for _, content := range []string{"first", "second"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, dir, spool.Options{NoSync: true})
		names[s.Stats().Damaged] = content
		shut(t, s)
	}
	for name, content := range names {
		if got, err := os.ReadFile(name); err != nil || string(got) != content {
			t.Errorf("%s has %q, %v, want %q", name, got, err, content)
		}
	}
	if len(names) != 2 {
		t.Errorf("set aside as %v, want two names", names)
	}
}

// A file of a later version of bbolt is whole, and is left where it is.
func TestAFileOfAnotherVersionIsNotDamaged(t *testing.T) {
	content, _ := written(t, 3)
	const version, page = 20, 4096 // in each of the two head pages
	content[version], content[page+version] = 3, 3
	dir := t.TempDir()
	path := filepath.Join(dir, file)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := spool.Open(dir, spool.Options{}); err == nil || errors.Is(err, spool.ErrDamaged) {
		t.Errorf("got %v", err)
		if err == nil {
			shut(t, s)
		}
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, content) {
		t.Errorf("the file has %d bytes, %v", len(got), err)
	}
}
