// Command complianced turns a stream of device compliance reports into current
// state and counts.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/complianced/complianced/compliance"
)

// version is set by the linker.
var version = "development"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // A second signal ends the process at once.
	err := newRoot().ExecuteContext(ctx)
	stop()
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "complianced:", advise(err))
	if _, ok := errors.AsType[*usageError](err); ok {
		os.Exit(2)
	}
	os.Exit(1)
}

// advise adds to what is corrupt what puts it right.
func advise(err error) error {
	if _, corrupt := errors.AsType[*compliance.CorruptError](err); corrupt {
		return fmt.Errorf("%w; complianced verify --repair puts it right", err)
	}
	return err
}

// usageError is a wrong flag, argument or setting: exit status 2.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}
