package main_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	complianced "github.com/complianced/complianced/cmd/complianced"
	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/internal/oracle"
	"github.com/complianced/complianced/store"
)

// whole holds every list and number against the records, each read by its own key. It
// returns the records.
func (s *serving) whole() []string {
	s.Helper()
	records := s.state()
	db, err := store.Open(s.Context(), store.Options{URLs: []string{s.Redis}})
	if err != nil {
		s.Fatal(err)
	}
	defer db.Close()
	now := time.Now()
	list := func(q store.Query) (items []store.Item) {
		s.Helper()
		for cursor := ""; ; {
			page, err := db.List(s.Context(), q, cursor, 0, now)
			if err != nil {
				s.Fatal(err)
			}
			items = append(items, page.Items...)
			if cursor = page.Next; cursor == "" {
				return items
			}
		}
	}
	all, listed := list(store.Query{}), map[string]string{}
	var devices [compliance.NumStatuses]int
	worst, attention := map[string]compliance.Status{}, map[compliance.Key]bool{}
	policies := map[string]*store.PolicyTotals{}
	for _, item := range all {
		listed[item.Key.Policy+"."+item.Key.Device] = string(item.Record.JSON(item.Key.Device))
		status := item.Facts.Status
		if before, ok := worst[item.Key.Device]; !ok || before.Severity() < status.Severity() {
			worst[item.Key.Device] = status
		}
		p := policies[item.Key.Policy]
		if p == nil {
			p = &store.PolicyTotals{}
			policies[item.Key.Policy] = p
		}
		p.Statuses[status]++
		if item.Facts.InGrace(now) {
			p.InGrace++
		}
		if item.Facts.Stale(now, 30) {
			p.Stale++
		}
		attention[item.Key] = status.NeedsAttention()
	}
	if diff := cmp.Diff(records, listed); diff != "" {
		s.Errorf("the list is not the records (-records +list):\n%s", diff)
	}
	for _, status := range worst {
		devices[status]++
	}
	totals, err := db.Totals(s.Context(), now, 30)
	if err != nil {
		s.Fatal(err)
	}
	if diff := cmp.Diff(store.Totals{Policies: policies, Devices: devices}, totals); diff != "" {
		s.Errorf("the numbers are not those of the records (-records +numbers):\n%s", diff)
	}
	for policy := range policies {
		for _, item := range list(store.Query{Policy: policy, Statuses: []compliance.Status{
			compliance.StatusUnknown, compliance.StatusNonCompliant, compliance.StatusError, compliance.StatusConflict,
		}}) {
			if !attention[item.Key] {
				s.Errorf("a record with %s is listed as one that needs attention", item.Facts.Status)
			}
			delete(attention, item.Key)
		}
	}
	for _, left := range attention {
		if left {
			s.Error("a record that needs attention is not listed as one")
		}
	}
	var keys []string
	for key := range records {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// publishAt publishes reports made at an instant.
func publishAt(t *testing.T, js jetstream.JetStream, at time.Time, keys ...string) {
	t.Helper()
	for _, key := range keys {
		message := nats.NewMsg("compliance.status." + key)
		message.Data = []byte(`{"status":"error"}`)
		message.Header.Set("ce-time", at.UTC().Format(time.RFC3339Nano))
		if _, err := js.PublishMsgAsync(message, jetstream.WithStallWait(limit())); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-t.Context().Done():
	}
}

func TestADeviceWhoseClockIsAheadDoesNotSurviveItsRemoval(t *testing.T) {
	s := serve(t)
	_, js := s.client()
	began := time.Now()
	publishAt(t, js, began.Add(8*time.Minute), "disk.gone")
	publishAt(t, js, began.Add(-time.Hour), "virus.gone", "disk.other")
	s.settled()
	out, stderr, status := command(t, "", "--data-dir", s.dir, "remove", "--device", "gone", "--yes")
	if status != 0 || out != "removed 2 records\n" || stderr != "" {
		t.Fatalf("status %d: %s%s", status, out, stderr)
	}
	wantRecords := func(want ...string) {
		t.Helper()
		s.judge()
		if diff := cmp.Diff(want, s.whole()); diff != "" {
			t.Error(diff)
		}
	}
	wantRecords("disk.other")
	if out := s.run("", "remove", "--device", "gone", "--yes"); out != "removed 0 records\n" {
		t.Errorf("again: %s", out)
	}
	// What was made before brings nothing back: of the one whose clock was ahead also
	// what was made a while after the removal.
	publishAt(t, js, began.Add(8*time.Minute), "disk.gone")
	publishAt(t, js, time.Now().Add(5*time.Minute), "disk.gone")
	publishAt(t, js, began, "virus.gone")
	s.settled()
	wantRecords("disk.other")
	publishAt(t, js, began.Add(9*time.Minute), "disk.gone")
	publishAt(t, js, time.Now(), "virus.gone")
	s.settled()
	wantRecords("disk.gone", "disk.other", "virus.gone")
}

func TestAPolicyIsRemovedWhileReportsKeepArriving(t *testing.T) {
	devices := 2500
	if *full {
		devices = 200_000
	}
	s := serve(t)
	fleet := []string{"--data-dir", s.dir, "simulate", "--devices", strconv.Itoa(devices), "--policies", "2"}
	// One in a hundred is a duplicate; the others report every record once before any of them again.
	reports := strconv.Itoa(2 * devices * 102 / 100)
	introduced := append(fleet, "--mix", "steady", "--rate", "0", "--reports", reports, "--start", ago(3*time.Hour))
	if _, stderr, status := command(t, "", introduced...); status != 0 {
		t.Fatal(stderr)
	}
	s.settled()
	before := s.whole()
	policy, _, _ := strings.Cut(before[0], ".")
	old, others := divide(before, policy)
	if len(old) != devices || len(others) != devices {
		t.Fatalf("there are %d and %d records, not %d of each policy", len(old), len(others), devices)
	}
	ctx, stop := context.WithCancel(t.Context())
	load := exec.CommandContext(ctx, binary, append(fleet, "--bad", "0", "--rate", "400")...)
	load.Cancel = func() error { return load.Process.Signal(os.Interrupt) }
	if err := load.Start(); err != nil {
		t.Fatal(err)
	}
	var ended sync.WaitGroup
	ended.Go(func() { _ = load.Wait() })
	defer func() { stop(); ended.Wait() }()
	_, js := s.client()
	last := func() uint64 {
		stream, err := js.Stream(t.Context(), "COMPLIANCE_STATUS")
		if err != nil {
			t.Fatal(err)
		}
		return stream.CachedInfo().State.LastSeq
	}
	first := last()
	eventually(t, "reports", func() bool { return last() > first+50 })
	began := time.Now()
	out, stderr, status := command(t, "", "--data-dir", s.dir, "remove", "--policy", policy, "--yes")
	took := time.Since(began)
	// The load has no record that is new, so that each is there once to be removed.
	if status != 0 || out != fmt.Sprintf("removed %d records\n", devices) {
		t.Fatalf("status %d of %d records: %s%s", status, devices, out, stderr)
	}
	removed := last()
	eventually(t, "more reports", func() bool { return last() > removed+50 })
	stop()
	ended.Wait()
	s.settled()
	messages, _ := s.judge()
	left := s.whole()
	back, stayed := divide(left, policy)
	if diff := cmp.Diff(others, stayed); diff != "" {
		t.Errorf("the records of the other policy are not as they were:\n%s", diff)
	}
	amid := amidRemovals(messages, policy)
	if amid == 0 || len(back) > devices/2 {
		t.Errorf("%d reports of the policy came during its removal, and %d records are left: that shows nothing", amid, len(back))
	}
	publishAt(t, js, time.Now().Add(-2*time.Hour), old...)
	s.settled()
	s.judge()
	if diff := cmp.Diff(left, s.whole()); diff != "" {
		t.Errorf("late reports changed which records there are:\n%s", diff)
	}
	t.Logf("%d records were removed in %s while %d reports of the policy came; reports after their removal brought %d back, %d late ones none",
		devices, took.Round(time.Millisecond), amid, len(back), len(old))
}

// divide parts the records of a policy from the others.
func divide(records []string, policy string) (own, others []string) {
	for _, key := range records {
		if strings.HasPrefix(key, policy+".") {
			own = append(own, key)
		} else {
			others = append(others, key)
		}
	}
	return own, others
}

// amidRemovals counts the reports of a policy that came between the first removal and
// the last.
func amidRemovals(messages []oracle.Message, policy string) (n int) {
	since := -1 // Before the first removal none counts.
	for _, m := range messages {
		switch {
		case !strings.HasPrefix(m.Subject, "compliance.status."+policy+"."):
		case bytes.Contains(m.Body, []byte("@removed")):
			n += max(since, 0)
			since = 0
		case since >= 0:
			since++
		}
	}
	return n
}

func TestARefusedRemovalIsToldAtOnce(t *testing.T) {
	b := startBroker(t, "") // Its account lacks the mapping: what is sent by the public subject is refused.
	own, _ := ownRedis(t, t.TempDir())
	b.provision("", own, "--partitions", "2", "--buckets", "4")
	s := serve(t, "--nats-url", b.url(""), "--redis-url", own.URL())
	_, js := s.client()
	layout := compliance.Layout{Partitions: 2, Buckets: 4}
	for _, key := range []compliance.Key{{Policy: "a", Device: "d1"}, {Policy: "b", Device: "d1"}, {Policy: "b", Device: "d2"}} {
		if _, err := js.Publish(t.Context(), key.PartitionSubject(layout.PartitionOf(key.Device)), []byte(`{"status":"error"}`)); err != nil {
			t.Fatal(err)
		}
	}
	s.shows(`compliance_devices{status="error"} 2`)
	for _, test := range []struct{ of, dead string }{{"--policy=b", "1"}, {"--device=d1", "3"}} {
		_, stderr, status := command(t, "", "--data-dir", s.dir, "remove", test.of, "--yes")
		if status != 1 || !strings.Contains(stderr, "invalidSubject") || !strings.Contains(stderr, "0 records") {
			t.Errorf("%s: status %d: %s", test.of, status, stderr)
		}
		s.shows("compliance_dead_letters " + test.dead)
	}
	if diff := cmp.Diff([]string{"a.d1", "b.d1", "b.d2"}, s.whole()); diff != "" {
		t.Error(diff)
	}
}

func TestAPolicyThatHasLeftCanBeRemoved(t *testing.T) {
	s := serve(t)
	_, js := s.client()
	began := time.Now()
	publishAt(t, js, began, "a-policy.d1", "b-policy.d1", "b-policy.d2", "c-policy.d1")
	s.settled()
	s.stop()
	s.args = append(s.args, "--allow-policies", "[ac]-policy")
	s.start()
	if out := s.run("", "remove", "--policy", "b-policy", "--yes"); out != "removed 2 records\n" {
		t.Error(out)
	}
	// No report brings the policy back, also none of a device that had no record.
	publishAt(t, js, time.Now(), "b-policy.d1", "b-policy.d3", "a-policy.d3")
	s.shows("compliance_dead_letters 2", `compliance_policy_devices{policy="a-policy",status="error"} 2`)
	if out := s.run("", "remove", "--device", "d1", "--yes"); out != "removed 2 records\n" {
		t.Error(out)
	}
	if diff := cmp.Diff([]string{"a-policy.d3"}, s.whole()); diff != "" {
		t.Error(diff)
	}
}

func TestARemovalThatWasInterruptedIsContinued(t *testing.T) {
	b := startBroker(t, "")
	own, _ := ownRedis(t, t.TempDir())
	b.provision("", own)
	servers := []string{"--nats-url", b.url(""), "--redis-url", own.URL()}
	s := serve(t, servers...)
	_, js := s.client()
	publishAt(t, js, time.Now(), "p.d1", "p.d2", "p.d3", "p.d4", "p.d5")
	s.settled()
	s.stop() // Now nobody applies a removal, and the first one waits for what becomes of it.
	stream, err := js.Stream(t.Context(), "COMPLIANCE_STATUS")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), binary, append([]string{"remove", "--policy", "p", "--yes"}, servers...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a removal", func() bool {
		info, err := stream.Info(t.Context())
		return err == nil && info.State.LastSeq == 6
	})
	_ = cmd.Process.Signal(syscall.SIGINT)
	err = cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 1 || !strings.Contains(stderr.String(), "interrupted after 1 records: the same command removes the others") {
		t.Errorf("%v: %s", err, &stderr)
	}
	s.start()
	s.settled()
	out, errs, status := command(t, "", append([]string{"remove", "--policy", "p", "--yes"}, servers...)...)
	if status != 0 || out != "removed 4 records\n" {
		t.Errorf("status %d: %s%s", status, out, errs)
	}
	publishAt(t, js, time.Now(), "p.d1", "p.d2")
	s.settled()
	s.stop()
	out, errs, status = command(t, "", append([]string{"remove", "--device", "d1", "--yes", "--no-wait"}, servers...)...)
	if status != 0 || out != "1 removals accepted\n" {
		t.Errorf("status %d: %s%s", status, out, errs)
	}
	s.start()
	s.settled()
	if out := s.run("", "list", "p", "-o", "json"); strings.Count(out, "\n") != 1 || !strings.Contains(out, `"device":"d2"`) {
		t.Error(out)
	}
}

