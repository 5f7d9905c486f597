package embedded

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"
)

// socket is the path of a Unix socket, and the temporary folder that was made for it, if any.
type socket struct {
	path, tempDir string
}

// newSocket takes the wanted path, or one in a new temporary folder where the wanted one is longer than the
// kernel's socket addresses.
func newSocket(wanted string) (socket, error) {
	if len(wanted) <= maxSocketPath {
		return socket{path: wanted}, nil
	}
	dir, err := os.MkdirTemp("", "complianced-")
	if err != nil {
		return socket{}, fmt.Errorf("make a folder for the socket: %w", err)
	}
	s := socket{path: filepath.Join(dir, filepath.Base(wanted)), tempDir: dir}
	if len(s.path) > maxSocketPath {
		return socket{}, errors.Join(s.remove(), fmt.Errorf("%s and %s are both too long for a Unix socket (at most "+
			"%d bytes); choose a shorter --data-dir or set TMPDIR", wanted, s.path, maxSocketPath))
	}
	return s, nil
}

// remove takes away what a server that was killed leaves behind, and the temporary folder.
func (s socket) remove() error {
	err := os.Remove(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if s.tempDir == "" {
		return err
	}
	return errors.Join(err, os.Remove(s.tempDir))
}

// ping says whether the server at the socket answers a PING as one that has its data. Before that it listens
// not yet, or it answers -LOADING.
func ping(ctx context.Context, path string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", path)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() }) // Ends a read that waits.
	defer stop()
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return false
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	return err == nil && answer == "+PONG\r\n"
}
