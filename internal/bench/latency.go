package main

import (
	"context"
	"math"
	"slices"
	"time"

	dto "github.com/prometheus/client_model/go"
)

// Latency is the time from the store time of a report to its merge, in seconds.
type Latency struct {
	Rate    int     `json:"rate"`
	Reports int     `json:"reports"`
	P50     float64 `json:"p50"`
	P99     float64 `json:"p99"`
	P999    float64 `json:"p999"`
	Max     float64 `json:"max"`
	// Width is by how much a value is too great at most, as a share of it: each is
	// the upper bound of its bucket in the worker's native histogram.
	Width float64 `json:"width"`
}

const latencyName = "compliance_report_latency_seconds"

// latency publishes at the fixed rate while the worker runs. What is sent in the
// first tenth of the time does not count.
func (o *session) latency(ctx context.Context) (Latency, error) {
	s := o.settings
	if err := o.worker.Start(ctx); err != nil {
		return Latency{}, err
	}
	n := max(1, int(int64(s.Rate)*int64(s.For)/int64(time.Second)))
	warm, err := o.publishAndWait(ctx, max(1, n/10))
	if err != nil {
		return Latency{}, err
	}
	before, err := o.outcomes(ctx, warm)
	if err != nil {
		return Latency{}, err
	}
	timed, err := o.publishAndWait(ctx, n)
	if err != nil {
		return Latency{}, err
	}
	after, err := o.outcomes(ctx, warm.plus(timed))
	if err != nil {
		return Latency{}, err
	}
	h, err := between(before.histogram(latencyName), after.histogram(latencyName))
	if err != nil {
		return Latency{}, err
	}
	if got := h.total(); got != uint64(timed.applied()) {
		return Latency{}, wrongf("the worker measured the latency of %d reports, not of %d", got, timed.applied())
	}
	if err := o.checkState(ctx, o.load, len(o.load.pairs)); err != nil {
		return Latency{}, err
	}
	return Latency{
		Rate: s.Rate, Reports: timed.applied(), P50: h.quantile(.5), P99: h.quantile(.99), P999: h.quantile(.999), Max: h.quantile(1),
		Width: h.base - 1,
	}, o.worker.Stop()
}

func (o *session) publishAndWait(ctx context.Context, n int) (sent, error) {
	total, err := o.publish(ctx, n, o.settings.Rate)
	if err != nil {
		return total, err
	}
	_, err = o.await(ctx)
	return total, err
}

// histogram are the counts of a native histogram by the index of the bucket, which
// ends at base to the power of its index.
type histogram struct {
	base   float64
	zero   uint64
	counts map[int]int64
}

// nativeHistogram reads the form that client_model documents: spans of buckets, and
// the difference of each bucket to the one before.
func nativeHistogram(h *dto.Histogram) (histogram, error) {
	if h == nil || h.Schema == nil {
		return histogram{}, wrongf("the worker has no native histogram %s", latencyName)
	}
	n := histogram{base: math.Exp2(math.Exp2(-float64(h.GetSchema()))), zero: h.GetZeroCount(), counts: map[int]int64{}}
	deltas, index, count := h.GetPositiveDelta(), 0, int64(0)
	for _, span := range h.GetPositiveSpan() {
		index += int(span.GetOffset())
		for range span.GetLength() {
			count += deltas[0]
			n.counts[index] = count
			deltas = deltas[1:]
			index++
		}
	}
	return n, nil
}

// between is what was added from one scrape to a later one.
func between(before, after *dto.Histogram) (histogram, error) {
	a, err := nativeHistogram(before)
	if err != nil {
		return a, err
	}
	b, err := nativeHistogram(after)
	if err != nil {
		return b, err
	}
	if a.base != b.base {
		return b, wrongf("the histogram has changed its resolution; the latencies lie too far apart")
	}
	b.zero -= a.zero
	for index, count := range a.counts {
		b.counts[index] -= count
	}
	return b, nil
}

func (h histogram) total() uint64 {
	total := h.zero
	for _, count := range h.counts {
		total += uint64(count)
	}
	return total
}

// quantile is the upper bound of the bucket in which it lies.
func (h histogram) quantile(q float64) float64 {
	rank := max(1, uint64(math.Ceil(q*float64(h.total()))))
	indexes := make([]int, 0, len(h.counts))
	for index := range h.counts {
		indexes = append(indexes, index)
	}
	slices.Sort(indexes)
	seen := h.zero
	if seen >= rank {
		return 0
	}
	for _, index := range indexes {
		if seen += uint64(h.counts[index]); seen >= rank {
			return math.Pow(h.base, float64(index))
		}
	}
	return math.Inf(1)
}
