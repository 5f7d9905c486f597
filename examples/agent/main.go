// Command agent is the smallest device agent there is: what it reports lies on
// disk at once, and reaches the server when there is one.
//
//	agent nats://localhost:4222 laptop-7
package main

import (
	"context"
	"errors"
	"log"
	"os"
	"time"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/publisher"
	"github.com/complianced/complianced/publisher/spool"
)

func main() {
	ctx, url, device := context.Background(), argument(1), argument(2)
	s, err := spool.Open("spool", spool.Options{Device: device})
	check(err)
	p, err := publisher.Connect(ctx, url, publisher.Options{Device: device})
	check(err)
	go send(ctx, s, p)
	key := compliance.Key{Policy: "disk-encryption", Device: device}
	for ; ; time.Sleep(time.Hour) {
		_, err := s.Publish(ctx, publisher.Outgoing{Key: key, Body: findings()})
		tell(err, s.Stats())
	}
}

// findings is what there is to report: one JSON object with what changed.
func findings() []byte { return []byte(`{"status":"compliant","platform":8}`) }

// send goes on after an error of the disk.
func send(ctx context.Context, s *spool.Spool, p *publisher.Publisher) {
	for ; ; time.Sleep(time.Minute) {
		tell(s.Run(ctx, p), s.Stats())
	}
}

// tell says what the operator should know. A damaged file ends the program: it
// begins a new one when it is started again.
func tell(err error, stats spool.Stats) {
	if errors.Is(err, spool.ErrDamaged) {
		log.Fatal(err)
	}
	if err != nil {
		log.Print(err)
	}
	if lost := stats.Dropped + stats.Refused + stats.Corrupt; lost > 0 || stats.Damaged != "" {
		log.Printf("%d reports did not arrive: %d made way for newer ones, the server refused %d, %d could not be read; "+
			"damaged file: %q", lost, stats.Dropped, stats.Refused, stats.Corrupt, stats.Damaged)
	}
}

func argument(n int) string {
	if len(os.Args) != 3 {
		log.SetFlags(0)
		log.Print("usage: agent URL DEVICE")
		os.Exit(2)
	}
	return os.Args[n]
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
