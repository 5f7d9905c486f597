package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/complianced/complianced/internal/embedded"
)

// addresses are what serve.json tells the other commands.
type addresses struct {
	NATS  string  `json:"nats"`
	Redis urlList `json:"redis"`
	// RedisMaster is the name by which the Sentinels at Redis know the master.
	RedisMaster string `json:"redis_master,omitempty"`
	// RedisEmbedded says that the Redis is one that the serve started.
	RedisEmbedded bool   `json:"redis_embedded,omitempty"`
	Metrics       string `json:"metrics"`
	// HTTP is the URL of the HTTP API; empty where the serve has none. Token is the one
	// that the serve made for it; empty where its settings say who may use it.
	HTTP  string `json:"http,omitempty"`
	Token string `json:"token,omitempty"`
}

// urlList is in serve.json one text, parted by commas. A comma in a URL, of a
// password for example, is percent-encoded there.
type urlList []string

// MarshalJSON implements [json.Marshaler].
func (l urlList) MarshalJSON() ([]byte, error) {
	list := make([]string, len(l))
	for i, url := range l {
		list[i] = strings.ReplaceAll(url, ",", "%2C")
	}
	return json.Marshal(strings.Join(list, ","))
}

// UnmarshalJSON implements [json.Unmarshaler].
func (l *urlList) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return err
	}
	if *l = nil; text != "" {
		*l = strings.Split(text, ",")
	}
	return nil
}

const addressesFile = "serve.json"

// dataDir is the locked data folder of a serve.
type dataDir struct {
	path string
	lock *os.File
}

// lockDir makes and locks the folder. Only one serve at a time has it.
func lockDir(path string) (*dataDir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("another complianced runs in %s: stop it, or choose another --data-dir", path), lock.Close())
	}
	return &dataDir{path: path, lock: lock}, nil
}

// empty removes all but the locks. That of the Redis child stays, too: a child that
// outlives its parent holds it, and a new file in its place would lock nothing.
func (d *dataDir) empty() error {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	for _, entry := range entries {
		if slices.Contains([]string{filepath.Base(d.lock.Name()), embedded.RedisLock}, entry.Name()) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(d.path, entry.Name())); err != nil {
			return fmt.Errorf("data folder: %w", err)
		}
	}
	return nil
}

// tell writes serve.json, readable by this user alone.
func (d *dataDir) tell(a addresses) error {
	text, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", addressesFile, err)
	}
	path := filepath.Join(d.path, addressesFile)
	if err := os.WriteFile(path+".new", append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", addressesFile, err)
	}
	return os.Rename(path+".new", path)
}

// close takes serve.json away and unlocks the folder.
func (d *dataDir) close() error {
	err := os.Remove(filepath.Join(d.path, addressesFile))
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, d.lock.Close())
}

// readAddresses reads the serve.json of a running serve.
func readAddresses(path string) (addresses, error) {
	text, err := os.ReadFile(filepath.Join(path, addressesFile))
	if errors.Is(err, os.ErrNotExist) {
		return addresses{}, fmt.Errorf("no complianced serves in %s: start one, or name the servers with --nats-url and --redis-url", path)
	}
	if err != nil {
		return addresses{}, fmt.Errorf("read %s: %w", addressesFile, err)
	}
	var a addresses
	if err := json.Unmarshal(text, &a); err != nil {
		return addresses{}, fmt.Errorf("read %s: %w", addressesFile, err)
	}
	return a, nil
}
