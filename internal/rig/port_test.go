package rig

import (
	"net"
	"os"
	"strconv"
	"testing"
)

func TestAPortIsNoneOfThoseOfConnections(t *testing.T) {
	text, err := os.ReadFile(portRange)
	if err != nil {
		t.Skip(err)
	}
	limit := firstOf(string(text))
	if limit <= firstPort {
		t.Skipf("connections begin at port %d", limit)
	}
	for range 50 {
		address, err := freeAddress(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, text, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatal(err)
		}
		if port, err := strconv.Atoi(text); err != nil || port < firstPort || port >= limit {
			t.Errorf("%v: port %d is not from %d to below %d", err, port, firstPort, limit)
		}
	}
}

func TestARangeThatCannotBeReadIsNone(t *testing.T) {
	for text, want := range map[string]int{"32768\t60999\n": 32768, "": 0, "x": 0, "1": 0} {
		if first := firstOf(text); first != want {
			t.Errorf("%q: %d, want %d", text, first, want)
		}
	}
	if address, err := listenOnce(t.Context(), 0); err != nil || address == "" {
		t.Errorf("any port: %q, %v", address, err)
	}
}
