package oracle_test

import (
	"fmt"
	"maps"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/complianced/complianced/internal/oracle"
)

// wantRight waits until every floor is at the end, and then wants no difference.
func (d *deployment) wantRight(t *testing.T, h oracle.History) {
	t.Helper()
	d.state = oracle.Fold(h, d.config)
	eventually(t, "every floor at the end of its stream", func() bool {
		return floorsAt(oracle.Compare(d.state, d.snapshot(t)))
	})
	if found := oracle.Compare(d.state, d.snapshot(t)); len(found) > 0 {
		t.Errorf("Redis:\n%s", strings.Join(found, "\n"))
	}
	if found := oracle.CompareDeadLetters(d.state, d.letters()); len(found) > 0 {
		t.Errorf("dead letters:\n%s", strings.Join(found, "\n"))
	}
}

func TestAStreamMadeAnewAddsToTheState(t *testing.T) {
	d := deploy(t, single)
	d.config.InSequence = false // Every bucket is merged again.
	own := d.follow()
	d.catchUp(own)
	before := d.snapshot(t)
	d.makeAnew()
	d.publish(d.subject("new", "device1"), `{"status":"error"}`)
	d.publish(d.subject("gone", "device1"), `{"@removed":{}}`, "ce-time", "2025-01-01T00:00:00Z")
	d.publish(d.subject("new", "device2"), `{"status":4}`)
	defer d.run(d.broker)()
	d.catchUp(own)
	d.wantRight(t, own.History())
	if oracle.Equal(before, d.snapshot(t)) == nil {
		t.Error("what was merged since makes no difference")
	}
}

