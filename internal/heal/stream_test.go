package heal_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/complianced/complianced/internal/oracle"
	"github.com/complianced/complianced/internal/rig"
)

// buckets is how many there are by default.
const buckets = 16

func floorKey(bucket int) string { return fmt.Sprintf("cs:{%02x}:|floor", bucket) }

func TestTheStreamIsMadeAnew(t *testing.T) {
	inTurn(t)
	d := deploy(t, appendOnly...)
	d.report()
	for range length.harms {
		d.run(length.seconds)
		d.pause()
		d.noticed("stream_recreated", d.makeAnew)
		d.run(length.seconds / 2)
	}
	d.judge(oracle.Config{})
}

// makeAnew deletes the stream, provisions it again, and lets the load go on. The
// server removes the files of a deleted stream in its own time.
func (d *deployment) makeAnew() {
	d.Helper()
	must(d.T, d.js.DeleteStream(d.Context(), streamName))
	eventually(d.T, "the stream's files gone", func() bool {
		files, err := filepath.Glob(filepath.Join(filepath.Dir(d.streamDir()), "*"+streamName))
		return err == nil && len(files) == 0
	})
	_, err := d.worker.Command(d.Context(), "provision", "--max-age", "0")
	must(d.T, err, d.load.Resume())
}

func (d *deployment) streamDir() string {
	return filepath.Join(d.nats.StoreDir(), "$G", "streams", streamName)
}

func TestAnOlderCopyOfTheStreamIsPutBack(t *testing.T) {
	inTurn(t)
	d := deploy(t, appendOnly...)
	d.report()
	for range length.harms {
		d.run(length.seconds / 2)
		older := filepath.Join(t.TempDir(), "older")
		must(t, d.nats.Stop(), os.CopyFS(older, os.DirFS(d.streamDir())), d.nats.Start(t.Context()))
		d.run(length.seconds)
		d.pause()
		d.noticed("stream_rolled_back", func() {
			must(t, d.nats.Stop(), os.RemoveAll(d.streamDir()), os.CopyFS(d.streamDir(), os.DirFS(older)),
				d.nats.Start(t.Context()), d.load.Resume())
		})
		// Longer than before, so that sequences come again with other messages.
		d.run(1.5 * length.seconds)
	}
	d.judge(oracle.Config{})
}

func TestAStreamLosesItsBeginning(t *testing.T) {
	inTurn(t)
	d := deploy(t, appendOnly...)
	d.report()
	d.run(length.seconds)
	must(t, d.worker.Stop())
	d.run(length.seconds)
	must(t, d.load.Pause())
	gaps, lost := d.loseBeginning()
	must(t, d.load.Resume(), d.worker.Start(t.Context()))
	d.run(length.seconds / 2)
	d.wantGap(lost)
	must(t, d.worker.Kill(), d.worker.Start(t.Context()))
	config := oracle.Config{InSequence: true, Gaps: gaps}
	state := d.judge(config)
	d.wantGap(lost)
	out, err := d.worker.Command(t.Context(), "provision", "--accept-gap")
	if err != nil || !strings.HasPrefix(out, strconv.FormatUint(lost, 10)+" reports") {
		t.Errorf("%v: %q", err, out)
	}
	must(t, d.worker.Kill(), d.worker.Start(t.Context()))
	d.wantGap(0)
	d.settle()
	state.Config.Gaps = nil // What is lost stays lost, and is no gap any more.
	d.compareRedis(state)
}

// loseBeginning takes from the stream all but its last 100 messages, while nobody
// merges or reports. It returns what each bucket will miss, and how many reports
// that are.
func (d *deployment) loseBeginning() ([]oracle.Gap, uint64) {
	d.Helper()
	ctx := d.Context()
	must(d.T, d.copy.CatchUp(ctx))
	stream, err := d.js.Stream(ctx, streamName)
	must(d.T, err)
	config := stream.CachedInfo().Config
	limited := config
	limited.MaxMsgs = 100
	_, err = d.js.UpdateStream(ctx, limited)
	must(d.T, err)
	_, err = d.js.UpdateStream(ctx, config)
	must(d.T, err)
	info, err := stream.Info(ctx)
	must(d.T, err)
	last := info.State.FirstSeq - 1
	floors, ok := d.floors()
	if !ok {
		d.Fatal("no floors")
	}
	var gaps []oracle.Gap
	lowest := last
	for bucket := range buckets {
		floor, err := strconv.ParseUint(strings.Fields(floors[floorKey(bucket)].Text)[2], 10, 64)
		must(d.T, err)
		gaps = append(gaps, oracle.Gap{Stream: streamName, First: floor + 1, Last: last, Buckets: []int{bucket}})
		lowest = min(lowest, floor)
	}
	if lowest == last {
		d.Fatal("there is no gap")
	}
	return gaps, last - lowest
}

// wantGap waits until the metrics and /readyz of the worker tell of so many lost
// reports.
func (d *deployment) wantGap(reports uint64) {
	d.Helper()
	eventually(d.T, fmt.Sprintf("an alarm of %d lost reports", reports), func() bool {
		counted, ok := d.counter(d.worker, `compliance_stream_gap_reports{partition="0"}`)
		return ok && counted == float64(reports) && d.warns(d.worker) == (reports > 0)
	})
}

// warns tells whether /readyz is ready with a warning of a gap.
func (d *deployment) warns(w *rig.Worker) bool {
	status, body, err := w.Get(d.Context(), "/readyz")
	return err == nil && status == http.StatusOK && strings.Contains(body, "--accept-gap")
}
