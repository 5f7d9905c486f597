package main_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/compliance"
)

// streams connects to the broker's JetStream.
func (b *broker) streams() jetstream.JetStream {
	b.Helper()
	nc, err := nats.Connect(b.url(""))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		b.Fatal(err)
	}
	return js
}

func ageLimit(t *testing.T, js jetstream.JetStream) time.Duration {
	t.Helper()
	stream, err := js.Stream(t.Context(), "COMPLIANCE_STATUS")
	if err != nil {
		t.Fatal(err)
	}
	return stream.CachedInfo().Config.MaxAge
}

func TestProvisionChangesOnlyWhatIsGiven(t *testing.T) {
	b := startBroker(t, "")
	own, _ := ownRedis(t, t.TempDir())
	js := b.streams()
	b.provision("", own, "--buckets", "32")
	if have := ageLimit(t, js); have != 7*24*time.Hour {
		t.Errorf("new streams keep reports for %s", have)
	}
	b.provision("", own, "--max-age", "48h")
	b.provision("", own) // Neither the limit nor the layout is asked for.
	if have := ageLimit(t, js); have != 48*time.Hour {
		t.Errorf("provision without --max-age made it %s", have)
	}
	t.Setenv("COMPLIANCED_MAX_AGE", "24h")
	b.provision("", own)
	if have := ageLimit(t, js); have != 24*time.Hour {
		t.Errorf("provision with COMPLIANCED_MAX_AGE made it %s", have)
	}
}

func TestServeLeavesTheLimitsOfItsOwnStreamsAlone(t *testing.T) {
	s := serve(t)
	s.run("", "provision", "--max-age", "48h")
	s.stop()
	s.start()
	_, js := s.client()
	if have := ageLimit(t, js); have != 48*time.Hour {
		t.Errorf("a restart made the age limit %s", have)
	}
}

func TestProvisionMakesNoStreamsForAnotherLayout(t *testing.T) {
	b := startBroker(t, "")
	own, raw := ownRedis(t, t.TempDir())
	for version, say := range map[int]string{compliance.LayoutVersion: "256 buckets", 1: "layout version 1"} {
		if err := raw.HSet(t.Context(), "cs:|meta", "layout", version, "partitions", 1, "buckets", 256).Err(); err != nil {
			t.Fatal(err)
		}
		_, stderr, status := command(t, "", "provision", "--nats-url", b.url(""), "--redis-url", own.URL())
		if status != 1 || !strings.Contains(stderr, say) {
			t.Errorf("status %d: %s", status, stderr)
		}
	}
	if _, err := b.streams().Stream(t.Context(), "COMPLIANCE_STATUS"); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("the stream was made: %v", err)
	}
}

func TestProvisionWritesNoLayoutForStreamsThatItCannotMake(t *testing.T) {
	b := startBroker(t, "")
	own, raw := ownRedis(t, t.TempDir())
	_, err := b.streams().CreateStream(t.Context(), jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"compliance.>"}})
	if err != nil {
		t.Fatal(err)
	}
	_, stderr, status := command(t, "", "provision", "--nats-url", b.url(""), "--redis-url", own.URL())
	if status != 1 || !strings.Contains(stderr, "overlap") {
		t.Errorf("status %d: %s", status, stderr)
	}
	if n, err := raw.DBSize(t.Context()).Result(); err != nil || n != 0 {
		t.Errorf("%d keys (%v), want none", n, err)
	}
}

func TestGapsAreAcceptedWithoutNATS(t *testing.T) {
	s := serve(t)
	out, stderr, status := command(t, "", "provision", "--accept-gap", "--redis-url", s.Redis)
	if status != 0 || out != "0 reports that the streams lost are forgotten\n" {
		t.Errorf("status %d: %s %s", status, out, stderr)
	}
}

func TestProvisionTellsWhatItIsNotPermitted(t *testing.T) {
	b := startBroker(t, `{user: agent, password: word, permissions: {publish: "compliance.status.>"}}`)
	own, _ := ownRedis(t, t.TempDir())
	t.Setenv("COMPLIANCED_NATS_URL", b.url("agent:word"))
	_, stderr, status := command(t, "", "provision", "--redis-url", own.URL())
	if status != 1 || !strings.Contains(stderr, "nats says: nats: permissions violation") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("status %d: %s", status, stderr)
	}
}
