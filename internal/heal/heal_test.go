package heal_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/complianced/complianced/internal/rig"
)

var full = flag.Bool("full", false, "the full form: more reports a second, several harms a case, 50,000 reports in two orders")

var orderSeed = flag.Uint64("order-seed", 0, "seed of the second of two orders; 0 draws one, which is logged")

// form is how much each case does.
type form struct {
	// cuts is how often the append-only file is cut. More than one on one file also shows
	// what Redis makes of a transaction that a cut left without its EXEC.
	cuts int
	// rate is the reports a second, devices how many make them.
	rate    int
	devices int
	// harms is how often a case does harm.
	harms int
	// seconds is how long load runs before each harm.
	seconds float64
	// snapshot is how many seconds a snapshot is old that is put back.
	snapshot float64
	// ordered is how many reports come in two orders.
	ordered int
	// atOnce is how many cases run at the same time.
	atOnce int
}

var (
	short    = form{rate: 500, devices: 1_500, harms: 1, cuts: 1, seconds: 1.5, snapshot: 2, ordered: 5_000, atOnce: 2}
	complete = form{rate: 2_000, devices: 5_000, harms: 3, cuts: 9, seconds: 4, snapshot: 10, ordered: 50_000, atOnce: 1}
)

// programs are built once, length and turns set, before the first test.
var (
	programs rig.Programs
	length   form
	turns    chan struct{}
)

func TestMain(m *testing.M) {
	flag.Parse()
	length = short
	if *full {
		length = complete
	}
	turns = make(chan struct{}, length.atOnce)
	redis.SetLogger(silent{})
	code, err := buildAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func buildAndRun(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "heal")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if programs, err = rig.Build(context.Background(), dir); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// silent keeps the driver from telling that Redis is away, as it is meant to be.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// inTurn lets a test run beside others, but not beside too many.
func inTurn(t *testing.T) {
	t.Helper()
	t.Parallel()
	turns <- struct{}{}
	t.Cleanup(func() { <-turns })
}

// limit is how long anything may take. It is no promise: it ends a test that would
// never end.
const limit = time.Minute

// eventually waits for a condition and returns how long it took.
func eventually(t *testing.T, what string, ok func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Since(began) > limit {
			t.Fatalf("never came: %s", what)
		}
		<-tick.C
	}
	return time.Since(began)
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func itoa(n int) string { return strconv.Itoa(n) }
