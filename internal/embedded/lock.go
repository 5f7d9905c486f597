package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// RedisLock is the name of the file in a DataDir that a Redis child locks as long as it lives.
const RedisLock = "redis.lock"

// AwaitRedis returns when no Redis child of an earlier start runs on a data folder any more.
func AwaitRedis(ctx context.Context, dir string) error {
	lock, err := lockFile(ctx, filepath.Join(dir, RedisLock))
	if err != nil {
		return fmt.Errorf("embedded Redis: %w", err)
	}
	return lock.Close()
}

// lockTimeout bounds the wait for an earlier child: one that lost its parent needs up to some seconds to write
// its append-only file out.
const lockTimeout = 15 * time.Second

// lockFile locks a file that the child then holds open as long as it lives, also without its parent.
func lockFile(ctx context.Context, path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock: %w", err)
	}
	if err := waitLock(ctx, file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

func waitLock(ctx context.Context, file *os.File) error {
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	pause := time.NewTicker(10 * time.Millisecond)
	defer pause.Stop()
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return fmt.Errorf("lock %s: %w", file.Name(), err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the Redis server of an earlier start still runs on this data folder and holds %s; "+
				"stop it (fuser %[1]s names it), or wait until it has ended: %w", file.Name(), ctx.Err())
		case <-pause.C:
		}
	}
}
