package replay

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

var (
	// ErrPosition says that a file holds no position.
	ErrPosition = errors.New("this is no resume file of complianced replay")
	// ErrInUse says that another replay keeps its position in the file.
	ErrInUse = errors.New("another replay keeps its position there: wait for its end, or give another file")
)

// syncEvery is how often a position is forced to disk. More often, the append-only file of
// a Redis on the same disk would have to wait for it, and live reports with that.
const syncEvery = 10 * time.Second

// What stands beside the file while it is open: the newest position, which is not forced
// to disk, the one that is being written, and the lock.
const (
	recentSuffix = ".recent"
	newSuffix    = ".new"
	lockSuffix   = ".lock"
)

// PositionFile keeps the position of one replay. What it was told survives the end of the
// process at any moment. After a power cut it holds what it was told 10 s before, or later.
// It is used by one goroutine at a time.
type PositionFile struct {
	path   string
	lock   *flock.Flock
	synced time.Time
	// passed is that of the newest position, which is unsynced where it is not forced to disk
	// yet.
	passed   uint64
	unsynced *Position
}

// OpenPosition opens a file and returns the position in it: the zero value where there is
// no file yet. Only one PositionFile has it at a time. The error is [ErrInUse] where
// another one has it, and [ErrPosition] where it holds something else.
func OpenPosition(path string) (*PositionFile, Position, error) {
	f := &PositionFile{path: path}
	if err := f.take(); err != nil {
		return nil, Position{}, err
	}
	p, err := ReadPosition(path)
	switch {
	case err == nil:
		f.unsynced = &p // It may lie beside the file.
	case errors.Is(err, fs.ErrNotExist): // What lies there is of a replay that is no more.
		err = removed(path + recentSuffix)
	}
	if err != nil {
		return nil, Position{}, errors.Join(err, f.leave())
	}
	return f, p, nil
}

// take locks the file.
func (f *PositionFile) take() error {
	for {
		lock := flock.New(f.path+lockSuffix, flock.SetPermissions(0o600))
		locked, err := lock.TryLock()
		switch {
		case err != nil:
			return fmt.Errorf("lock position: %w", err)
		case !locked:
			return errors.Join(ErrInUse, lock.Close())
		}
		// The one before may have taken it away in between: then it locks nothing.
		if _, err := os.Stat(f.path + lockSuffix); err == nil {
			f.lock = lock
			return nil
		}
		if err := lock.Close(); err != nil {
			return fmt.Errorf("lock position: %w", err)
		}
	}
}

// leave unlocks the file.
func (f *PositionFile) leave() error {
	if f.lock == nil {
		return nil
	}
	err := errors.Join(removed(f.path+lockSuffix), f.lock.Close())
	f.lock = nil
	return err
}

// ReadPosition reads a position, also while a replay keeps it. The error is fs.ErrNotExist
// where there is no file, and [ErrPosition] where it holds something else.
func ReadPosition(path string) (Position, error) {
	p, err := readPosition(path)
	if err != nil {
		return Position{}, err
	}
	// What is not forced to disk may be anything after a power cut.
	if recent, err := readPosition(path + recentSuffix); err == nil && recent.Of == p.Of && recent.Passed > p.Passed {
		return recent, nil
	}
	return p, nil
}

func readPosition(path string) (p Position, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return p, fmt.Errorf("read position: %w", err)
	}
	if json.Unmarshal(text, &p) != nil || p.Version != positionVersion {
		return Position{}, ErrPosition
	}
	return p, nil
}

// Save keeps a position: the first one, and then one in 10 s, is forced to disk. It is to
// be called with the one before too, where there is no other: that may not be on disk yet.
func (f *PositionFile) Save(p Position) error {
	p.Version = positionVersion
	same := !f.synced.IsZero() && f.passed == p.Passed
	switch {
	case time.Since(f.synced) >= syncEvery && (!same || f.unsynced != nil):
		return f.sync(p)
	case same:
		return nil
	}
	if err := f.write(recentSuffix, p, false); err != nil {
		return err
	}
	f.passed, f.unsynced = p.Passed, &p
	return nil
}

func (f *PositionFile) sync(p Position) error {
	if err := f.write("", p, true); err != nil {
		return err
	}
	f.synced, f.passed, f.unsynced = time.Now(), p.Passed, nil
	return nil
}

// Close forces the newest position to disk and unlocks the file.
func (f *PositionFile) Close() error {
	if f.lock == nil {
		return nil
	}
	var err error
	if f.unsynced != nil {
		err = f.sync(*f.unsynced)
	}
	if err == nil {
		err = removed(f.path + recentSuffix)
	}
	return errors.Join(err, f.leave())
}

// Remove takes the file away, because the replay is done, and closes it.
func (f *PositionFile) Remove() error {
	return errors.Join(removed(f.path+recentSuffix), removed(f.path), f.leave())
}

// removed takes a file away, if it is there.
func removed(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// write replaces the file, or the one beside it, as a whole.
func (f *PositionFile) write(suffix string, p Position, sync bool) error {
	text, err := json.Marshal(p)
	if err == nil {
		err = replace(f.path+suffix, f.path+newSuffix, append(text, '\n'), sync)
	}
	if err != nil {
		return fmt.Errorf("write position: %w", err)
	}
	return nil
}

func replace(path, by string, text []byte, sync bool) error {
	file, err := os.OpenFile(by, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(text)
	if err == nil && sync {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(by, path)
	}
	switch {
	case err != nil:
		return errors.Join(err, removed(by))
	case sync:
		return syncFolder(filepath.Dir(path))
	}
	return nil
}

// syncFolder forces the names in a folder to disk.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
