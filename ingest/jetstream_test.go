package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/ingest"
	"github.com/complianced/complianced/store"
)

// broker is a real nats-server with the streams of a layout.
type broker struct {
	*testing.T
	server *server.Server
	port   int
	config string
	// change is made to the server's options when it starts.
	change func(*server.Options)
	layout compliance.Layout
	nc     *nats.Conn
	js     jetstream.JetStream
}

func startBroker(t *testing.T, layout compliance.Layout) *broker {
	t.Helper()
	dir := t.TempDir()
	b := &broker{T: t, layout: layout, config: filepath.Join(dir, "nats.conf")}
	config := fmt.Sprintf("listen: \"127.0.0.1:-1\"\njetstream {store_dir: %q}\n%s\n", dir, ingest.Mapping(layout))
	if err := os.WriteFile(b.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	b.port = server.RANDOM_PORT
	b.start()
	nc, err := nats.Connect(b.server.ClientURL(), nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	b.nc = nc
	t.Cleanup(func() {
		nc.Close()
		b.stop()
	})
	if b.js, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}
	b.provision()
	return b
}

func (b *broker) start() {
	b.Helper()
	options, err := server.ProcessConfigFile(b.config)
	if err != nil {
		b.Fatal(err)
	}
	options.NoSigs, options.NoLog, options.Port = true, true, b.port
	if b.change != nil {
		b.change(options)
	}
	if b.server, err = server.NewServer(options); err != nil {
		b.Fatal(err)
	}
	b.server.Start()
	if !b.server.ReadyForConnections(10 * time.Second) {
		b.Fatal("nats-server does not start")
	}
	address, ok := b.server.Addr().(*net.TCPAddr)
	if !ok {
		b.Fatal("no address")
	}
	b.port = address.Port
}

func (b *broker) stop() {
	b.server.Shutdown()
	b.server.WaitForShutdown()
}

// restart stops the server, has something done, starts it again and waits for
// the connection.
func (b *broker) restart(between func()) {
	b.Helper()
	before := b.nc.Stats().Reconnects // IsConnected may still be true of the old connection.
	b.stop()
	between()
	b.start()
	eventually(b.T, "a new connection", func() bool { return b.nc.Stats().Reconnects > before && b.nc.IsConnected() })
}

func (b *broker) provision() {
	b.Helper()
	if err := ingest.Provision(b.Context(), b.js, ingest.Provisioning{Layout: b.layout}); err != nil {
		b.Fatal(err)
	}
}

func (b *broker) publish(subject, body string, headers ...string) *jetstream.PubAck {
	b.Helper()
	m := nats.NewMsg(subject)
	for i := 0; i+1 < len(headers); i += 2 {
		m.Header[headers[i]] = []string{headers[i+1]}
	}
	m.Data = []byte(body)
	ack, err := b.js.PublishMsg(b.Context(), m)
	if err != nil {
		b.Fatal(err)
	}
	return ack
}

// run runs a loop for each partition until the test ends.
func (b *broker) run(sink ingest.Store, observer ingest.Observer) {
	b.Helper()
	b.runOn(b.js, sink, func(o *ingest.Options) { o.Observer = observer })
}

// runOn is run on another context and with other options. The loops end when the
// test or stop ends them.
func (b *broker) runOn(js jetstream.JetStream, sink ingest.Store, change func(*ingest.Options)) (stop func()) {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	var loops sync.WaitGroup
	for partition := range b.layout.Partitions {
		options := ingest.Options{Layout: b.layout, Partition: partition, LookEvery: 50 * time.Millisecond, Backoff: 10 * time.Millisecond}
		if change != nil {
			change(&options)
		}
		loop, err := ingest.NewLoop(ingest.NewJetStream(js, ingest.StreamName(b.layout, partition)), sink, ingest.NewPublisher(js), options)
		if err != nil {
			b.Fatal(err)
		}
		loops.Go(func() {
			if err := loop.Run(ctx); err != nil {
				b.Error(err)
			}
		})
	}
	stop = func() {
		cancel()
		loops.Wait()
	}
	b.Cleanup(stop)
	return stop
}

func (b *broker) settled(sink *store.Memory) {
	b.Helper()
	for partition := range b.layout.Partitions {
		source := ingest.NewJetStream(b.js, ingest.StreamName(b.layout, partition))
		eventually(b.T, "every floor at the end of the stream", func() bool {
			info, err := source.Info(b.Context())
			if err != nil {
				return false
			}
			floors, _ := sink.Floors(b.Context(), b.layout.BucketsOf(partition))
			return !slices.ContainsFunc(floors, func(f compliance.Floor) bool {
				return f.Sequence != info.Last || !f.Created.Equal(info.Created)
			})
		})
	}
}

// letters returns the subjects of all dead letters and the last one.
func (b *broker) letters() ([]string, *jetstream.RawStreamMsg) {
	b.Helper()
	stream, err := b.js.Stream(b.Context(), ingest.DeadStream)
	if err != nil {
		b.Fatal(err)
	}
	info, err := stream.Info(b.Context(), jetstream.WithSubjectFilter(">"))
	if err != nil {
		b.Fatal(err)
	}
	var subjects []string
	for subject := range info.State.Subjects {
		subjects = append(subjects, subject[:strings.LastIndexByte(subject, '.')])
	}
	slices.Sort(subjects)
	if len(subjects) == 0 {
		return nil, nil
	}
	last, err := stream.GetMsg(b.Context(), info.State.LastSeq)
	if err != nil {
		b.Fatal(err)
	}
	return subjects, last
}

func TestADeadLetterIsKeptOnceWithAllThatIsKnown(t *testing.T) {
	b := startBroker(t, compliance.Layout{Partitions: 1, Buckets: 4})
	body := `{"platform":1.5,"status":null}`
	ack := b.publish("compliance.status.p.d", body, "Ce-Id", "event", "ce-source", "agent", "traceparent", "00-1", "Secret", "no", "Nats-Msg-Id", "m")
	sink := store.NewMemory(0)
	b.run(sink, nil)
	b.settled(sink)
	sink.Lose() // The report is read again.
	b.settled(sink)
	subjects, letter := b.letters()
	if diff := cmp.Diff([]string{"compliance.dead.typeMismatch.COMPLIANCE_STATUS.1"}, subjects); diff != "" {
		t.Fatal(diff)
	}
	if string(letter.Data) != body {
		t.Errorf("body %s", letter.Data)
	}
	for _, added := range []string{"Nats-Sequence", "Nats-Stream", "Nats-Subject", "Nats-Time-Stamp"} {
		letter.Header.Del(added) // A direct get adds these.
	}
	stored := letter.Header.Get("Compliance-Stored")
	want := nats.Header{
		"Compliance-Code": {"typeMismatch"}, "Compliance-Property": {"platform"}, "Compliance-Subject": {"compliance.status.p.d"},
		"Compliance-Stream": {ack.Stream}, "Compliance-Sequence": {"1"}, "Compliance-Stored": {stored},
		"Compliance-Error": letter.Header["Compliance-Error"], "Nats-Expected-Last-Subject-Sequence": {"0"},
		"Ce-Id": {"event"}, "ce-source": {"agent"}, "traceparent": {"00-1"},
	}
	if diff := cmp.Diff(want, letter.Header); diff != "" {
		t.Error(diff)
	}
	if text := letter.Header.Get("Compliance-Error"); !strings.Contains(text, `"request-id":"event"`) || !strings.Contains(text, "nullNotAllowed") {
		t.Error(text)
	}
	if at, err := time.Parse(time.RFC3339Nano, stored); err != nil || len(stored) != len("2006-01-02T15:04:05.000000000Z") || time.Since(at) > time.Hour {
		t.Error(stored, err)
	}
}

func TestAResultGoesToItsAskerAlone(t *testing.T) {
	b := startBroker(t, compliance.Layout{Partitions: 1, Buckets: 4})
	sink := store.NewMemory(0)
	b.run(sink, nil)
	results, err := b.nc.SubscribeSync("compliance.result.>")
	if err != nil {
		t.Fatal(err)
	}
	b.publish("compliance.status.p.d", `{"status":"error"}`, "Compliance-Reply", "not a token")
	ack := b.publish("compliance.status.p.d", `{"status":"compliant"}`, "Compliance-Reply", "a.b.c")
	m, err := results.NextMsg(10 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	result, err := compliance.ParseResult(m.Data)
	if err != nil || m.Subject != "compliance.result.d.a.b.c" || result.Sequence != ack.Sequence || result.Stream != ack.Stream ||
		result.Outcome != compliance.Applied || !strings.Contains(string(result.Record), `"status":"compliant"`) {
		t.Errorf("%v: %s %s", err, m.Subject, m.Data)
	}
}

func TestPartitionsShareTheDevicesByTheMappingOfNATS(t *testing.T) {
	b := startBroker(t, compliance.Layout{Partitions: 4, Buckets: 16})
	sink := store.NewMemory(0)
	b.run(sink, nil)
	const devices = 200
	// first is the first device of each partition, size how many it has.
	first, size := map[int]string{}, map[int]uint64{}
	for n := range devices {
		b.publish(key(n).Subject(), `{"status":"compliant"}`)
		of := b.layout.PartitionOf(key(n).Device)
		size[of]++
		if _, there := first[of]; !there {
			first[of] = key(n).Device
		}
	}
	b.publish("compliance.status.only-a-policy", `{}`)
	b.publish("compliance.p.1.p."+first[1], `{}`)
	b.publish("compliance.p.1.p."+first[2], `{}`)
	b.publish("compliance.p.3.p."+first[0], `{}`)
	b.settled(sink)
	for n := range devices {
		if record, _ := sink.Get(t.Context(), key(n)); record.Status() != compliance.StatusCompliant {
			t.Errorf("device %d: %v", n, record.Status())
		}
	}
	if record, _ := sink.Get(t.Context(), compliance.Key{Policy: "p", Device: first[1]}); !record.Exists() {
		t.Error("a report in the right partition is not merged")
	}
	subjects, _ := b.letters()
	want := []string{
		fmt.Sprint("compliance.dead.invalidSubject.COMPLIANCE_STATUS_0.", size[0]+1),
		fmt.Sprint("compliance.dead.invalidSubject.COMPLIANCE_STATUS_1.", size[1]+2),
		fmt.Sprint("compliance.dead.invalidSubject.COMPLIANCE_STATUS_3.", size[3]+1),
	}
	if diff := cmp.Diff(want, subjects); diff != "" {
		t.Error(diff)
	}
}

func TestAStreamDeletedAndMadeAnewIsMerged(t *testing.T) {
	b := startBroker(t, compliance.Layout{Partitions: 1, Buckets: 4})
	sink := store.NewMemory(0)
	seen := &observer{outcomes: map[compliance.Outcome]int{}, rewinds: map[string]int{}}
	b.run(sink, seen)
	for n := range 20 {
		b.publish(key(n).Subject(), `{"status":"compliant"}`)
	}
	b.settled(sink)
	if err := b.js.DeleteStream(t.Context(), "COMPLIANCE_STATUS"); err != nil {
		t.Fatal(err)
	}
	b.provision()
	b.publish(key(3).Subject(), `{"status":"error"}`)
	eventually(t, "the rewind", func() bool { return seen.rewound(ingest.StreamRecreated) > 0 })
	b.settled(sink)
	record, _ := sink.Get(t.Context(), key(3))
	if record.Status() != compliance.StatusError {
		t.Error(record.Status())
	}
}

// gaps returns the gaps of all buckets, each once.
func (b *broker) gaps(sink *store.Memory) []string {
	b.Helper()
	var list []string
	for partition := range b.layout.Partitions {
		gaps, err := sink.Gaps(b.Context(), b.layout.BucketsOf(partition))
		if err != nil {
			b.Fatal(err)
		}
		for _, gap := range slices.Concat(gaps...) {
			list = append(list, fmt.Sprint(gap.First, "-", gap.Last))
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// statuses returns the statuses of the first devices.
func (b *broker) statuses(sink *store.Memory, devices int) []compliance.Status {
	b.Helper()
	var list []compliance.Status
	for n := range devices {
		record, err := sink.Get(b.Context(), key(n))
		if err != nil {
			b.Fatal(err)
		}
		list = append(list, record.Status())
	}
	return list
}

func TestAStreamThatWasRolledBackIsMergedAgain(t *testing.T) {
	for _, c := range []struct {
		name string
		// grown is how many reports come after the older copy, before anybody reads.
		grown int
	}{{"and is shorter than the floors", 0}, {"and has grown past the floors", 20}} {
		t.Run(c.name, func(t *testing.T) {
			b := startBroker(t, compliance.Layout{Partitions: 1, Buckets: 4})
			sink := store.NewMemory(0)
			seen := newObserver()
			publish := func(from, to int, status string) {
				for n := from; n < to; n++ {
					b.publish(key(n).Subject(), fmt.Sprintf(`{"status":%q}`, status))
				}
			}
			folder, older := filepath.Join(filepath.Dir(b.config), "jetstream"), filepath.Join(t.TempDir(), "jetstream")
			publish(0, 10, "compliant")
			b.restart(func() {
				if err := os.CopyFS(older, os.DirFS(folder)); err != nil {
					t.Fatal(err)
				}
			})
			stop := b.runOn(b.js, sink, nil)
			publish(5, 15, "error")
			b.settled(sink)
			stop()
			b.restart(func() {
				if err := errors.Join(os.RemoveAll(folder), os.CopyFS(folder, os.DirFS(older))); err != nil {
					t.Fatal(err)
				}
			})
			publish(10, 10+c.grown, "conflict")
			b.run(sink, seen)
			eventually(t, "the rewind", func() bool { return seen.rewound(ingest.StreamRolledBack) > 0 })
			publish(0, 1, "nonCompliant")
			b.settled(sink)
			// What the floors had is kept, and what is new is merged.
			want := slices.Concat([]compliance.Status{compliance.StatusNonCompliant},
				slices.Repeat([]compliance.Status{compliance.StatusCompliant}, 4), slices.Repeat([]compliance.Status{compliance.StatusError}, 10))
			for n := 10; n < 10+c.grown && n < 15; n++ {
				want[n] = compliance.StatusConflict
			}
			if diff := cmp.Diff(want, b.statuses(sink, 15)); diff != "" {
				t.Error(diff)
			}
			if n := seen.rewound(ingest.StreamRolledBack); n != 1 {
				t.Errorf("one rollback was counted as %d", n)
			}
			if gaps := b.gaps(sink); gaps != nil {
				t.Errorf("gaps: %v", gaps)
			}
		})
	}
}

func TestReportsThatAgedOutWhileNobodyReadAreAGap(t *testing.T) {
	b := startBroker(t, compliance.Layout{Partitions: 1, Buckets: 4})
	sink := store.NewMemory(0)
	stop := b.runOn(b.js, sink, nil)
	for n := range 10 {
		b.publish(key(n).Subject(), `{"status":"compliant"}`)
	}
	b.settled(sink)
	stop()
	for n := range 10 {
		b.publish(key(n).Subject(), `{"status":"error"}`)
	}
	keep := func(age time.Duration) {
		t.Helper()
		if err := ingest.Provision(t.Context(), b.js, ingest.Provisioning{Layout: b.layout, MaxAge: age}); err != nil {
			t.Fatal(err)
		}
	}
	keep(200 * time.Millisecond)
	eventually(t, "the end of the reports", func() bool {
		info, err := b.source().Info(t.Context())
		return err == nil && info.First == 21
	})
	keep(0)
	for n := range 5 {
		b.publish(key(n).Subject(), `{"status":"conflict"}`)
	}
	b.run(sink, nil)
	b.settled(sink)
	if diff := cmp.Diff([]string{"11-20"}, b.gaps(sink)); diff != "" {
		t.Error(diff)
	}
	want := slices.Concat(slices.Repeat([]compliance.Status{compliance.StatusConflict}, 5), slices.Repeat([]compliance.Status{compliance.StatusCompliant}, 5))
	if diff := cmp.Diff(want, b.statuses(sink, 10)); diff != "" {
		t.Error(diff)
	}
}

func TestTheLoopOutlivesTheServer(t *testing.T) {
	b := startBroker(t, compliance.Layout{Partitions: 1, Buckets: 4})
	sink := store.NewMemory(0)
	b.run(sink, nil)
	b.publish(key(1).Subject(), `{"status":"compliant"}`)
	b.settled(sink)
	b.restart(func() {})
	b.publish(key(1).Subject(), `{"status":"error"}`)
	b.settled(sink)
	if record, _ := sink.Get(t.Context(), key(1)); record.Status() != compliance.StatusError {
		t.Error(record.Status())
	}
}

func TestProvisionKeepsToTheLayout(t *testing.T) {
	b := startBroker(t, compliance.Layout{Partitions: 1, Buckets: 4})
	have, err := ingest.ReadLayout(t.Context(), b.js)
	if err != nil || have != b.layout {
		t.Error(have, err)
	}
	err = ingest.Provision(t.Context(), b.js, ingest.Provisioning{Layout: compliance.Layout{Partitions: 2, Buckets: 4}})
	if err == nil || !strings.Contains(err.Error(), "cannot be changed") {
		t.Error(err)
	}
	if err := ingest.Provision(t.Context(), b.js, ingest.Provisioning{Layout: b.layout, MaxAge: time.Hour}); err != nil {
		t.Error(err)
	}
	stream, err := b.js.Stream(t.Context(), "COMPLIANCE_STATUS")
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	if !config.DenyDelete || !config.DenyPurge || config.Duplicates != 100*time.Millisecond || config.MaxMsgSize != 64<<10 ||
		config.MaxAge != time.Hour || config.Compression != jetstream.S2Compression || !config.AllowDirect || config.AllowRollup {
		t.Errorf("%+v", config)
	}
}

func TestProvisionLeavesAloneWhatItWasNotAskedToChange(t *testing.T) {
	b := startBroker(t, compliance.Layout{Partitions: 2, Buckets: 4})
	names := []string{"COMPLIANCE_STATUS_0", "COMPLIANCE_STATUS_1", "COMPLIANCE_DEAD"}
	for i, name := range names {
		stream, err := b.js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		config := stream.CachedInfo().Config
		config.MaxAge, config.MaxMsgs, config.MaxBytes = 3*time.Hour, 1000, 1<<20
		config.Duplicates = 2 * time.Minute // Not a limit: the wire contract says it.
		config.Metadata["owner"] = "somebody"
		if i == 1 {
			config.Metadata = nil
		}
		if _, err := b.js.UpdateStream(t.Context(), config); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		ingest.Provisioning

		want time.Duration
	}{
		{ingest.Provisioning{Layout: b.layout, KeepMaxAge: true, KeepReplicas: true}, 3 * time.Hour},
		{ingest.Provisioning{Layout: b.layout, KeepReplicas: true}, 0},
		{ingest.Provisioning{Layout: b.layout, MaxAge: time.Hour}, time.Hour},
	} {
		if err := ingest.Provision(t.Context(), b.js, test.Provisioning); err != nil {
			t.Fatal(err)
		}
		for i, name := range names {
			stream, err := b.js.Stream(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			want := test.want
			if i == 2 {
				want = 3 * time.Hour
			}
			config := stream.CachedInfo().Config
			if config.MaxAge != want || config.MaxMsgs != 1000 || config.MaxBytes != 1<<20 || config.Duplicates != 100*time.Millisecond {
				t.Errorf("%s with %+v: %+v", name, test.Provisioning, config)
			}
			if (config.Metadata["owner"] == "") != (i == 1) || (config.Metadata["compliance-buckets"] == "") != (i == 2) {
				t.Errorf("%s: metadata %v", name, config.Metadata)
			}
		}
	}
	if err := b.js.DeleteStream(t.Context(), names[2]); err != nil {
		t.Fatal(err)
	}
	err := ingest.Provision(t.Context(), b.js, ingest.Provisioning{Layout: b.layout, KeepMaxAge: true, KeepReplicas: true})
	if err != nil {
		t.Fatal(err)
	}
	if dead, err := b.js.Stream(t.Context(), names[2]); err != nil || dead.CachedInfo().Config.MaxAge != 30*24*time.Hour {
		t.Error("a missing stream was not made as it must be:", err)
	}
}

func TestStreamsOfAnotherLayoutVersionAreRefused(t *testing.T) {
	b := startBroker(t, compliance.Layout{Partitions: 1, Buckets: 4})
	name := func(version int) {
		t.Helper()
		stream, err := b.js.Stream(t.Context(), "COMPLIANCE_STATUS")
		if err != nil {
			t.Fatal(err)
		}
		config := stream.CachedInfo().Config
		config.Metadata["compliance-layout"] = strconv.Itoa(version)
		if _, err := b.js.UpdateStream(t.Context(), config); err != nil {
			t.Fatal(err)
		}
	}
	provision := func() error {
		return ingest.Provision(t.Context(), b.js, ingest.Provisioning{Layout: b.layout})
	}
	for version, say := range map[int]string{
		compliance.LayoutVersion - 1: "empty its Redis and run complianced provision",
		compliance.LayoutVersion + 1: "a newer complianced",
	} {
		name(version)
		_, err := ingest.ReadLayout(t.Context(), b.js)
		if other, ok := errors.AsType[*ingest.VersionError](err); !ok || other.Version != version || !strings.Contains(err.Error(), say) {
			t.Errorf("version %d: %v", version, err)
		}
		older := version < compliance.LayoutVersion
		if err := provision(); (err == nil) != older {
			t.Errorf("provision over version %d: %v", version, err)
		}
		if have, err := ingest.ReadLayout(t.Context(), b.js); (err == nil) != older || older && have != b.layout {
			t.Errorf("version %d after provision: %+v, %v", version, have, err)
		}
	}
}