func TestRemoveWaitsForTheWorkers(t *testing.T) {
	b := startBroker(t, `
		{user: admin, password: word},
		{user: deaf, password: word, permissions: {subscribe: {deny: "compliance.result.>"}}}`)
	own, _ := ownRedis(t, t.TempDir())
	b.provision("admin:word", own)
	t.Setenv("COMPLIANCED_NATS_URL", b.url("admin:word"))
	s := serve(t, "--redis-url", own.URL())
	nc, err := nats.Connect(b.url("admin:word"))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	publishAt(t, js, time.Now(), "p.d1", "p.d2", "p.d3", "p.d4", "p.d5")
	s.settled()
	s.stop()
	// What becomes of its first removal is not heard, so it has the floors alone to wait for.
	cmd := exec.CommandContext(t.Context(), binary, "remove", "--policy", "p", "--yes", "--redis-url", own.URL())
	cmd.Env = append(os.Environ(), "COMPLIANCED_NATS_URL="+b.url("deaf:word"))
	var out, stderr safeBuffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "that it waits", func() bool { return strings.Contains(stderr.String(), "waiting for the workers") })
	s.start()
	if err := cmd.Wait(); err != nil || out.String() != "removed 5 records\n" || strings.Contains(stderr.String(), "records are there") {
		t.Errorf("%v: %s%s", err, out.String(), stderr.String())
	}
}

