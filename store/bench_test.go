package store_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/store"
)

// BenchmarkApply merges transactions of 250 full reports into records that stay
// uniform, over a Unix socket: reports that repeat what is stored, and such that give
// each record another status, and a grace period or none.
func BenchmarkApply(b *testing.B) {
	body := documentedBody(b)
	b.Run("repeated", func(b *testing.B) { benchmarkApply(b, body) })
	b.Run("moved", func(b *testing.B) { benchmarkApply(b, body, strings.Replace(body, "nonCompliant", "compliant", 1)) })
}

// benchmarkApply gives all records the first body, then all of them the next.
func benchmarkApply(b *testing.B, bodies ...string) {
	b.Helper()
	const perTransaction, devices = 250, 5000
	s := startServer(b)
	r, err := store.New(compliance.Layout{Partitions: 1, Buckets: 1}, store.Options{URLs: []string{s.url}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = r.Close() })
	var reports []*compliance.Report
	for _, body := range bodies {
		for i := range devices {
			key := compliance.Key{Policy: documented, Device: fmt.Sprintf("a72b2760-2760-a72b-6027-%012x", i)}
			reports = append(reports, report(b, uint64(i+1), key, body))
		}
	}
	first := reports[0].Version.Time
	var at compliance.Floor
	next := func(n int) {
		batch := reports[n*perTransaction%len(reports):][:perTransaction]
		for _, r := range batch {
			r.Version.Time = first + compliance.Ticks(n)
		}
		to := floor(uint64(n+1), fmt.Sprint("w", n))
		if _, err := r.Apply(b.Context(), compliance.Transaction{From: at, To: to, Reports: batch}); err != nil {
			b.Fatal(err)
		}
		at = to
	}
	n := 0
	for ; n < devices/perTransaction; n++ { // The records are there.
		next(n)
	}
	b.ReportAllocs()
	var took, used time.Duration
	for b.Loop() {
		began, usedBefore := time.Now(), processorTime(b)
		next(n)
		took += time.Since(began)
		used += processorTime(b) - usedBefore
		n++
	}
	b.ReportMetric(float64(took.Nanoseconds())/1e3/float64(b.N*perTransaction), "µs/report")
	b.ReportMetric(float64(used.Nanoseconds())/1e3/float64(b.N*perTransaction), "cpu-µs/report")
}

// processorTime is what this process has used, which Redis is not part of.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
