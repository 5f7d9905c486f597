package embedded

import (
	"crypto/rand"
	"fmt"
	"net/url"
	"sync"

	"github.com/alicebob/miniredis/v2"
)

// standIn is a miniredis in this process.
type standIn struct {
	server *miniredis.Miniredis
	done   chan struct{}
	once   sync.Once
}

func startStandIn() (*Redis, error) {
	password := rand.Text() // Loopback is open to every user of the host.
	server := miniredis.NewMiniRedis()
	server.RequireAuth(password)
	if err := server.StartAddr("127.0.0.1:0"); err != nil {
		return nil, fmt.Errorf("embedded Redis stand-in: %w", err)
	}
	s := &standIn{server: server, done: make(chan struct{})}
	address := url.URL{Scheme: "redis", User: url.UserPassword("", password), Host: server.Addr()}
	return &Redis{url: address.String(), done: s.done, server: s}, nil
}

// Err is always nil: a stand-in does not end by itself.
func (*standIn) Err() error { return nil }

// Close drops the data.
func (s *standIn) Close() error {
	s.once.Do(func() {
		s.server.Close()
		close(s.done)
	})
	return nil
}
