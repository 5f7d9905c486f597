package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/complianced/complianced/internal/rig"
)

// scraped are the metrics of a worker, by name.
type scraped map[string]*dto.MetricFamily

// scrape reads /metrics as protobuf, which alone holds the native histograms.
func scrape(ctx context.Context, w *rig.Worker) (scraped, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.Metrics+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	format := expfmt.NewFormat(expfmt.TypeProtoDelim)
	request.Header.Set("Accept", string(format))
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close() //nolint:errcheck // It was only read.
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("scrape: status %d", response.StatusCode)
	}
	families := scraped{}
	for decoder := expfmt.NewDecoder(response.Body, expfmt.ResponseFormat(response.Header)); ; {
		var family dto.MetricFamily
		err := decoder.Decode(&family)
		if errors.Is(err, io.EOF) {
			return families, nil
		}
		if err != nil {
			return nil, fmt.Errorf("scrape: %w", err)
		}
		families[family.GetName()] = &family
	}
}

// value returns a counter or gauge; of one with labels, that with this value of
// its only label.
func (s scraped) value(name, label string) float64 {
	for _, m := range s[name].GetMetric() {
		if label != "" && m.GetLabel()[0].GetValue() != label {
			continue
		}
		return m.GetCounter().GetValue() + m.GetGauge().GetValue()
	}
	return 0
}

// histogram returns the only histogram of this name.
func (s scraped) histogram(name string) *dto.Histogram {
	for _, m := range s[name].GetMetric() {
		return m.GetHistogram()
	}
	return nil
}
