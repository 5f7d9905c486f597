package store_test

import (
	"fmt"
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
	var took time.Duration
	for b.Loop() {
		began := time.Now()
		next(n)
		took += time.Since(began)
		n++
	}
	b.ReportMetric(float64(took.Microseconds())/float64(b.N*perTransaction), "µs/report")
}
