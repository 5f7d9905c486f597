package token

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/complianced/complianced/graph"
)

// lookInterval is how long a file is not looked at after it was.
const lookInterval = time.Second

// File authorizes the tokens whose hashes are in a file.
type File struct {
	path   string
	logger *slog.Logger
	now    func() time.Time
	list   atomic.Pointer[list]

	mutex  sync.Mutex // Held by the one who looks; nobody waits for it.
	looked time.Time
	seen   string // What was there: the hash of the content, or why it could not be read.
}

// FileOptions say how a file is used. The zero value does.
type FileOptions struct {
	// Logger hears when a changed file is in force, and when it cannot be: once for each
	// change. Defaults to none.
	Logger *slog.Logger
	// Now is the clock. Defaults to time.Now.
	Now func() time.Time
}

// OpenFile reads a file: a YAML list of [Entry]. An error says what is wrong with it.
//
// The file is looked at when a token is asked for, at most once a second. It is best
// replaced by renaming another one over it, so that no half of it is ever seen.
func OpenFile(path string, options FileOptions) (*File, error) {
	f := &File{path: path, logger: orDiscard(options.Logger), now: orTimeNow(options.Now)}
	seen, text, err := f.look()
	if err != nil {
		return nil, err
	}
	list, err := f.parse(text)
	if err != nil {
		return nil, err
	}
	f.looked, f.seen = f.now(), seen
	f.list.Store(&list)
	return f, nil
}

// Authorize implements [graph.Authorizer].
func (f *File) Authorize(ctx context.Context, token string) (graph.Grant, error) {
	f.renew(ctx)
	h, there := (*f.list.Load())[sha256.Sum256([]byte(token))]
	if !there {
		return graph.Grant{}, graph.ErrToken
	}
	if !h.expires.IsZero() && !f.now().Before(h.expires) {
		return graph.Grant{}, fmt.Errorf("%w: it has expired", graph.ErrToken)
	}
	return h.grant, nil
}

// renew reads the file again where it has changed. It compares the content: neither the
// time of a file nor its size tells of every change.
func (f *File) renew(ctx context.Context) {
	if !f.mutex.TryLock() {
		return
	}
	defer f.mutex.Unlock()
	now := f.now()
	if now.Sub(f.looked) < lookInterval {
		return
	}
	f.looked = now
	seen, text, err := f.look()
	if seen == f.seen {
		return
	}
	f.seen = seen
	var list list
	if err == nil {
		list, err = f.parse(text)
	}
	if err != nil {
		f.logger.LogAttrs(ctx, slog.LevelWarn, "token file cannot be used, the tokens before it stay valid", slog.Any("error", err))
		return
	}
	f.list.Store(&list)
	f.logger.LogAttrs(ctx, slog.LevelInfo, "token file has changed", slog.Int("tokens", len(list)))
}

// look returns the content of the file, or why there is none, and a text that is another
// one where that is.
func (f *File) look() (seen string, text []byte, err error) {
	text, err = os.ReadFile(f.path)
	if err != nil {
		return err.Error(), nil, fmt.Errorf("token file: %w", err)
	}
	hash := sha256.Sum256(text)
	return string(hash[:]), text, nil
}

func (f *File) parse(text []byte) (list, error) {
	list, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("token file %s: %w", f.path, err)
	}
	return list, nil
}

func orDiscard(logger *slog.Logger) *slog.Logger {
	if logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return logger
}

func orTimeNow(now func() time.Time) func() time.Time {
	if now == nil {
		return time.Now
	}
	return now
}