func TestAStoreThatLostEverythingIsEqualAgain(t *testing.T) {
	d := deploy(t, single)
	before := d.snapshot(t)
	d.raw.FlushAll(t.Context())
	if err := d.store.EnsureLayout(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer d.run(d.broker)()
	d.wantRight(t, d.history())
	if found := oracle.Equal(before, d.snapshot(t)); len(found) > 0 {
		t.Error(found)
	}
}

func TestEqualLeavesAsideWhatDependsOnTheWay(t *testing.T) {
	const tag = "cs:{00}:"
	snapshot := func(floor, seen, millis, name string) oracle.Snapshot {
		score, err := strconv.ParseFloat(millis, 64)
		if err != nil {
			t.Fatal(err)
		}
		version := strings.Repeat("A", 16)
		return oracle.Snapshot{
			tag + "|floor": {Type: "string", Text: floor},
			tag + "|seal":  {Type: "string", Text: floor},
			tag + "|gaps":  {Type: "hash", Fields: map[string]string{"1-2": seen}},
			tag + "|tombs": {Type: "zset", Scores: map[string]float64{"p:gone": score}},
			tag + "p:gone": {Type: "hash", Fields: map[string]string{"v": "t" + version + "12345" + millis}},
			tag + "p:d":    {Type: "hash", Fields: map[string]string{"v": "4" + version, "n": name}},

			tag + "|counts":    hash("p|nonCompliant", "1"),
			tag + "|worst":     hash("nonCompliant", "1"),
			tag + "|days":      hash("p|0001-01-01", "1"),
			tag + "|gracedays": hash("p|2027-01-15", "1"),
			tag + "|rollup":    hash("d", "4\x01p"),
			tag + "|grace":     {Type: "zset", Scores: map[string]float64{"p:d": 1800000000000}},
			tag + "|attention": {Type: "zset", Scores: map[string]float64{"p:d": 3344775986802692}},
			tag + "|devices":   {Type: "zset", Scores: map[string]float64{"d": 0}},
		}
	}
	want := snapshot("a", "b", "123", "c")
	if found := oracle.Equal(want, snapshot("d", "e", "456", "c")); len(found) > 0 {
		t.Error(found)
	}
	if found := oracle.Equal(want, snapshot("a", "b", "123", "d")); len(found) != 1 {
		t.Errorf("found %q, want a field", found)
	}
	for key := range want {
		have := maps.Clone(want)
		delete(have, key)
		if found := oracle.Equal(want, have); len(found) != 1 || found[0] != key+" is missing" {
			t.Errorf("found %q, want %s", found, key)
		}
	}
	for _, name := range derivedNames {
		other := snapshot("a", "b", "123", "c")
		for entry := range other[tag+name].Fields {
			other[tag+name].Fields[entry] += "0"
		}
		for entry := range other[tag+name].Scores {
			other[tag+name].Scores[entry]++
		}
		wanted := 1
		if name == "|tombs" { // It is left aside.
			wanted = 0
		}
		if found := oracle.Equal(want, other); len(found) != wanted {
			t.Errorf("found %q, want %d differences of %s", found, wanted, name)
		}
	}
	have := snapshot("a", "b", "123", "c")
	clear(have[tag+"|tombs"].Scores)
	clear(have[tag+"|gaps"].Fields)
	if found := oracle.Equal(want, have); len(found) != 2 {
		t.Errorf("found %q, want an index entry and a gap", found)
	}
}

func TestAGapIsLeftOutOfTheState(t *testing.T) {
	d := deploy(t, single)
	own := d.follow()
	first := d.state.Ends["COMPLIANCE_STATUS"].Sequence + 1
	for n := range 20 {
		d.publish(d.subject("late", fmt.Sprint("device", n)), `{"status":"error"}`)
	}
	d.publish(d.subject("late", "device"), `{"status":4}`)
	d.publish(d.subject("late", "device"), `{"status":"error"}`)
	d.catchUp(own)
	d.keepLast(t, 1)
	defer d.run(d.broker)()
	gap := oracle.Gap{Stream: "COMPLIANCE_STATUS", First: first, Last: first + 20}
	d.config.Gaps = []oracle.Gap{gap}
	d.wantRight(t, own.History())
	var want []oracle.Gap
	for bucket := range single.Buckets {
		want = append(want, oracle.Gap{Stream: gap.Stream, First: gap.First, Last: gap.Last, Buckets: []int{bucket}})
	}
	if diff := cmp.Diff(want, d.snapshot(t).Gaps(d.config)); diff != "" {
		t.Errorf("gaps (-want +redis):\n%s", diff)
	}
	d.config.Gaps = nil
	if found := oracle.Compare(oracle.Fold(own.History(), d.config), d.snapshot(t)); len(found) < 20 {
		t.Errorf("found %q, want all that was in the gap", found)
	}
}

func TestAGapConcernsItsStreamAndItsBucketsAlone(t *testing.T) {
	var h oracle.History
	for n := range 24 {
		created := began.Add(time.Duration(n/12) * time.Hour) // The stream was made anew.
		body := `{}`
		if n%4 == 3 {
			body = `x`
		}
		h.Messages = append(h.Messages, oracle.Message{
			Stream: "COMPLIANCE_STATUS", Created: created, Sequence: uint64(n%12 + 1), Stored: created.Add(time.Duration(n) * time.Second),
			Subject: fmt.Sprintf("compliance.status.p%d.d%d", n/12, n), Body: []byte(body),
		})
	}
	count := func(gaps ...oracle.Gap) string {
		state := oracle.Fold(h, oracle.Config{Buckets: 4, Gaps: gaps})
		optional := 0
		for _, rejected := range state.Rejected {
			if rejected.Optional {
				optional++
			}
		}
		named := 0
		for _, what := range oracle.Compare(state, oracle.Snapshot{}) {
			if strings.Contains(what, "|gaps is missing") {
				named++
			}
		}
		return fmt.Sprintf("%d records, %d of %d optional, %d with a gap", len(state.Records), optional, len(state.Rejected), named)
	}
	bucket := single.BucketOf("d12")
	inBucket := 0 // Reports of the bucket in the gap.
	for n := 12; n < 20; n++ {
		if n%4 != 3 && single.BucketOf(fmt.Sprint("d", n)) == bucket {
			inBucket++
		}
	}
	for _, c := range []struct {
		gap  oracle.Gap
		want string
	}{
		{oracle.Gap{Stream: "ANOTHER", First: 1, Last: 8}, "18 records, 0 of 6 optional, 0 with a gap"},
		{oracle.Gap{Stream: "COMPLIANCE_STATUS", First: 1, Last: 8}, "12 records, 2 of 6 optional, 4 with a gap"},
		{
			oracle.Gap{Stream: "COMPLIANCE_STATUS", First: 1, Last: 8, Buckets: []int{int(bucket)}},
			fmt.Sprintf("%d records, 2 of 6 optional, 1 with a gap", 18-inBucket),
		},
	} {
		if got := count(c.gap); got != c.want || inBucket == 6 {
			t.Errorf("with %+v there are %s, want %s", c.gap, got, c.want)
		}
	}
}

// keepLast makes the stream forget all but its last messages.
func (b *broker) keepLast(t *testing.T, n int64) {
	t.Helper()
	stream, err := b.js.Stream(t.Context(), "COMPLIANCE_STATUS")
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	config.MaxMsgs = n
	if _, err := b.js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
}

// TestEveryMasterOfAClusterIsRead does so with one master; that there may be
// several makes no difference to the way in.
func TestEveryMasterOfAClusterIsRead(t *testing.T) {
	address := startNode(t)
	client := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{address}})
	defer client.Close()
	eventually(t, "a cluster", func() bool { return client.Set(t.Context(), "a", "b", time.Hour).Err() == nil })
	client.HSet(t.Context(), "cs:{00}:p:d", "v", "1")
	have, err := oracle.ReadRedis(t.Context(), client)
	if err != nil {
		t.Fatal(err)
	}
	want := oracle.Snapshot{
		"a": {Type: "string", Text: "b", Expires: true}, "cs:{00}:p:d": {Type: "hash", Fields: map[string]string{"v": "1"}},
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Error(diff)
	}
}

// startNode starts a cluster of one node.
func startNode(t *testing.T) (address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = listener.Addr().String()
	_ = listener.Close()
	_, port, _ := net.SplitHostPort(address)
	cmd := exec.CommandContext(t.Context(), "redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", t.TempDir(),
		"--cluster-enabled", "yes", "--cluster-port", "0")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Wait() })
	node := redis.NewClient(&redis.Options{Addr: address})
	defer node.Close()
	eventually(t, "a node", func() bool { return node.ClusterAddSlotsRange(t.Context(), 0, 16383).Err() == nil })
	return address
}
