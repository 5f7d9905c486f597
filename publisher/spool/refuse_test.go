package spool_test

import (
	"errors"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/complianced/complianced/publisher"
	"github.com/complianced/complianced/publisher/spool"
)

func TestAPublisherOfAnotherDeviceLosesNothing(t *testing.T) {
	server := startServer(t)
	stream := makeStream(t, server.ClientURL())
	s := open(t, t.TempDir(), spool.Options{})
	publish(t, s, numbered(0, 0))
	o := quick
	o.Device = "d2"
	if err := s.Run(t.Context(), connect(t, server.ClientURL(), o)); !errors.Is(err, spool.ErrOtherDevice) {
		t.Errorf("Run: %v, want ErrOtherDevice", err)
	}
	if stats := s.Stats(); stats.Waiting != 1 || stats.Refused != 0 {
		t.Errorf("%+v", stats)
	}
	o.Device = "d1"
	run(t, s, connect(t, server.ClientURL(), o))
	empty(t, s)
	if n := arrived(t, stream); n != 1 {
		t.Errorf("%d arrived", n)
	}
}

func TestAServerWithALowMaxPayloadLosesNothing(t *testing.T) {
	s := startServer(t, func(o *server.Options) { o.MaxPayload = 8 << 10 })
	stream := makeStream(t, s.ClientURL())
	p := connect(t, s.ClientURL(), quick)
	large := numbered(0, 12<<10)
	if _, err := p.Publish(t.Context(), large); !errors.Is(err, publisher.ErrMaxPayload) || !errors.Is(err, publisher.ErrTooLarge) {
		t.Fatalf("got %v, want ErrMaxPayload", err)
	}
	spooled := open(t, t.TempDir(), spool.Options{})
	publish(t, spooled, large, numbered(1, 0))
	run(t, spooled, p)
	s.stop()
	s.options.MaxPayload = 1 << 20
	s.start(t)
	empty(t, spooled)
	if stats := spooled.Stats(); stats.Sent != 2 || arrived(t, stream) != 2 {
		t.Errorf("%+v", stats)
	}
}
