package heal_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"

	"github.com/complianced/complianced/internal/oracle"
	"github.com/complianced/complianced/internal/rig"
)

const (
	streamName = "COMPLIANCE_STATUS"
	deadStream = "COMPLIANCE_DEAD"
)

// appendOnly are the settings of a Redis that keeps what it answered for.
var appendOnly = []string{"--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0"}

// deployment is one of everything, and a copy of all that the stream ever held.
type deployment struct {
	*testing.T
	nats   *rig.NATS
	redis  *rig.Redis
	worker *rig.Worker
	load   *rig.Load

	nc     *nats.Conn
	js     jetstream.JetStream
	client *redis.Client
	copy   *oracle.Copy
}

// deploy starts a deployment in which the worker merges and nothing is reported yet.
func deploy(t *testing.T, redisArgs ...string) *deployment {
	t.Helper()
	ctx := t.Context()
	d := &deployment{T: t}
	var err error
	d.nats, err = programs.NewNATS(ctx, t.TempDir())
	must(t, err)
	d.start(d.nats.Process)
	d.redis, err = programs.NewRedis(ctx, t.TempDir(), redisArgs...)
	must(t, err)
	d.start(d.redis.Process)
	d.worker = d.another(d.redis)
	if out, err := d.worker.Command(ctx, "provision", "--max-age", "0"); err != nil {
		t.Fatal(err, out)
	}
	d.start(d.worker.Process)
	d.client = d.redis.Client()
	t.Cleanup(func() { _ = d.client.Close() })
	d.follow()
	return d
}

// start starts a process that ends with the test, whatever happens.
func (d *deployment) start(p *rig.Process) {
	d.Helper()
	d.Cleanup(func() {
		_ = p.Kill()
		if d.Failed() {
			d.Logf("the end of %s:\n%s", p.LogFile(), tail(p.LogFile()))
		}
	})
	must(d.T, p.Start(d.Context()))
}

func tail(path string) string {
	text, _ := os.ReadFile(path)
	lines := strings.SplitAfter(string(text), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "")
}

// another returns a worker that is not yet started.
func (d *deployment) another(r *rig.Redis) *rig.Worker {
	d.Helper()
	w, err := programs.NewWorker(d.Context(), d.TempDir(), d.nats, r)
	must(d.T, err)
	return w
}

// follow begins to copy the stream.
func (d *deployment) follow() {
	d.Helper()
	var err error
	d.nc, err = nats.Connect(d.nats.URL, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	must(d.T, err)
	d.js, err = jetstream.New(d.nc)
	must(d.T, err)
	d.copy, err = oracle.NewCopy(d.nc, streamName)
	must(d.T, err)
	ctx, cancel := context.WithCancel(d.Context())
	done := make(chan error, 1)
	go func() { done <- d.copy.Run(ctx) }()
	d.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			d.Error("copy:", err)
		}
		d.nc.Close()
	})
}

// report starts the load: reports of every kind that simulate makes. Before it come
// a few that it never makes.
func (d *deployment) report(args ...string) {
	d.Helper()
	d.reportRivals()
	d.reportGrace()
	d.reportEarly()
	var err error
	d.load, err = programs.NewLoad(d.TempDir(), d.nats, append([]string{
		"--devices", itoa(length.devices), "--policies", "2", "--rate", itoa(length.rate), "--duration", "30m",
		"--partial", "0.2", "--nulls", "0.2", "--removed", "0.05", "--bad", "0.05", "--duplicates", "0.05",
		"--reorder", "0.1", "--late", "0.05", "--clock-skew", "2m",
	}, args...)...)
	must(d.T, err)
	d.start(d.load.Process)
}

// reportRivals publishes reports of which the last tie-breaks decide: one event time
// with two ids, and one version with two values.
func (d *deployment) reportRivals() {
	d.Helper()
	at := time.Now().Add(-time.Minute).UTC().Format(time.RFC3339Nano)
	for i := range 64 {
		subject := fmt.Sprintf("compliance.status.rivals.device-%d", i)
		reports := []struct{ id, body string }{
			{"first", fmt.Sprintf(`{"status":"error","platform":%d}`, i)},
			{"second", fmt.Sprintf(`{"status":"conflict","platform":%d}`, i+1)},
			{"third", `{"userName":"a","deviceModel":null}`},
			{"third", `{"userName":"b","deviceModel":""}`},
		}
		if i%4 == 0 {
			reports = append(reports, struct{ id, body string }{"third", `{"@removed":{"reason":"deleted"}}`})
		}
		if i%2 == 0 {
			slices.Reverse(reports)
		}
		for _, r := range reports {
			d.publish(subject, r.id, at, r.body)
		}
	}
}

