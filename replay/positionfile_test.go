package replay_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/complianced/complianced/replay"
)

func positionOf(passed uint64) replay.Position {
	return replay.Position{
		Version: 1, Of: "x", Passed: passed, Digest: "d", Reached: map[string]uint64{"S": passed + 2}, Table: replay.Table{Reports: passed, Applied: passed},
		Bounds: map[string]replay.Bounds{"S": {Created: stored, First: 1, Last: 100}},
	}
}

// openPosition opens a file that is not open.
func openPosition(t *testing.T, path string, want replay.Position) *replay.PositionFile {
	t.Helper()
	file, have, err := replay.OpenPosition(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Error(diff)
	}
	return file
}

func save(t *testing.T, file *replay.PositionFile, p replay.Position) {
	t.Helper()
	if err := file.Save(p); err != nil {
		t.Fatal(err)
	}
}

// names are the files in the folder of one.
func names(t *testing.T, path string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		list = append(list, entry.Name())
	}
	return list
}

func TestAPositionIsReadBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "position")
	if _, err := replay.ReadPosition(path); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	file := openPosition(t, path, replay.Position{})
	for _, passed := range []uint64{7, 8, 9} {
		save(t, file, positionOf(passed))
		// So it is found after a kill.
		if have, err := replay.ReadPosition(path); err != nil || have.Passed != passed {
			t.Errorf("%v: %+v", err, have)
		}
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"position"}, names(t, path)); diff != "" {
		t.Error(diff)
	}
	file = openPosition(t, path, positionOf(9))
	save(t, file, positionOf(10))
	save(t, file, positionOf(11))
	if err := errors.Join(file.Remove(), file.Close()); err != nil {
		t.Fatal(err)
	}
	if list := names(t, path); list != nil {
		t.Errorf("%q is left", list)
	}
}

// TestAPositionOutlivesAPowerCut takes away or spoils what was not forced to disk.
func TestAPositionOutlivesAPowerCut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "position")
	file := openPosition(t, path, replay.Position{})
	save(t, file, positionOf(7))
	save(t, file, positionOf(8))
	for _, spoil := range []func() error{
		func() error { return os.Truncate(path+".recent", 0) },
		func() error { return os.Truncate(path+".recent", 20) },
		func() error { return os.Remove(path + ".recent") },
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if have, err := replay.ReadPosition(path); err != nil || have.Passed != 7 {
			t.Errorf("%v: %+v", err, have)
		}
		save(t, file, positionOf(8))
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	// What lies beside a file that was deleted is of another replay.
	if err := os.Rename(path, path+".recent"); err != nil {
		t.Fatal(err)
	}
	file = openPosition(t, path, replay.Position{})
	save(t, file, positionOf(1))
	if have, err := replay.ReadPosition(path); err != nil || have.Passed != 1 {
		t.Errorf("%v: %+v", err, have)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestAPositionThatStaysIsForcedToDisk is told the same one again, as a replay tells it that
// waits for a server.
func TestAPositionThatStaysIsForcedToDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "position")
		file := openPosition(t, path, replay.Position{})
		save(t, file, positionOf(7))
		save(t, file, positionOf(8))
		<-time.NewTimer(10 * time.Second).C
		save(t, file, positionOf(8))
		if err := os.Remove(path + ".recent"); err != nil {
			t.Fatal(err)
		}
		if have, err := replay.ReadPosition(path); err != nil || have.Passed != 8 {
			t.Errorf("%v: %+v", err, have)
		}
		// From then on there is nothing to write.
		before, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			<-time.NewTimer(10 * time.Second).C
			save(t, file, positionOf(8))
		}
		if now, err := os.Stat(path); err != nil || !os.SameFile(before, now) {
			t.Errorf("%v: it was written again", err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestAPositionOutlivesAKill opens what a process left that ended at any moment, and gives
// it up again.
func TestAPositionOutlivesAKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "position")
	file := openPosition(t, path, replay.Position{})
	save(t, file, positionOf(7))
	save(t, file, positionOf(8))
	left := filepath.Join(t.TempDir(), "left")
	for _, suffix := range []string{"", ".recent", ".lock"} {
		if text, err := os.ReadFile(path + suffix); err != nil || os.WriteFile(left+suffix, text, 0o600) != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := openPosition(t, left, positionOf(8)).Close(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"left"}, names(t, left)); diff != "" {
			t.Error(diff)
		}
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestAPositionIsOfOneReplayAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "position")
	first := openPosition(t, path, replay.Position{})
	if _, _, err := replay.OpenPosition(path); !errors.Is(err, replay.ErrInUse) {
		t.Error(err)
	}
	save(t, first, positionOf(3))
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := openPosition(t, path, positionOf(3)).Close(); err != nil {
		t.Fatal(err)
	}
}

func TestAFileThatHoldsNoPositionIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "position")
	for _, text := range []string{"", "{}", `{"complianceReplay":2}`, `{"complianceReplay":1`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := replay.OpenPosition(path); !errors.Is(err, replay.ErrPosition) {
			t.Errorf("%q: %v", text, err)
		}
		if have, err := os.ReadFile(path); err != nil || string(have) != text {
			t.Errorf("%v: %q became %q", err, text, have)
		}
		if diff := cmp.Diff([]string{"position"}, names(t, path)); diff != "" {
			t.Error(diff)
		}
	}
}
