package store_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/store"
)

// BenchmarkApply merges transactions of 250 full reports into records that stay
// uniform, over a Unix socket.
func BenchmarkApply(b *testing.B) {
	const perTransaction, devices = 250, 5000
	s := startServer(b)
	r, err := store.New(compliance.Layout{Partitions: 1, Buckets: 1}, store.Options{URLs: []string{s.url}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = r.Close() })
	body := documentedBody(b)
	reports := make([]*compliance.Report, devices)
	for i := range reports {
		key := compliance.Key{Policy: documented, Device: fmt.Sprintf("a72b2760-2760-a72b-6027-%012x", i)}
		reports[i] = report(b, uint64(i+1), key, body)
	}
	var at compliance.Floor
	next := func(n int) {
		batch := reports[n*perTransaction%devices:][:perTransaction]
		for _, r := range batch {
			r.Version.Time++
			r.Version.ID++
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
