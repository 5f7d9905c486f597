package publisher_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/publisher"
	"github.com/complianced/complianced/publisher/internal/natstest"
)

func TestOnlyWhatIsKnownToGoAwayIsTriedAgain(t *testing.T) {
	write := &net.OpError{Op: "write", Net: "tcp", Err: syscall.EPIPE}
	for _, test := range []struct {
		driver    error
		want      error
		temporary bool
	}{
		{context.DeadlineExceeded, publisher.ErrNoAnswer, true},
		{context.Canceled, publisher.ErrNoAnswer, true},
		{nats.ErrTimeout, publisher.ErrNoAnswer, true},
		{jetstream.ErrNoStreamResponse, publisher.ErrNoStream, true},
		{nats.ErrDisconnected, publisher.ErrNotConnected, true},
		{nats.ErrReconnectBufExceeded, publisher.ErrNotConnected, true},
		{nats.ErrStaleConnection, publisher.ErrNotConnected, true},
		{nats.ErrNoServers, publisher.ErrNotConnected, true},
		{write, publisher.ErrNotConnected, true},
		{fmt.Errorf("flush: %w", write), publisher.ErrNotConnected, true},
		{net.ErrClosed, publisher.ErrNotConnected, true},
		{io.ErrUnexpectedEOF, publisher.ErrNotConnected, true},
		{nats.ErrConnectionClosed, publisher.ErrClosed, false},
		{nats.ErrMaxPayload, publisher.ErrTooLarge, false},
		{nats.ErrBadHeaderMsg, publisher.ErrInvalidHeader, false},
		{nats.ErrHeadersNotSupported, publisher.ErrDriver, false},
		{nats.ErrBadSubject, publisher.ErrDriver, false},
		{jetstream.ErrInvalidJSAck, publisher.ErrDriver, false},
		{errors.New("unheard of"), publisher.ErrDriver, false},
	} {
		have := publisher.AttemptError(test.driver)
		if !errors.Is(have, test.want) || publisher.Temporary(have) != test.temporary {
			t.Errorf("%v: %v, temporary %t; want %v, %t", test.driver, have, publisher.Temporary(have), test.want, test.temporary)
		}
	}
}

func TestTheTextsOfOthersAreCutBeforeASubject(t *testing.T) {
	for _, err := range []error{
		errors.New(`no way to "compliance.status.disk.laptop-7"`),
		errors.New(`no way to "compliance.result.laptop-7.token"`),
		&jetstream.APIError{Code: 400, Description: `no way to "compliance.status.disk.laptop-7"`},
	} {
		if text := publisher.AttemptError(err).Error(); !strings.Contains(text, "no way to") || strings.Contains(text, "laptop-7") {
			t.Error(text)
		}
	}
}

func TestEveryErrorIsInTheTableOfThePackageComment(t *testing.T) {
	code, err := os.ReadFile("errors.go")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(doc), "# Errors, and what an agent does")
	names := regexp.MustCompile(`(?m)^(?:\t(Err\w+) = |type (\w+Error) )`).FindAllStringSubmatch(string(code), -1)
	if len(names) < 15 {
		t.Fatalf("only %d errors found", len(names))
	}
	for _, name := range names {
		if !regexp.MustCompile(`(?m)^//\t\W*` + name[1] + name[2] + `\b`).MatchString(table) {
			t.Errorf("%s%s has no line", name[1], name[2])
		}
	}
}

func TestAServerWithoutHeadersIsAnErrorAtOnce(t *testing.T) {
	s := startServer(t, func(o *server.Options) { o.NoHeaderSupport = true })
	_, err := natstest.Publisher(t, s.ClientURL(), quick).Publish(t.Context(), publisher.Outgoing{Key: key, Body: body})
	if !errors.Is(err, publisher.ErrDriver) || !strings.Contains(err.Error(), "headers") {
		t.Errorf("got %v, want ErrDriver that says why", err)
	}
}
