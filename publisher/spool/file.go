package spool

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// The file holds two buckets: the entries by their number, 8 bytes big-endian,
// and under one key the state.
const (
	fileName    = "reports.v1.db" // another layout gets another name
	damagedName = fileName + ".damaged."
	lockName    = "reports.lock"
)

var (
	entriesBucket = []byte("entries")
	stateBucket   = []byte("state")
	stateKey      = []byte("state")
)

// lockWait is for how long Open waits for the process that has the folder, and
// lockRetry how often it looks.
const (
	lockWait  = time.Second
	lockRetry = 20 * time.Millisecond
)

// newID is the transaction of a file in which nothing was written yet.
const newID = 1

// overhead is what an entry takes beside its value, as MaxBytes counts it.
const overhead = 24

// state is what a spool remembers beside its entries; it changes with them in
// one transaction.
type state struct {
	Dropped uint64 `json:"dropped"`
	Sent    uint64 `json:"sent"`
	Refused uint64 `json:"refused"`
	Corrupt uint64 `json:"corrupt"`
	// Doubtful is, by the number of an entry, when a server first refused it for a
	// reason that may be its own.
	Doubtful map[uint64]time.Time `json:"doubtful,omitempty"`
	// Last is the newest event time of the spool's own clock.
	Last time.Time `json:"last,omitzero"`
}

// gone is how many reports are accounted for.
func (s *state) gone() uint64 { return s.Dropped + s.Sent + s.Refused + s.Corrupt }

// contents is what lies in a file.
type contents struct {
	state state
	count int
	bytes int64
}

// lockFolder takes the folder for this spool, and makes it where there is none. The
// lock lies on a file of its own, which is never renamed: two processes that set a
// damaged file aside would both hold the lock of one.
func lockFolder(dir string) (*flock.Flock, error) {
	if err := makeFolder(dir); err != nil {
		return nil, err
	}
	lock := flock.New(filepath.Join(dir, lockName), flock.SetPermissions(0o600))
	tick := time.NewTicker(lockRetry)
	defer tick.Stop()
	for began := time.Now(); ; <-tick.C {
		locked, err := lock.TryLock()
		if locked || err != nil {
			return lock, err
		}
		if time.Since(began) >= lockWait {
			return nil, ErrLocked
		}
	}
}

// openFile opens the file in a folder. One that cannot be read is set aside, and
// damaged names it.
func openFile(dir string, noSync bool) (db *bbolt.DB, in contents, damaged string, err error) {
	path := filepath.Join(dir, fileName)
	db, in, err = tryFile(path, noSync)
	if errors.Is(err, ErrDamaged) {
		if damaged, err = setAside(dir); err != nil {
			return nil, contents{}, "", err
		}
		db, in, err = tryFile(path, noSync)
	}
	if err != nil {
		return nil, contents{}, "", err
	}
	if err := syncFolder(dir); err != nil {
		return nil, contents{}, "", errors.Join(err, db.Close())
	}
	return db, in, damaged, nil
}

// setAside gives a damaged file another name, with the time so that no earlier one
// is overwritten, and returns it.
func setAside(dir string) (damaged string, err error) {
	damaged = filepath.Join(dir, damagedName+time.Now().UTC().Format("20060102T150405.000000000Z"))
	if err := os.Rename(filepath.Join(dir, fileName), damaged); err != nil {
		return "", fmt.Errorf("set the damaged file aside: %w", err)
	}
	return damaged, nil
}

// tryFile opens a file and reads all of it. ErrDamaged says that it cannot be
// used; all other errors are of the folder or the disk.
func tryFile(path string, noSync bool) (db *bbolt.DB, in contents, err error) {
	var file *os.File
	err = guard(func() error {
		db, err = bbolt.Open(path, 0o600, &bbolt.Options{
			Timeout: lockWait, NoSync: noSync, FreelistType: bbolt.FreelistMapType, NoStatistics: true,
			OpenFile: func(name string, flag int, perm os.FileMode) (*os.File, error) {
				file, err = os.OpenFile(name, flag, perm)
				return file, err
			},
		})
		if err != nil {
			return openError(err)
		}
		if in, err = readAll(db); err != nil {
			return errors.Join(err, db.Close())
		}
		return nil
	})
	if errors.Is(err, ErrDamaged) && file != nil {
		_ = file.Close() // It may be closed; where bbolt gave up in the middle it is not, and locked.
	}
	return db, in, err
}

