// Command agent is the smallest device agent there is: what it reports lies on
// disk at once, and reaches the server when there is one.
//
//	agent nats://localhost:4222 laptop-7
package main

import (
	"context"
	"log"
	"os"
	"time"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/publisher"
	"github.com/complianced/complianced/publisher/spool"
)

func main() {
	ctx, device := context.Background(), os.Args[2]
	s, err := spool.Open("spool", spool.Options{Device: device})
	check(err)
	p, err := publisher.Connect(ctx, os.Args[1], publisher.Options{Device: device})
	check(err)
	go func() { check(s.Run(ctx, p)) }()
	key := compliance.Key{Policy: "disk-encryption", Device: device}
	for ; ; time.Sleep(time.Hour) {
		check(s.Publish(ctx, publisher.Outgoing{Key: key, Body: findings()}))
	}
}

// findings is what there is to report: one JSON object with what changed.
func findings() []byte { return []byte(`{"status":"compliant","platform":8}`) }

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
