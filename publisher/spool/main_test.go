package spool_test

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

var full = flag.Bool("full", false, "the full form: NATS is away for 20 s, and 3,000 damaged files are opened")

// role says, in the environment, that the binary of the tests is another program.
const role = "SPOOL_TEST_ROLE"

func TestMain(m *testing.M) {
	program := map[string]func() error{"agent": agent, "nats": natsProcess}[os.Getenv(role)]
	if program == nil {
		goleak.VerifyTestMain(m)
		return
	}
	if err := program(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