// openError tells what is wrong with the content from what is wrong with the disk,
// the memory or the version of the program.
func openError(err error) error {
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return ErrLocked
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), strings.HasPrefix(err.Error(), tooSmall):
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// tooSmall begins bbolt's text for a file that has less than its head pages.
const tooSmall = "file size too small"

// guard turns a panic over a damaged page, and a fault where the file is shorter
// than it says, into ErrDamaged.
func guard(use func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("%w: %v", ErrDamaged, cause)
		}
	}()
	if err = use(); errors.Is(err, berrors.ErrIncompatibleValue) { // A value where a bucket should be, or the reverse.
		err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// readAll reads every page, and makes the buckets in a new file.
func readAll(db *bbolt.DB) (in contents, err error) {
	fresh := false
	err = db.View(func(tx *bbolt.Tx) error {
		if err := checkLengths(tx, db.Info().PageSize); err != nil {
			return err
		}
		entries, kept := tx.Bucket(entriesBucket), tx.Bucket(stateBucket)
		if fresh = tx.ID() <= newID; fresh {
			return nil
		}
		if entries == nil || kept == nil {
			return fmt.Errorf("%w: a bucket is missing", ErrDamaged)
		}
		in, err = readBuckets(entries, kept)
		return err
	})
	if err == nil && fresh {
		err = db.Update(makeBuckets)
	}
	return in, err
}

func readBuckets(entries, kept *bbolt.Bucket) (in contents, err error) {
	var last uint64
	finder := entries.Cursor()
	err = entries.ForEach(func(key, value []byte) error {
		if len(key) != 8 || number(key) <= last || number(key) > entries.Sequence() {
			return fmt.Errorf("%w: entries are out of order", ErrDamaged)
		}
		if found, _ := finder.Seek(key); number(found) != number(key) {
			return fmt.Errorf("%w: an entry is not found by its number", ErrDamaged)
		}
		last = number(key)
		_, _ = unseal(key, value) // Touches every page; Run counts what is wrong with the entry alone.
		in.count++
		in.bytes += size(value)
		return nil
	})
	in.state = readState(kept)
	// What is neither here nor accounted for went with a page, or its outcome with the state.
	if missing := entries.Sequence() - uint64(in.count); missing > in.state.gone() {
		in.state.Corrupt += missing - in.state.gone()
	}
	return in, err
}

// checkLengths looks for a page that says that it is longer than the file: bbolt
// would count its parts for minutes.
func checkLengths(tx *bbolt.Tx, pageSize int) error {
	pages := int(tx.Size()) / pageSize
	for id := 0; id < pages; id++ {
		page, err := tx.Page(id)
		if err != nil {
			return err
		}
		if page.Type == "free" {
			continue
		}
		if page.OverflowCount >= pages-id {
			return fmt.Errorf("%w: page %d is longer than the file", ErrDamaged, id)
		}
		id += page.OverflowCount
	}
	return nil
}

func makeBuckets(tx *bbolt.Tx) error {
	_, err := tx.CreateBucket(entriesBucket)
	if err != nil {
		return err
	}
	_, err = tx.CreateBucket(stateBucket)
	return err
}

// readState returns the state, or an empty one where it cannot be read.
func readState(bucket *bbolt.Bucket) (s state) {
	text, err := unseal(stateKey, bucket.Get(stateKey))
	if err != nil || json.Unmarshal(text, &s) != nil {
		return state{}
	}
	return s
}

func writeState(bucket *bbolt.Bucket, s state) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return bucket.Put(stateKey, seal(stateKey, text))
}

// makeFolder makes a folder and those above it that there are not, so that they are
// found after a power failure. A folder that there was before may be one that this
// user cannot open, and needs nothing.
func makeFolder(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := filepath.Dir(dir)
	if err := makeFolder(parent); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) { // Another process was faster.
		return err
	}
	return syncFolder(parent)
}

// syncFolder makes sure that what was made in a folder is found after a power
// failure.
func syncFolder(dir string) error {
	if runtime.GOOS == "windows" { // It has no such call, and needs none.
		return nil
	}
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

func number(key []byte) uint64 { return binary.BigEndian.Uint64(key) }

func keyOf(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func size(value []byte) int64 { return int64(len(value)) + overhead }
