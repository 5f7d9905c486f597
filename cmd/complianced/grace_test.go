package main_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"
)

// inGrace returns the series of compliance_policy_devices_in_grace, by policy.
func (s *serving) inGrace() map[string]int {
	s.Helper()
	_, body := s.get("/metrics")
	series := map[string]int{}
	for line := range strings.Lines(body) {
		rest, is := strings.CutPrefix(line, `compliance_policy_devices_in_grace{policy="`)
		if !is {
			continue
		}
		policy, value, _ := strings.Cut(strings.TrimSpace(rest), `"} `)
		n, err := strconv.Atoi(value)
		if err != nil {
			s.Fatal(err)
		}
		series[policy] = n
	}
	return series
}

// recountInGrace counts, from the records alone, which of them are in their grace
// period at an instant.
func recountInGrace(t *testing.T, records map[string]string, at time.Time) map[string]int {
	t.Helper()
	counts := map[string]int{}
	for key, body := range records {
		var record struct {
			Status string    `json:"status"`
			Ends   time.Time `json:"complianceGracePeriodExpirationDateTime"`
		}
		if err := json.Unmarshal([]byte(body), &record); err != nil {
			t.Fatal(err)
		}
		policy, _, _ := strings.Cut(key, ".")
		counts[policy] += 0 // One without any is a series, too.
		if record.Status == "nonCompliant" && record.Ends.Year() < 9999 && record.Ends.After(at) {
			counts[policy]++
		}
	}
	return counts
}

// quiet is the end of each second in which no grace period ends, so that what a scrape
// then shows does not depend on when exactly it reads.
const quiet = 100 * time.Millisecond

// graces publishes 1,000 records whose grace periods end over so many seconds, and some
// that are in none then. It returns how many records there are.
func graces(t *testing.T, js jetstream.JetStream, from time.Time, seconds int) (n int) {
	t.Helper()
	random := rand.New(rand.NewPCG(4, 4))
	publish := func(status string, ends time.Time) {
		subject := fmt.Sprintf("compliance.status.p%d.d%d", n%5, n/5)
		body := fmt.Sprintf(`{"status":%q,"complianceGracePeriodExpirationDateTime":%q}`, status, ends.UTC().Format("2006-01-02T15:04:05.0000000Z07:00"))
		if _, err := js.PublishAsync(subject, []byte(body)); err != nil {
			t.Fatal(err)
		}
		n++
	}
	for i := range 1000 {
		publish("nonCompliant", from.Add(time.Duration(i/5%seconds)*time.Second+time.Duration(random.Int64N(int64(time.Second-quiet)))))
	}
	sentinel := time.Date(9999, 12, 31, 23, 59, 59, 999_999_900, time.UTC)
	for range 20 {
		publish("compliant", from.Add(time.Hour))
		publish("error", from.Add(time.Hour))
		publish("nonCompliant", sentinel)
		publish("nonCompliant", time.Time{})
		publish("nonCompliant", from.Add(-time.Minute))
		publish("nonCompliant", from.Add(-time.Hour))
	}
	<-js.PublishAsyncComplete()
	return n
}

// A scrape reads the state anew, at an instant between its request and its answer:
// only scrapes at the same time share a read, and here there is one at a time.
func TestTheGaugeOfGracePeriodsFallsByItself(t *testing.T) {
	seconds := 5
	if *full {
		seconds = 60
	}
	s := serve(t)
	_, js := s.client()
	from := time.Now().Add(2 * time.Second)
	n := graces(t, js, from, seconds)
	s.settled()
	first := s.state()
	if len(first) != n {
		t.Fatalf("there are %d records, not %d", len(first), n)
	}
	exact := 0
	var shown []int // In all, at each scrape.
	for second := range seconds + 1 {
		due := from.Add(time.Duration(second)*time.Second - quiet/2)
		eventually(t, "the end of a second", func() bool { return !time.Now().Before(due) })
		asked := time.Now()
		have := s.inGrace()
		answered := time.Now()
		records := s.state()
		if diff := cmp.Diff(first, records); diff != "" {
			t.Fatalf("the records changed:\n%s", diff)
		}
		var want map[string]int
		for at := asked.Truncate(time.Millisecond); !at.After(answered) && !maps.Equal(want, have); at = at.Add(time.Millisecond) {
			want = recountInGrace(t, records, at)
		}
		if diff := cmp.Diff(want, have); diff != "" {
			t.Errorf("in second %d (-recount +gauge):\n%s", second, diff)
		}
		if maps.Equal(recountInGrace(t, records, asked), recountInGrace(t, records, answered)) {
			exact++
		}
		total := 0
		for _, inPolicy := range have {
			total += inPolicy
		}
		shown = append(shown, total)
	}
	if shown[0] == 0 || shown[seconds] != 0 {
		t.Errorf("the scrapes show %d in grace: not some, and none at the end", shown)
	}
	stream, err := js.Stream(t.Context(), "COMPLIANCE_STATUS")
	if err != nil {
		t.Fatal(err)
	}
	if came := int(stream.CachedInfo().State.LastSeq) - len(first); came != 0 {
		t.Errorf("%d reports came meanwhile", came)
	}
	t.Logf("%d scrapes show %d in grace; during %d of them no grace period ended", len(shown), shown, exact)
}
