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

// latencyRun is one run of the worker and of the bare work.
type latencyRun struct {
	reports      int
	system, bare Quantiles
	// width is by how much a value of the system is too great at most, as a share of it.
	width float64
	// rate and bareRate are how many reports a second were published.
	rate, bareRate float64
}

// latency publishes at the fixed rate while the bare work runs, and then while the
// worker runs; each time first a while that does not count, then as often as the
// settings say for a share of the time.
func (o *session) latency(ctx context.Context) ([]latencyRun, error) {
	s := o.settings
	each := max(1, int(int64(s.Rate)*int64(s.For)/int64(time.Second))/s.Count)
	warm := max(1, min(each, s.Rate))
	total, err := o.liveBare(ctx, warm, &latencyRun{})
	if err != nil {
		return nil, err
	}
	runs := make([]latencyRun, s.Count)
	for i := range runs {
		t, err := o.liveBare(ctx, each, &runs[i])
		if err != nil {
			return nil, err
		}
		total = total.plus(t)
	}
	if err := o.worker.Start(ctx); err != nil {
		return nil, err
	}
	err = o.watched(ctx, func(context.Context) error { return nil }, func(ctx context.Context) error { return o.liveWorker(ctx, total, warm, each, runs) })
	if err != nil {
		return nil, err
	}
	return runs, errors.Join(o.checkState(ctx, o.expected), o.worker.Stop())
}

// liveBare measures the bare work once.
func (o *session) liveBare(ctx context.Context, n int, run *latencyRun) (t sent, err error) {
	if err := errors.Join(o.bareWork.prepare(BareTask{From: o.made, Reports: n, Live: true}), o.bareWork.ready()); err != nil {
		return t, err
	}
	var start BareStart
	for _, end := range o.goal.ends {
		start.First = append(start.First, end+1)
	}
	result, err := o.bareWork.live(start, func() error {
		t, err = o.publish(ctx, n, o.settings.Rate)
		return err
	})
	if err != nil {
		return t, err
	}
	if result.Read != n || result.Written != n {
		return t, wrongf("the bare work read %d and wrote %d, not %d", result.Read, result.Written, n)
	}
	run.bare = result.Latency
	run.bareRate, err = o.settings.kept(t)
	return t, err
}

// liveWorker measures the worker as often as there are runs, after it merged the
// reports that wait and some more.
func (o *session) liveWorker(ctx context.Context, total sent, warm, each int, runs []latencyRun) error {
	t, err := o.publishAndWait(ctx, warm)
	if err != nil {
		return err
	}
	total = total.plus(t)
	metrics, err := o.outcomes(ctx, total)
	if err != nil {
		return err
	}
	for i := range runs {
		run := &runs[i]
		t, err := o.publishAndWait(ctx, each)
		if err != nil {
			return err
		}
		if run.rate, err = o.settings.kept(t); err != nil {
			return err
		}
		total = total.plus(t)
		before := metrics.histogram(latencyName)
		if metrics, err = o.outcomes(ctx, total); err != nil {
			return err
		}
		h, err := between(before, metrics.histogram(latencyName))
		if err != nil {
			return err
		}
		if got := h.total(); got != uint64(t.applied()) {
			return wrongf("the worker measured the latency of %d reports, not of %d", got, t.applied())
		}
		run.reports, run.width = t.applied(), h.base-1
		run.system = Quantiles{h.quantile(.5), h.quantile(.99), h.quantile(.999), h.quantile(1)}
	}
	return nil
}

// kept returns the rate of a publishing, which is wrong where it was too low. The
// first report has no pause before it.
func (s Settings) kept(t sent) (float64, error) {
	rate := float64(t.reports) / (t.took.Seconds() + 1/float64(s.Rate))
	if rate < s.RateKept*float64(s.Rate) {
		return rate, wrongf("%.0f reports a second were published, not %d; the machine has too much else to do, or --rate is too high for it", rate, s.Rate)
	}
	return rate, nil
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
