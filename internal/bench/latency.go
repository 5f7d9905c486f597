package main

import (
	"context"
	"errors"
	"math"
	"slices"
	"time"

	dto "github.com/prometheus/client_model/go"
)

const latencyName = "compliance_report_latency_seconds"

// quantiles are those of one run, in seconds.
type quantiles struct {
	reports             int
	p50, p99, p999, max float64
	// width is by how much a value is too great at most, as a share of it.
	width float64
}

// latency publishes at the fixed rate while the worker runs, first a while that does
// not count, then as often as the settings say for a share of the time.
func (o *session) latency(ctx context.Context) ([]quantiles, error) {
	s := o.settings
	if err := o.worker.Start(ctx); err != nil {
		return nil, err
	}
	each := max(1, int(int64(s.Rate)*int64(s.For)/int64(time.Second))/s.Count)
	total, err := o.publishAndWait(ctx, max(1, min(each, s.Rate)))
	if err != nil {
		return nil, err
	}
	metrics, err := o.outcomes(ctx, total)
	if err != nil {
		return nil, err
	}
	var runs []quantiles
	for range s.Count {
		timed, err := o.publishAndWait(ctx, each)
		if err != nil {
			return nil, err
		}
		total = total.plus(timed)
		before := metrics.histogram(latencyName)
		if metrics, err = o.outcomes(ctx, total); err != nil {
			return nil, err
		}
		h, err := between(before, metrics.histogram(latencyName))
		if err != nil {
			return nil, err
		}
		if got := h.total(); got != uint64(timed.applied()) {
			return nil, wrongf("the worker measured the latency of %d reports, not of %d", got, timed.applied())
		}
		runs = append(runs, quantiles{
			reports: timed.applied(), p50: h.quantile(.5), p99: h.quantile(.99), p999: h.quantile(.999), max: h.quantile(1), width: h.base - 1,
		})
	}
	return runs, errors.Join(o.checkState(ctx, o.expected), o.worker.Stop())
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
