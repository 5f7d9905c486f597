package main_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/deadletter"
	"github.com/complianced/complianced/ingest"
)

// TestARetryFindsItsPartition retries by the subject mapping of the account.
func TestARetryFindsItsPartition(t *testing.T) {
	layout := compliance.Layout{Partitions: 2, Buckets: 4}
	b := startBrokerWith(t, "", ingest.Mapping(layout))
	own, _ := ownRedis(t, t.TempDir())
	b.provision("", own, "--partitions", "2", "--buckets", "4")
	s := serve(t, "--nats-url", b.url(""), "--redis-url", own.URL())
	_, js := s.client()
	want := map[string]string{}
	for n := range 8 {
		device := fmt.Sprint("d", n)
		s.sends(js, "p."+device, `{"status":"error","platform":"8"}`, map[string]string{"ce-id": device})
		want[device] = ingest.StreamName(layout, layout.PartitionOf(device))
	}
	// One that came to the partition of another device, and one that names no record.
	lost := compliance.Key{Policy: "p", Device: "lost"}
	if _, err := js.Publish(t.Context(), lost.PartitionSubject(1-layout.PartitionOf(lost.Device)), []byte(`{"status":"error"}`)); err != nil {
		t.Fatal(err)
	}
	want[lost.Device] = ingest.StreamName(layout, layout.PartitionOf(lost.Device))
	s.sends(js, "p.d.more", `{}`, nil)
	s.shows("compliance_dead_letters 10")
	letters := s.dead(js)
	devices := map[uint64]string{}
	for _, l := range letters {
		devices[l.Sequence] = strings.TrimPrefix(l.Envelope.Subject, "compliance.status.p.")
	}
	sequences := func(code compliance.Code) (list []string) {
		for _, l := range letters {
			if l.Code == code {
				list = append(list, fmt.Sprint(l.Sequence))
			}
		}
		return list
	}

	// Nothing is mended: each has one more, of the partition of its device.
	if out, _, status := s.tries("dead", "retry", "--code", "typeMismatch"); status != 1 || strings.Count(out, "  rejected as COMPLIANCE_STATUS_") != 8 {
		t.Errorf("status %d: %s", status, out)
	}
	for _, l := range s.dead(js)[10:] {
		first := letters[slices.IndexFunc(letters, func(other deadletter.Letter) bool { return other.Report() == l.RetryOf })]
		device := devices[first.Sequence]
		if l.Stream != want[device] || first.Stream != want[device] || l.Envelope.Subject != first.Envelope.Subject {
			t.Errorf("%s: %s, then %s", device, first.Report(), l.Report())
		}
	}

	args := append([]string{"dead", "retry", "--patch", `{"platform":8}`, "-o", "json"}, sequences(compliance.TypeMismatch)...)
	out, stderr, status := s.tries(append(args, sequences(compliance.InvalidSubject)...)...)
	if status != 1 || !strings.Contains(stderr, "10 of 10 dead letters retried: 9 applied, 1 failed\n") {
		t.Errorf("status %d: %s%s", status, out, stderr)
	}
	have := map[string]string{}
	for line := range strings.Lines(out) {
		var told struct {
			Letter uint64 `json:"letter"`
			Result string `json:"result"`
			Stream string `json:"stream"`
		}
		if err := json.Unmarshal([]byte(line), &told); err != nil {
			t.Fatal(line, err)
		}
		if told.Result == "applied" {
			have[devices[told.Letter]] = told.Stream
		}
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("-partition of the device +where it was stored:\n%s", diff)
	}
	if left := s.dead(js); len(left) != 1 || left[0].Envelope.Subject != "compliance.status.p.d.more" {
		t.Errorf("left are %+v", left)
	}
	if state := s.state(); len(state) != len(want) {
		t.Errorf("%v", state)
	}
}
