package publisher_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/publisher"
	"github.com/complianced/complianced/publisher/internal/natstest"
)

func TestConnectDoesNotNeedTheServer(t *testing.T) {
	s := startServer(t)
	s.stream(t)
	s.Stop()
	connected := make(chan struct{})
	waiting := make(chan struct{})
	o := quick
	o.AckTimeout = time.Hour // The first attempt waits for the connection.
	o.Now = func() time.Time { close(waiting); return time.Now() }
	o.NATS = []nats.Option{nats.ConnectHandler(func(*nats.Conn) { close(connected) })}
	p := natstest.Publisher(t, s.ClientURL(), o)
	done := start(func() (publisher.Ack, error) { return p.Publish(t.Context(), publisher.Outgoing{Key: key, Body: body}) })
	<-waiting
	s.Start(t)
	if got := <-done; got.err != nil || got.value.Sequence != 1 || got.value.Attempts != 1 {
		t.Errorf("got %+v", got)
	}
	<-connected
}

func TestConnectNamesTheConnection(t *testing.T) {
	s := startServer(t)
	for want, o := range map[string]publisher.Options{
		"complianced publisher": {}, "agent 7": {Name: "agent 7"}, "last": {Name: "first", NATS: []nats.Option{nats.Name("last")}},
	} {
		natstest.Publisher(t, s.ClientURL(), o)
		found := false
		connz, err := s.Connz(nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, conn := range connz.Conns {
			found = found || conn.Name == want
		}
		if !found {
			t.Errorf("no connection named %q", want)
		}
	}
}

func TestConnectRefusesWhatIsWrong(t *testing.T) {
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := publisher.Connect(done, "nats://127.0.0.1:1", publisher.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("with a finished context: %v", err)
	}
	for name, test := range map[string]struct {
		url string
		o   publisher.Options
	}{
		"no URL":                               {"", publisher.Options{}},
		"a URL without a host":                 {"nats://user:secret@", publisher.Options{}},
		"a password with a number sign":        {"nats://user:se#cret@host", publisher.Options{}},
		"a password that begins with digits":   {"nats://user:12#secret@host", publisher.Options{}},
		"a password with a slash":              {"nats://user:1/secret@host", publisher.Options{}},
		"a password with a question mark":      {"nats://user:1?secret@host", publisher.Options{}},
		"a password with a percent sign":       {"nats://user:secret%@host", publisher.Options{}},
		"a bad URL after a good one":           {"127.0.0.1:1, nats://user:secret@ho st", publisher.Options{}},
		"an option that NATS refuses":          {"nats://user:secret@127.0.0.1:1", publisher.Options{NATS: []nats.Option{nats.RootCAs("/none")}}},
		"a negative number of attempts":        {"nats://user:secret@127.0.0.1:1", publisher.Options{MaxAttempts: -1}},
		"a negative time for a PubAck":         {"nats://127.0.0.1:1", publisher.Options{AckTimeout: -1}},
		"a negative pause":                     {"nats://127.0.0.1:1", publisher.Options{RetryWait: -1}},
		"a negative bound of pauses":           {"nats://127.0.0.1:1", publisher.Options{RetryWaitMax: -1}},
		"a negative time for a result":         {"nats://127.0.0.1:1", publisher.Options{ResultTimeout: -1}},
		"a negative number in flight":          {"nats://127.0.0.1:1", publisher.Options{MaxInFlight: -1}},
		"a device that is no id":               {"nats://127.0.0.1:1", publisher.Options{Device: "a.b"}},
		"a password, in several lines of code": {"nats://user:sec\nret@host", publisher.Options{}},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := publisher.Connect(t.Context(), test.url, test.o)
			if err == nil {
				p.Close()
				t.Fatal("no error")
			}
			if strings.Contains(err.Error(), "cret") {
				t.Errorf("%q holds the password", err)
			}
		})
	}
	if _, err := publisher.New(nil, publisher.Options{MaxAttempts: -1}); err == nil {
		t.Error("New takes options that are wrong")
	}
}

func TestErrorsHoldNoCredentials(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	p := natstest.Publisher(t, "nats://agent:secret@"+address, quick)
	_, err = p.Publish(within(t, 100*time.Millisecond), publisher.Outgoing{Key: key, Body: body})
	if !errors.Is(err, publisher.ErrNotConnected) || strings.Contains(err.Error(), "agent") || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v, want ErrNotConnected without the credentials", err)
	}
}

// withUsers gives a server the user admin, and agent with these permissions.
func withUsers(agent *server.Permissions) func(*server.Options) {
	return func(o *server.Options) {
		o.Users = []*server.User{
			{Username: "admin", Password: "secret"},
			{Username: "agent", Password: "secret", Permissions: agent},
		}
	}
}

func asAgent(s *natsServer, password string) string {
	return "nats://agent:" + password + "@" + s.Addr().String()
}