// reportGrace publishes grace periods of which the ends lie on either side of now and
// of what still counts, or mean none, of devices with policies that are UUIDs and
// others; some of the records go, and some come back.
func (d *deployment) reportGrace() {
	d.Helper()
	now := time.Now().UTC().Truncate(time.Millisecond)
	at := now.Add(-time.Minute)
	text := func(t time.Time) string { return t.Format("2006-01-02T15:04:05.0000000Z") }
	ends := []string{
		text(now.Add(2 * time.Second)), text(now.Add(time.Hour)), text(at), text(at.Add(-maxFuture)), text(at.Add(-maxFuture + 100)),
		"0001-01-01T00:00:00Z", "9999-12-31T23:59:59.9999999Z", "9998-12-31T23:59:59Z",
	}
	for i := range 64 {
		body := fmt.Sprintf(`{"status":"nonCompliant","complianceGracePeriodExpirationDateTime":%q}`, ends[i%len(ends)])
		for n, policy := range []string{"grace", "00000000-0000-0000-0000-000000000001", "Grace"} {
			subject := fmt.Sprintf("compliance.status.%s.device-%d", policy, i)
			d.publish(subject, "first", text(at.AddDate(0, 0, -n)), body)
			if i%4 == n {
				d.publish(subject, "second", text(at), `{"@removed":{"reason":"deleted"}}`)
			}
			if i%8 == n {
				d.publish(subject, "third", text(now), body)
			}
		}
	}
}

// reportEarly publishes reports that are refused as from the future, and would not be
// if they came half a second later: until one is that came in time.
func (d *deployment) reportEarly() {
	d.Helper()
	stream, err := d.js.Stream(d.Context(), streamName)
	must(d.T, err)
	eventually(d.T, "a report from the future", func() bool {
		early := false
		for i := range 8 {
			at := time.Now().Add(maxFuture + 500*time.Millisecond).UTC()
			ack := d.publish(fmt.Sprintf("compliance.status.early.device-%d", i), "early", at.Format(time.RFC3339Nano), `{"status":"compliant"}`)
			stored, err := stream.GetMsg(d.Context(), ack.Sequence)
			must(d.T, err)
			early = early || at.Sub(stored.Time) > maxFuture
		}
		return early
	})
}

// maxFuture is how far an event time may lie after the store time.
const maxFuture = 10 * time.Minute

func (d *deployment) publish(subject, id, at, body string) *jetstream.PubAck {
	d.Helper()
	ack, err := d.js.PublishMsg(d.Context(), &nats.Msg{
		Subject: subject, Header: nats.Header{"ce-id": {id}, "ce-time": {at}}, Data: []byte(body),
	})
	must(d.T, err)
	return ack
}

// run lets the load go on for about so many seconds: for as many reports as it then
// sends.
func (d *deployment) run(seconds float64) {
	d.Helper()
	first, known := d.last()
	var more uint64
	eventually(d.T, "more reports", func() bool {
		last, ok := d.last()
		if ok && (!known || last < first) { // The stream was away, or is another one.
			first, known = last, true
		}
		more = last - first
		return ok && float64(more) >= seconds*float64(length.rate)
	})
}

// last is the sequence of the last message of the stream.
func (d *deployment) last() (uint64, bool) {
	ctx, cancel := context.WithTimeout(d.Context(), time.Second)
	defer cancel()
	stream, err := d.js.Stream(ctx, streamName)
	if err != nil {
		return 0, false
	}
	return stream.CachedInfo().State.LastSeq, true
}

// stop ends the load and with it all reports.
func (d *deployment) stop() {
	d.Helper()
	must(d.T, d.load.Stop())
	if status := d.load.ExitStatus(); status != 0 {
		d.Fatalf("simulate ended with %d: %s", status, tail(d.load.LogFile()))
	}
}

// pause halts the load in the middle, and waits until the worker and the copy have
// everything that the stream holds.
func (d *deployment) pause() {
	d.Helper()
	must(d.T, d.load.Pause())
	d.settle()
}

// counter reads a series of a worker's metrics.
func (d *deployment) counter(w *rig.Worker, series string) (value float64, ok bool) {
	ctx, cancel := context.WithTimeout(d.Context(), 5*time.Second)
	defer cancel()
	_, body, err := w.Get(ctx, "/metrics")
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(body) {
		if text, found := strings.CutPrefix(line, series+" "); found {
			_, err := fmt.Sscan(text, &value)
			return value, err == nil
		}
	}
	return 0, false
}

func rewinds(cause string) string { return `compliance_rewinds_total{cause="` + cause + `"}` }

// noticed does harm, waits until the worker has counted its cause, and returns how
// long that took.
func (d *deployment) noticed(cause string, harm func()) time.Duration {
	d.Helper()
	before, ok := d.counter(d.worker, rewinds(cause))
	if !ok {
		d.Fatalf("no %s", rewinds(cause))
	}
	harm()
	took := eventually(d.T, "a rewind with the cause "+cause, func() bool {
		now, ok := d.counter(d.worker, rewinds(cause))
		return ok && now > before
	})
	d.Logf("%s: noticed after %s", cause, took.Round(time.Millisecond))
	return took
}
