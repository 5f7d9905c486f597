package spool_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/publisher"
	"github.com/complianced/complianced/publisher/spool"
)

// A whole agent: what it reports is on disk at once, and is sent when a server
// is there.
func Example() {
	url, dir, stop := serverForExample()
	defer stop()

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s, err := spool.Open(dir, spool.Options{Device: "laptop-7"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	key := compliance.Key{Policy: "disk-encryption", Device: "laptop-7"}
	if _, err := s.Publish(ctx, publisher.Outgoing{Key: key, Body: []byte(`{"status":"compliant"}`)}); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("waiting:", s.Stats().Waiting)

	p, err := publisher.Connect(ctx, url, publisher.Options{Device: "laptop-7"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	done := make(chan error)
	go func() { done <- s.Run(ctx, p) }()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for s.Stats().Waiting > 0 { // An agent does its work meanwhile.
		<-tick.C
	}
	cancel()
	fmt.Println(<-done)
	fmt.Println("sent:", s.Stats().Sent)
	// Output:
	// waiting: 1
	// send spool: context canceled
	// sent: 1
}

// What the operator wants to know of a report that no server will ever take.
func ExampleOptions_onRefused() {
	url, dir, stop := serverForExample()
	defer stop()
	refused := make(chan error, 1)
	s, err := spool.Open(dir, spool.Options{
		OnRefused: func(_ publisher.Outgoing, err error) { refused <- err },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	p, err := publisher.Connect(context.Background(), url, publisher.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer p.Close()
	go s.Run(context.Background(), p) // Close waits for it.

	_, err = s.Publish(context.Background(), publisher.Outgoing{
		Key:  compliance.Key{Policy: "disk-encryption", Device: "laptop-7"},
		Body: make([]byte, 20<<10), // The stream of this example takes 16 KiB.
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(<-refused)
	// Output: publish report: the report is larger than the server or the stream takes; at most 16 KiB is ever applied
}

// serverForExample starts a NATS server with the stream of reports, and makes a
// folder for a spool.
func serverForExample() (url, spoolDir string, stop func()) {
	dir, err := os.MkdirTemp("", "spool-example")
	if err != nil {
		panic(err)
	}
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, JetStream: true, StoreDir: dir + "/nats",
	})
	if err != nil {
		panic(err)
	}
	s.Start()
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
		Name: "COMPLIANCE_STATUS", Subjects: []string{"compliance.status.>"}, MaxMsgSize: 16 << 10,
	}); err != nil {
		panic(err)
	}
	return s.ClientURL(), dir + "/spool", func() {
		s.Shutdown()
		s.WaitForShutdown()
		os.RemoveAll(dir)
	}
}
