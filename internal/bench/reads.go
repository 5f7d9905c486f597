package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/internal/fleet"
	"github.com/complianced/complianced/internal/rig"
	"github.com/complianced/complianced/store"
)

// The state that is read has one policy for this many records, and as many buckets as
// there can be: the most that a scrape and a list have to go through.
const (
	recordsPerPolicy = 200
	policiesADevice  = 5
	readBuckets      = compliance.MaxBuckets
)

// How the state is read.
const (
	pageLimit = 100
	pages     = 100
	// betweenScrapes lets the program come to rest.
	betweenScrapes = time.Second
	staleAfter     = 30
)

// Reads are how long it takes to read the state, while nothing is merged.
type Reads struct {
	AppendOnly string `json:"appendonly"`
	Records    int    `json:"records"`
	Policies   int    `json:"policies"`
	Buckets    int    `json:"buckets"`
	// Scrape is from the request for /metrics to the last byte of the answer.
	Scrape Figure  `json:"scrape_seconds"`
	Lists  []Pages `json:"lists"`
}

// Pages are those of one kind of list, each of at most 100 records.
type Pages struct {
	Of    string    `json:"of"`
	Pages int       `json:"pages"`
	Took  Quantiles `json:"took"`
}

// readState measures reads of a state with so many records.
func readState(ctx context.Context, programs rig.Programs, s Settings, appendOnly string) (r Reads, err error) {
	s.Partitions, s.Buckets = 1, readBuckets
	r = Reads{AppendOnly: appendOnly, Policies: max(policiesADevice, s.Records/recordsPerPolicy), Buckets: readBuckets}
	options := LoadOptions{
		Mix: fleet.Steady, Devices: max(1, s.Records/policiesADevice), Policies: policiesADevice, Seed: s.Seed, Start: time.Now().UTC().Truncate(time.Second),
	}
	f, err := options.fleet()
	if err != nil {
		return r, err
	}
	d, err := deploy(ctx, programs, s, appendOnly)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	r.Records = int(f.Records())
	e := newExpected(r.Records)
	spread := spreading{policies: r.Policies, first: map[string]int{}}
	want, err := d.preload(ctx, e, r.Records, 0, func(i int) fleet.Report { return spread.over(f.At(uint64(i))) })
	if err != nil {
		return r, err
	}
	if _, err := d.drain(ctx, want); err != nil {
		return r, err
	}
	if err := d.checkState(ctx, e); err != nil {
		return r, err
	}
	if r.Scrape, err = d.scrapes(ctx, s.Count, r.Policies); err != nil {
		return r, err
	}
	r.Lists, err = d.lists(ctx, e)
	return r, err
}

// spreading gives the reports of a fleet with few policies many of them.
type spreading struct {
	policies int
	// first has, for each policy of the fleet, where it begins among them.
	first map[string]int
}

// over returns a report with another policy. Those of a device are still different.
func (s *spreading) over(r fleet.Report) fleet.Report {
	at, known := s.first[r.Key.Policy]
	if !known {
		at = len(s.first) * (s.policies / policiesADevice)
		s.first[r.Key.Policy] = at
	}
	whole := compliance.Layout{Partitions: 1, Buckets: readBuckets}
	step := int(whole.BucketOf(r.Key.Device))*7 + int(r.Index)
	n := at + step%(s.policies/policiesADevice)
	r.Key.Policy = fmt.Sprintf("5ca1e000-0000-4000-8000-%012x", n)
	r.Subject = r.Key.Subject()
	return r
}

// scrapes measures scrapes of all that complianced serves.
func (d *deployment) scrapes(ctx context.Context, count, policies int) (f Figure, err error) {
	var took []float64
	err = d.watched(ctx, d.worker.Start, func(ctx context.Context) error {
		for range count {
			if err := pause(ctx, betweenScrapes); err != nil {
				return err
			}
			began := time.Now()
			if err := d.fetchMetrics(ctx); err != nil {
				return err
			}
			took = append(took, time.Since(began).Seconds())
		}
		metrics, err := scrape(ctx, d.worker)
		if err == nil && int(metrics.value("compliance_policies", "")) != policies {
			err = wrongf("%.0f policies are counted, not %d", metrics.value("compliance_policies", ""), policies)
		}
		return err
	})
	if err != nil {
		return f, err
	}
	return figureOf(took), d.worker.Stop()
}

// fetchMetrics reads /metrics in the form that curl gets.
func (d *deployment) fetchMetrics(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.worker.Metrics+"/metrics", nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // It was only read.
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("scrape: status %d", response.StatusCode)
	}
	_, err = io.Copy(io.Discard, response.Body)
	return err
}

// lists measures the pages of each kind of list.
func (d *deployment) lists(ctx context.Context, e *expected) ([]Pages, error) {
	keys := make([]compliance.Key, 0, len(e.numbers))
	for key := range e.numbers {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b compliance.Key) int {
		return cmp.Or(cmp.Compare(a.Policy, b.Policy), cmp.Compare(a.Device, b.Device))
	})
	one := func(n int) compliance.Key { return keys[n*len(keys)/pages] }
	failing := []compliance.Status{compliance.StatusNonCompliant}
	var all []Pages
	for _, kind := range []struct {
		of    string
		query func(n int) store.Query
	}{
		{"nonCompliant records of a policy", func(n int) store.Query { return store.Query{Policy: one(n).Policy, Statuses: failing} }},
		{"records of a policy", func(n int) store.Query { return store.Query{Policy: one(n).Policy} }},
		{"records of a device", func(n int) store.Query { return store.Query{Device: one(n).Device} }},
		{"nonCompliant records", func(int) store.Query { return store.Query{Statuses: failing} }},
		{"stale records", func(int) store.Query { return store.Query{Stale: true, Validity: staleAfter} }},
		{"all records", func(int) store.Query { return store.Query{} }},
	} {
		took, err := d.pagesOf(ctx, kind.query)
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", kind.of, err)
		}
		all = append(all, Pages{Of: kind.of, Pages: len(took), Took: quantilesOf(took)})
	}
	return all, nil
}

// pagesOf reads so many pages: of a list the next one, and at its end the first one of
// the next list.
func (d *deployment) pagesOf(ctx context.Context, query func(n int) store.Query) (took []time.Duration, err error) {
	cursor, n := "", 0
	for range pages {
		began := time.Now()
		page, err := d.state.List(ctx, query(n), cursor, pageLimit, began)
		if err != nil {
			return nil, err
		}
		took = append(took, time.Since(began))
		if cursor = page.Next; cursor == "" {
			n++
		}
	}
	return took, nil
}