func TestARemovalIsConfirmedByYesAlone(t *testing.T) {
	for answer, want := range map[string]string{
		"yes\n": "", " yes \r\n": "", "yes": "", "y\n": "nothing was removed", "\n": "--yes", "": "--yes", "no\nyes\n": "nothing was removed",
	} {
		var out bytes.Buffer
		err := complianced.Confirm(t.Context(), strings.NewReader(answer), &out, "12 records")
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) || !strings.Contains(out.String(), "removes 12 records") {
			t.Errorf("%q: %v, %s", answer, err, &out)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	in, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer w.Close()
	if err := complianced.Confirm(ctx, in, new(bytes.Buffer), "1 records"); err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Error(err)
	}
}

// safeBuffer is a buffer for several goroutines.
type safeBuffer struct {
	mu     sync.Mutex // guards buffer
	buffer bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

func TestProgressIsToldLineByLineWhereThereIsNoTerminal(t *testing.T) {
	var out safeBuffer
	add, end := complianced.Progress(&out, 5, time.Millisecond)
	add()
	add()
	eventually(t, "a line", func() bool { return strings.Contains(out.String(), "removing 2 of 5\n") })
	end()
	if text := out.String(); strings.Contains(text, "\r") || strings.Contains(text, "\x1b") {
		t.Errorf("%q", text)
	}
}
