package publisher_test

import (
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/publisher"
	"github.com/complianced/complianced/publisher/internal/natstest"
)

// One report after the other is bound by the round trip to the server; many
// goroutines share one connection.
func BenchmarkPublish(b *testing.B) {
	s := startServer(b)
	s.stream(b)
	p := natstest.Publisher(b, s.ClientURL(), publisher.Options{})
	report := publisher.Outgoing{Key: key, Body: body}

	b.Run("serial", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := p.Publish(b.Context(), report); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(64)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if _, err := p.Publish(b.Context(), report); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}

func BenchmarkPublishAsync(b *testing.B) {
	s := startServer(b)
	s.stream(b)
	p, err := publisher.Connect(b.Context(), s.ClientURL(), publisher.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := p.PublishAsync(b.Context(), publisher.Outgoing{Key: key, Body: body}, func(_ publisher.Ack, err error) {
			if err != nil {
				b.Error(err)
			}
		}); err != nil {
			b.Fatal(err)
		}
	}
	p.Close() // Waits for those that are under way.
}

func BenchmarkPublishAndWait(b *testing.B) {
	s := startServer(b)
	standIn(b, s, func(nc *nats.Conn, report *nats.Msg) {
		acknowledge(report)
		answer(nc, report, compliance.Result{Outcome: compliance.Unchanged, Stream: "S", Sequence: 7})
	})
	p := natstest.Publisher(b, s.ClientURL(), publisher.Options{})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.PublishAndWait(b.Context(), publisher.Outgoing{Key: key, Body: body}); err != nil {
			b.Fatal(err)
		}
	}
}
