// Command complianced turns a stream of device compliance reports into current
// state and counts.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/nats-io/nats.go"

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

// advise adds to an error what to do next, where it does not say so itself.
func advise(err error) error {
	if _, corrupt := errors.AsType[*compliance.CorruptError](err); corrupt {
		return fmt.Errorf("%w; complianced verify --repair puts it right", err)
	}
	switch text := err.Error(); {
	case isAway(err):
		return fmt.Errorf("%w; is the server running? Its address is that of --%s or --%s, else of the serve in --data-dir",
			err, natsURLFlag, redisURLFlag)
	case strings.Contains(text, "NOAUTH "), strings.Contains(text, "WRONGPASS "):
		return fmt.Errorf("%w; the password is that of --redis-password-file or %s", err, envRedisWord)
	case errors.Is(err, nats.ErrAuthorization):
		return fmt.Errorf("%w; the credentials are those of --nats-creds or of --%s", err, natsURLFlag)
	}
	return err
}

// isAway says that a server cannot be reached.
func isAway(err error) bool {
	network, ok := errors.AsType[*net.OpError](err)
	return ok && network.Op != "listen" || errors.Is(err, os.ErrDeadlineExceeded) ||
		errors.Is(err, nats.ErrNoServers) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, nats.ErrConnectionClosed)
}

// usageError is a wrong flag, argument or setting: exit status 2.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}