func TestTheServersRefusalIsAnError(t *testing.T) {
	allow := func(subjects ...string) *server.SubjectPermission { return &server.SubjectPermission{Allow: subjects} }
	s := startServer(t, withUsers(&server.Permissions{
		Publish:   allow("compliance.status.*.d1"),
		Subscribe: allow("_INBOX.>", "compliance.result.d1.>"),
	}))
	admin := s.connect(t, nats.UserInfo("admin", "secret"))
	stream := natstest.MakeStream(t, admin)
	o := quick
	o.AckTimeout = 200 * time.Millisecond

	t.Run("of the password", func(t *testing.T) {
		_, err := natstest.Publisher(t, asAgent(s, "wrong"), o).Publish(t.Context(), publisher.Outgoing{Key: key, Body: body})
		if !errors.Is(err, publisher.ErrNotAllowed) || !errors.Is(err, publisher.ErrCredentials) {
			t.Errorf("got %v, want ErrNotAllowed and ErrCredentials", err)
		}
	})
	t.Run("of another device's subject", func(t *testing.T) {
		p := natstest.Publisher(t, asAgent(s, "secret"), o)
		if _, err := p.Publish(t.Context(), publisher.Outgoing{Key: key, Body: body}); err != nil {
			t.Fatal(err)
		}
		other := publisher.Outgoing{Key: compliance.Key{Policy: "disk", Device: "d2"}, Body: body}
		for range 2 {
			if _, err := p.Publish(t.Context(), other); !errors.Is(err, publisher.ErrNotAllowed) || errors.Is(err, publisher.ErrCredentials) || strings.Contains(err.Error(), "d2") {
				t.Errorf("got %v, want ErrNotAllowed", err)
			}
		}
		if _, err := p.Publish(t.Context(), publisher.Outgoing{Key: key, Body: body}); err != nil {
			t.Errorf("its own device afterwards: %v", err)
		}
	})
	t.Run("of the inbox, after one copy", func(t *testing.T) {
		before := count(t, stream)
		noInbox := o
		noInbox.NATS = []nats.Option{nats.CustomInboxPrefix("inbox.elsewhere")}
		p := natstest.Publisher(t, asAgent(s, "secret"), noInbox)
		for range 2 {
			if _, err := p.Publish(t.Context(), publisher.Outgoing{Key: key, Body: body}); !errors.Is(err, publisher.ErrNotAllowed) {
				t.Errorf("got %v, want ErrNotAllowed", err)
			}
		}
		if n := count(t, stream) - before; n != 2 {
			t.Errorf("%d copies of two reports", n)
		}
	})
	t.Run("of other devices' results", func(t *testing.T) {
		p := natstest.Publisher(t, asAgent(s, "secret"), o)
		for range 2 {
			_, err := p.PublishAndWait(t.Context(), publisher.Outgoing{Key: key, Body: body})
			missing, ok := errors.AsType[*publisher.NoResultError](err)
			if !ok || !errors.Is(err, publisher.ErrNotAllowed) || missing.Ack.Sequence == 0 {
				t.Errorf("got %v, want a NoResultError for ErrNotAllowed", err)
			}
		}
	})
	t.Run("not of its own results", func(t *testing.T) {
		if _, err := admin.Subscribe("compliance.status.disk.d1", func(m *nats.Msg) {
			if m.Header.Get("Compliance-Reply") == "" {
				return
			}
			last, err := stream.GetLastMsgForSubject(t.Context(), m.Subject)
			for err != nil || last.Header.Get("ce-id") != m.Header.Get("ce-id") {
				last, err = stream.GetLastMsgForSubject(t.Context(), m.Subject)
			}
			answer(admin, m, compliance.Result{Outcome: compliance.Applied, Stream: "COMPLIANCE_STATUS", Sequence: last.Sequence})
		}); err != nil {
			t.Fatal(err)
		}
		if err := admin.Flush(); err != nil {
			t.Fatal(err)
		}
		own := o
		own.Device, own.AckTimeout = "d1", 5*time.Second
		p := natstest.Publisher(t, asAgent(s, "secret"), own)
		got, err := p.PublishAndWait(within(t, 10*time.Second), publisher.Outgoing{Key: key, Body: body})
		if err != nil || got.Outcome != compliance.Applied {
			t.Errorf("got %+v, %v", got, err)
		}
	})
}

func TestARefusedPasswordIsTriedAgainInTheBackground(t *testing.T) {
	s := startServer(t, withUsers(nil))
	natstest.MakeStream(t, s.connect(t, nats.UserInfo("admin", "secret")))
	o := quick
	o.AckTimeout = 200 * time.Millisecond
	p := natstest.Publisher(t, asAgent(s, "renewed"), o)
	if _, err := p.Publish(t.Context(), publisher.Outgoing{Key: key, Body: body}); !errors.Is(err, publisher.ErrNotAllowed) {
		t.Fatalf("got %v, want ErrNotAllowed", err)
	}
	s.Stop()
	s.Options.Users[1].Password = "renewed"
	s.Start(t)
	eventually(t, "the report accepted", func() bool {
		_, err := p.Publish(t.Context(), publisher.Outgoing{Key: key, Body: body})
		return err == nil
	})
}
