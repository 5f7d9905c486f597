package main_test

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/ingest"
)

// Where a right is missing, the command says which, and does not find it out once for each
// letter.
func TestARightThatIsMissingStopsTheCommandsForDeadLetters(t *testing.T) {
	b := startBroker(t, `
		{user: admin, password: word},
		{user: deaf, password: word, permissions: {subscribe: {deny: "compliance.result.>"}}},
		{user: keeper, password: word, permissions: {publish: {deny: "$JS.API.STREAM.MSG.DELETE.>"}}}`)
	nc, err := nats.Connect(b.url("admin:word"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if err := ingest.Provision(t.Context(), js, ingest.Provisioning{Layout: compliance.Layout{Partitions: 1, Buckets: 4}}); err != nil {
		t.Fatal(err)
	}
	for n := range uint64(3) { // There is no worker, so the test buries them.
		e := compliance.Envelope{Subject: "compliance.status.p.d", Body: []byte(`{`), Sequence: n + 1, Stored: time.Now()}
		_, rejection := compliance.Decode(&e)
		if _, err := ingest.NewPublisher(js).Bury(t.Context(), []ingest.DeadLetter{{Stream: "COMPLIANCE_STATUS", Envelope: e, Rejection: rejection}}); err != nil {
			t.Fatal(err)
		}
	}
	dead := func(user, say string, args ...string) (out string) {
		t.Helper()
		b.Setenv("COMPLIANCED_NATS_URL", b.url(user))
		out, stderr, status := command(t, "", append([]string{"dead"}, args...)...)
		if status != 1 || !strings.Contains(stderr, say) {
			t.Errorf("%s %v: status %d: %s%s", user, args, status, out, stderr)
		}
		return out
	}
	out := dead("deaf:word", "1 of 3 dead letters retried: 1 unknown\ncomplianced: stopped, because these credentials are not allowed", "retry")
	if out != "1  unknown as COMPLIANCE_STATUS.1: these credentials may not subscribe to compliance.result.>, where results come\n" {
		t.Error(out)
	}

	// The result is the test's, which stands for the worker.
	if _, err := nc.Subscribe("compliance.status.>", func(m *nats.Msg) {
		text, err := compliance.Result{Outcome: compliance.Applied, Stream: "COMPLIANCE_STATUS", Sequence: 2}.JSON()
		if err == nil {
			err = nc.Publish(compliance.ResultSubject("d", m.Header.Get("Compliance-Reply")), text)
		}
		if err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	out = dead("keeper:word", "dead letter 1: the dead letter is still there: delete from COMPLIANCE_DEAD: context deadline exceeded; nats says: nats: permissions violation", "retry")
	if out != "1  applied as COMPLIANCE_STATUS.2\n" {
		t.Error(out)
	}
	dead("keeper:word", "nats says: nats: permissions violation", "purge", "--yes")
}
