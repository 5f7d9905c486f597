package spool_test

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/publisher/internal/natstest"
)

// NATS is killed, and is away for a while under load; the agent is killed meanwhile, and once more while what waited
// is sent.
func TestEveryAcceptedReportArrivesThoughNATSAndTheAgentAreKilled(t *testing.T) {
	away, rate := 2*time.Second, 200
	if *full {
		away = 20 * time.Second
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	dir := t.TempDir()
	journal := filepath.Join(dir, "journal")
	startNATS := func() *process {
		return startProcess(t, "nats", "SPOOL_ADDRESS="+address, "SPOOL_DIR="+filepath.Join(dir, "nats"))
	}
	agents := 0
	startAgent := func() *process {
		agents++
		return startProcess(t, "agent", "SPOOL_URL=nats://"+address, "SPOOL_DIR="+filepath.Join(dir, "spool"),
			"SPOOL_RATE="+strconv.Itoa(rate), "SPOOL_JOURNAL="+journal, "SPOOL_FIRST="+strconv.Itoa(agents*1_000_000))
	}
	// accepted waits until so many more reports are accepted.
	accepted := func(more int) {
		before := len(lines(t, journal))
		eventually(t, "reports accepted", func() bool { return len(lines(t, journal)) >= before+more })
	}

	nats := startNATS()
	stream := natstest.MakeStream(t, natstest.Connect(t, "nats://"+address))
	a := startAgent()
	accepted(rate / 2)
	nats.kill()
	from := time.Now()
	during := rate * int(away/time.Second)
	accepted(during / 2)
	a.kill()
	a = startAgent()
	accepted(during / 2)
	gone := time.Since(from)
	startNATS()
	before := arrived(t, stream)
	eventually(t, "some of those that waited sent", func() bool { return arrived(t, stream) > before+during/10 })
	a.kill()
	a = startAgent()
	accepted(rate / 2)
	a.stdin.Close()
	t.Log("the last agent:", a.line(t))

	ids := map[int]map[string]bool{}
	copies := 0
	all := stored(t, stream)
	for i, n := range platforms(t, all) {
		if ids[n] == nil {
			ids[n] = map[string]bool{}
		} else {
			copies++
		}
		ids[n][all[i].Header.Get("ce-id")+" "+all[i].Header.Get("ce-time")] = true
	}
	for n, of := range ids {
		if len(of) != 1 {
			t.Errorf("report %d arrived with %d ids or times", n, len(of))
		}
	}
	lost := 0
	for _, line := range lines(t, journal) {
		n, err := strconv.Atoi(line)
		if err != nil {
			t.Fatal(err)
		}
		if ids[n] == nil {
			lost++
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d accepted reports did not arrive", lost, len(lines(t, journal)))
	}
	t.Logf("NATS was away for %v; %d reports accepted, %d messages stored, %d of them copies, %d lost",
		gone.Round(time.Millisecond), len(lines(t, journal)), len(all), copies, lost)
}

// lines are the whole lines of a file, none where there is no file.
func lines(tb testing.TB, path string) []string {
	tb.Helper()
	text, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		tb.Fatal(err)
	}
	return strings.Fields(string(text[:bytes.LastIndexByte(text, '\n')+1]))
}

// arrived is how many messages the stream holds.
func arrived(tb testing.TB, stream jetstream.Stream) int {
	tb.Helper()
	info, err := stream.Info(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return int(info.State.Msgs)
}
