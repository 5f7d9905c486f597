package publisher_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/publisher"
)

// A whole agent: it connects, and reports.
func Example() {
	url, stop := serverForExample(true)
	defer stop()

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	p, err := publisher.Connect(ctx, url, publisher.Options{Device: "laptop-7"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	key := compliance.Key{Policy: "disk-encryption", Device: "laptop-7"}
	ack, err := p.Publish(ctx, publisher.Outgoing{Key: key, Body: []byte(`{"status":"compliant"}`)})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("accepted:", ack.Stream, ack.Sequence)
	// Output: accepted: COMPLIANCE_STATUS 1
}

// What an agent does with a report that it could not get accepted: it keeps id
// and time with the body, and publishes the same report later.
func ExampleUnackedError() {
	url, stop := serverForExample(false)
	defer stop()
	p, err := publisher.Connect(context.Background(), url, publisher.Options{MaxAttempts: 2, RetryWait: time.Millisecond})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	report := publisher.Outgoing{
		Key:  compliance.Key{Policy: "disk-encryption", Device: "laptop-7"},
		Body: []byte(`{"status":"compliant"}`),
	}

	_, err = p.Publish(context.Background(), report)
	if unacked, ok := errors.AsType[*publisher.UnackedError](err); ok {
		report.EventID, report.EventTime = unacked.EventID, unacked.EventTime
		fmt.Println(err)
	}
	// Output: publish report: no PubAck after 2 attempts: all attempts used up; last attempt: no JetStream stream takes compliance.status.>; the operator creates it with: complianced provision
}

// An agent that wants to know what became of its report.
func ExamplePublisher_PublishAndWait() {
	url, stop := serverForExample(true)
	defer stop()
	p, err := publisher.Connect(context.Background(), url, publisher.Options{Device: "laptop-7"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	result, err := p.PublishAndWait(ctx, publisher.Outgoing{
		Key:  compliance.Key{Policy: "disk-encryption", Device: "laptop-7"},
		Body: []byte(`{"status":"compliant"}`),
	})
	var unheard *publisher.NoResultError
	switch {
	case err == nil:
		fmt.Println("outcome:", result.Outcome)
	case errors.As(err, &unheard): // No worker runs here.
		fmt.Println("accepted, but not heard:", unheard.Ack.Stream, unheard.Ack.Sequence)
	default:
		fmt.Println(err)
		return
	}
	// Output: accepted, but not heard: COMPLIANCE_STATUS 1
}

// serverForExample starts a NATS server, with or without the stream of reports.
func serverForExample(stream bool) (url string, stop func()) {
	dir, err := os.MkdirTemp("", "publisher-example")
	if err != nil {
		panic(err)
	}
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, JetStream: true, StoreDir: dir,
	})
	if err != nil {
		panic(err)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		panic("the server takes no connections")
	}
	stop = func() {
		s.Shutdown()
		s.WaitForShutdown()
		os.RemoveAll(dir)
	}
	if !stream {
		return s.ClientURL(), stop
	}
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		panic(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		panic(err)
	}
	if _, err := js.CreateStream(context.Background(), jetstream.StreamConfig{
		Name: "COMPLIANCE_STATUS", Subjects: []string{"compliance.status.>"},
	}); err != nil {
		panic(err)
	}
	return s.ClientURL(), stop
}
