package embedded_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/complianced/complianced/internal/embedded"
)

// parentEnv makes this test binary start a Redis in the folder that it names, print it, and wait to be killed.
const parentEnv = "EMBEDDED_TEST_PARENT"

func TestMain(m *testing.M) {
	if dir := os.Getenv(parentEnv); dir != "" {
		os.Exit(parent(dir))
	}
	goleak.VerifyTestMain(m)
}

func parent(dir string) int {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r, err := embedded.StartRedis(ctx, embedded.RedisOptions{DataDir: dir})
	if err != nil {
		fmt.Println("error:", err)
		return 1
	}
	fmt.Println(r.PID())
	<-ctx.Done() // The test kills this process long before.
	return 1
}

// eventually polls a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	limit := time.NewTimer(20 * time.Second)
	defer limit.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-limit.C:
			t.Fatalf("after 20 s still not: %s", what)
		case <-tick.C:
		}
	}
}
