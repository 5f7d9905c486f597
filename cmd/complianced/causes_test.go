package main_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/complianced/complianced/ingest"
	"github.com/complianced/complianced/metrics"
)

func TestMetricsKnowEveryCauseOfARewind(t *testing.T) {
	var causes []string
	for _, cause := range ingest.Causes() {
		causes = append(causes, string(cause))
	}
	if diff := cmp.Diff(causes, metrics.Causes()); diff != "" {
		t.Error(diff)
	}
}
