package spool_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/complianced/complianced/publisher"
	"github.com/complianced/complianced/publisher/internal/natstest"
	"github.com/complianced/complianced/publisher/spool"
)

// What a report costs that goes to disk: one fsync for all that come at once.
func BenchmarkPublish(b *testing.B) {
	for name, noSync := range map[string]bool{"sync": false, "nosync": true} {
		s := open(b, b.TempDir(), spool.Options{NoSync: noSync, MaxBytes: 1 << 30})
		b.Run(name+"/serial", func(b *testing.B) {
			for b.Loop() {
				publish(b, s, numbered(0, 200))
			}
		})
		b.Run(name+"/parallel", func(b *testing.B) {
			b.SetParallelism(64)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := s.Publish(b.Context(), numbered(0, 200)); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// How fast a backlog of 5,000 reports is sent: in order, and 64 at once.
func BenchmarkRun(b *testing.B) {
	server := natstest.New(b)
	natstest.MakeStream(b, natstest.Connect(b, server.ClientURL()))
	p := natstest.Publisher(b, server.ClientURL(), publisher.Options{})
	const backlog = 5000
	for name, inFlight := range map[string]int{"inflight=1": 1, "inflight=64": 64} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				s := open(b, b.TempDir(), spool.Options{InFlight: inFlight, NoSync: true})
				for n := range backlog {
					publish(b, s, numbered(n, 200))
				}
				b.StartTimer()
				stop := run(b, s, p)
				empty(b, s)
				b.StopTimer()
				_ = stop()
				b.StartTimer()
			}
			b.ReportMetric(float64(b.N)*backlog/b.Elapsed().Seconds(), "reports/s")
		})
	}
}

// How large the file gets that holds Options.MaxBytes, with small reports and with large ones.
func BenchmarkFile(b *testing.B) {
	for name, size := range map[string]int{"small": 30, "large": 10_000} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				dir := b.TempDir()
				const bound = 4 << 20
				s := open(b, dir, spool.Options{NoSync: true, MaxBytes: bound})
				count := 0
				for s.Stats().Dropped < 2000 {
					publish(b, s, numbered(count, size))
					count++
				}
				info, err := os.Stat(filepath.Join(dir, "reports.v1.db"))
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(info.Size())/bound, "times-MaxBytes")
				b.ReportMetric(float64(s.Stats().Waiting), "reports")
			}
		})
	}
}
