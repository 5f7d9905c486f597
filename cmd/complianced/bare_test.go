package main_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/internal/oracle"
)

// send publishes messages by a plain client and waits until all are accepted.
func (s *serving) send(messages []*nats.Msg) {
	s.Helper()
	nc, _ := s.client()
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(1000))
	if err != nil {
		s.Fatal(err)
	}
	for _, message := range messages {
		if _, err := js.PublishMsgAsync(message); err != nil {
			s.Fatal(err)
		}
	}
	eventually(s.T, "all accepted", func() bool { return js.PublishAsyncPending() == 0 })
	s.settled()
}

// TestABareReplayGivesTheSameValues is that of a third party, which knows nothing of
// headers: bodies alone, in reverse order. The fleet's reports have no ce-time, each has
// a lastReportedDateTime of its own, and none is from the future.
func TestABareReplayGivesTheSameValues(t *testing.T) {
	s, second := serve(t), serve(t)
	devices, n := fleetSize()
	random := rand.New(rand.NewPCG(5, 5))
	statuses := []string{"compliant", "nonCompliant", "error", "conflict", "remediated", "notApplicable"}
	start := time.Now().UTC().Add(-48 * time.Hour)
	order := random.Perm(n) // Reports come in another order than that in which they were made.
	messages := make([]*nats.Msg, 0, n)
	for i := range n {
		at := start.Add(time.Duration(order[i]) * 500 * time.Millisecond)
		body := fmt.Sprintf(`{"lastReportedDateTime":%q`, at.Format("2006-01-02T15:04:05.0000000Z"))
		if random.IntN(3) > 0 {
			body += fmt.Sprintf(`,"status":%q`, statuses[random.IntN(len(statuses))])
		}
		switch random.IntN(4) {
		case 0:
			body += `,"userName":null`
		case 1:
			body += fmt.Sprintf(`,"userName":"user %d","platform":%d`, i, i%9)
		case 2:
			body += fmt.Sprintf(`,"deviceModel":"model %d"`, i%50)
		}
		if random.IntN(50) == 0 {
			body += `,"@removed":{}`
		}
		message := &nats.Msg{Subject: fmt.Sprintf("compliance.status.policy-%d.device-%d", i%2, random.IntN(devices)), Data: []byte(body + "}")}
		if i%2 == 0 {
			message.Header = nats.Header{"ce-id": {fmt.Sprint("report ", i)}}
		}
		messages = append(messages, message)
	}
	s.send(messages)
	want := s.state()
	if len(want) < devices/2 {
		t.Fatalf("only %d records", len(want))
	}
	nc, js := s.client()
	if dead, err := js.Stream(t.Context(), "COMPLIANCE_DEAD"); err != nil || dead.CachedInfo().State.Msgs > 0 {
		t.Fatalf("%v: reports were refused", err)
	}
	stream, err := oracle.NewCopy(nc, "COMPLIANCE_STATUS")
	if err == nil {
		err = stream.CatchUp(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	var bare []*nats.Msg
	for _, m := range slices.Backward(stream.History().Messages) {
		bare = append(bare, &nats.Msg{Subject: m.Subject, Data: m.Body})
	}
	if len(bare) != n {
		t.Fatalf("%d of %d reports", len(bare), n)
	}
	for name, to := range map[string]*serving{"the same deployment": s, "a second deployment": second} {
		to.send(bare)
		if diff := cmp.Diff(want, to.state()); diff != "" {
			t.Errorf("%s has other values:\n%.2000s", name, diff)
		}
		t.Logf("%s: %d records have equal values", name, len(want))
	}
	s.judge()
}
