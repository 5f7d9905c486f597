package store_test

import (
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/store"
)

// A fleet for the reads that look at all of it: a million records of 200,000 devices,
// each under 5 of 5,000 policies, in 256 buckets; nine in ten are compliant, the others
// nonCompliant, half of them with a grace period.
const (
	scaleRecords  = 1_000_000
	scalePolicies = 5_000
	perDevice     = 5
)

func scalePolicy(n int) string { return fmt.Sprintf("5ca1e000-0000-4000-8000-%012x", n%scalePolicies) }

func scaleKey(i int) compliance.Key {
	device := i / perDevice
	return compliance.Key{
		Policy: scalePolicy(device*7 + i%perDevice*997), Device: fmt.Sprintf("a72b2760-2760-a72b-6027-%012x", device),
	}
}

func scaleBody(i int, now time.Time) string {
	if i%10 != 0 {
		return `{"status":"compliant"}`
	}
	if i%20 != 0 {
		return `{"status":"nonCompliant"}`
	}
	return fmt.Sprintf(`{"status":"nonCompliant","complianceGracePeriodExpirationDateTime":%q}`,
		now.Add(time.Duration(i%(30*86400))*time.Second).UTC().Format(time.RFC3339))
}

// fill makes the fleet, by transactions of buckets as the worker sends them.
func fill(b *testing.B, r *store.Redis, now time.Time) {
	b.Helper()
	whole := compliance.Layout{Partitions: 1, Buckets: compliance.MaxBuckets}
	byBucket := make([][]int, whole.Buckets)
	for i := range scaleRecords {
		at := whole.BucketOf(scaleKey(i).Device)
		byBucket[at] = append(byBucket[at], i)
	}
	var group errgroup.Group
	group.SetLimit(4)
	for bucket, records := range byBucket {
		group.Go(func() error {
			var at compliance.Floor
			for n := 0; n < len(records); n += 1000 {
				var reports []*compliance.Report
				for _, i := range records[n:min(n+1000, len(records))] {
					key := scaleKey(i)
					age := time.Duration(i%60) * 24 * time.Hour
					report, rejection := compliance.Decode(&compliance.Envelope{
						Subject: key.Subject(), Body: []byte(scaleBody(i, now)), Sequence: uint64(i + 1), Stored: now,
						Header: map[string][]string{"ce-time": {now.Add(-age).UTC().Format(time.RFC3339)}},
					})
					if rejection != nil {
						return fmt.Errorf("refused: %s", rejection.Code())
					}
					reports = append(reports, &report)
				}
				to := floor(uint64(n+1), fmt.Sprint("w", n))
				tx := compliance.Transaction{Bucket: compliance.Bucket(bucket), From: at, To: to, Reports: reports}
				if _, err := r.Apply(b.Context(), tx); err != nil {
					return err
				}
				at = to
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkReadsOfAMillionRecords(b *testing.B) {
	s := startServer(b)
	r, err := store.New(compliance.Layout{Partitions: 1, Buckets: compliance.MaxBuckets}, store.Options{URLs: []string{s.url}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = r.Close() })
	now := time.Now()
	fill(b, r, now)
	b.Run("totals", func(b *testing.B) {
		for b.Loop() {
			totals, err := r.Totals(b.Context(), now, 30)
			if err != nil {
				b.Fatal(err)
			}
			if len(totals.Policies) != scalePolicies {
				b.Fatalf("%d policies", len(totals.Policies))
			}
		}
	})
}
