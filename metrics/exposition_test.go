package metrics_test

import (
	"flag"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// expose returns what a scrape gets. Any goroutine may call it.
func expose(t *testing.T, from prometheus.Gatherer) string {
	t.Helper()
	answer := httptest.NewRecorder()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", http.NoBody)
	promhttp.HandlerFor(from, promhttp.HandlerOpts{}).ServeHTTP(answer, request)
	if answer.Code != http.StatusOK {
		t.Errorf("the scrape failed: %d %s", answer.Code, answer.Body)
		return ""
	}
	return answer.Body.String()
}

// series returns the values of a scrape by name and labels.
func series(t *testing.T, from prometheus.Gatherer) map[string]float64 {
	t.Helper()
	all := map[string]float64{}
	for line := range strings.Lines(expose(t, from)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		end := strings.LastIndexByte(line, ' ')
		value, err := strconv.ParseFloat(strings.TrimSpace(line[end:]), 64)
		if err != nil {
			t.Errorf("the line %q: %v", line, err)
		}
		all[line[:end]] = value
	}
	return all
}

// named returns those series whose name begins with prefix.
func named(all map[string]float64, prefix string) map[string]float64 {
	some := maps.Clone(all)
	maps.DeleteFunc(some, func(name string, _ float64) bool { return !strings.HasPrefix(name, prefix) })
	return some
}

var (
	goVersion = regexp.MustCompile(`goversion="[^"]*"`)
	duration  = regexp.MustCompile(`(?m)^(compliance_state_collect_duration_seconds) .*$`)
)

// golden compares what a scrape gets with a file, but for what differs from run to
// run.
func golden(t *testing.T, name string, from prometheus.Gatherer) {
	t.Helper()
	got := goVersion.ReplaceAllString(expose(t, from), `goversion="GOVERSION"`)
	got = duration.ReplaceAllString(got, "$1 DURATION")
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("the exposition differs from %s; is that meant? Then run with -update (-want +got):\n%s", path, diff)
	}
}

// lint applies Prometheus's own rules for names and help texts.
func lint(t *testing.T, from prometheus.Gatherer) {
	t.Helper()
	problems, err := testutil.GatherAndLint(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
}
