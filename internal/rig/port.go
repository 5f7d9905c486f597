package rig

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
)

// Ports are chosen from firstPort up to where those begin that the kernel gives to connections: one of these is lost
// to a connection while its server is down.
const (
	firstPort = 10_000
	// portRange is where Linux says which ports it gives away; see ip(7).
	portRange = "/proc/sys/net/ipv4/ip_local_port_range"
	// tries is how many ports are tried. Nearly all are free.
	tries = 100
)

// freeAddress returns an address on loopback at which nobody listens. Where there are no ports but those of
// connections it is one of them.
func freeAddress(ctx context.Context) (string, error) {
	text, _ := os.ReadFile(portRange)
	limit := firstOf(string(text))
	for range tries {
		if limit <= firstPort {
			break
		}
		port := firstPort + rand.IntN(limit-firstPort)
		if address, err := listenOnce(ctx, port); err == nil {
			return address, nil
		}
	}
	return listenOnce(ctx, 0)
}

// firstOf reads the first port that the kernel gives to connections, 0 where the text does not say.
func firstOf(text string) int {
	var first, last int
	if n, err := fmt.Sscan(text, &first, &last); n != 2 || err != nil {
		return 0
	}
	return first
}

// listenOnce returns the address of a port at which one can listen. 0 is any.
func listenOnce(ctx context.Context, port int) (string, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}
