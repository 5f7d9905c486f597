package main_test

import (
	"strings"
	"testing"

	complianced "github.com/complianced/complianced/cmd/complianced"
)

func TestAnAddressShowsNoPassword(t *testing.T) {
	for servers, want := range map[string]string{
		"nats://127.0.0.1:4222":              "nats://127.0.0.1:4222",
		"127.0.0.1:4222":                     "nats://127.0.0.1:4222",
		"nats://admin:secret@127.0.0.1:4222": "nats://127.0.0.1:4222",
		"admin:secret@127.0.0.1:1":           "nats://127.0.0.1:1",
		"secret@127.0.0.1":                   "nats://127.0.0.1",
		"tls://secret@nats":                  "tls://nats",
		"ws://admin:secret@nats:80":          "ws://nats:80",
		"wss://admin:secret@nats/secret":     "wss://nats",
		"nats://admin:secret@[::1]:4222":     "nats://[::1]:4222",
		"admin:secret@[::1]":                 "nats://[::1]",
		"a:1, admin:secret@b:2 ,c:secret@c":  "nats://a:1,nats://b:2,nats://c",
		"nats://admin:se/cret@nats:4222":     "(unreadable address)",
		"nats://secret/secret@nats":          "(unreadable address)",
		"nats://sec#ret@nats":                "(unreadable address)",
		"nats://admin:secret@nats:port":      "(unreadable address)",
		"":                                   "",
	} {
		if have := complianced.WithoutPassword(servers); have != want {
			t.Errorf("%s: want %s, have %s", servers, want, have)
		}
	}
}

func TestAPasswordInAnAddressIsFound(t *testing.T) {
	for address, want := range map[string]bool{
		"nats://127.0.0.1:4222":               false,
		"127.0.0.1:4222":                      false,
		"nats://[::1]:4222":                   false,
		"redis://127.0.0.1:6379":              false,
		"redis://user@127.0.0.1:6379":         false, // A name alone is no secret to Redis.
		"unix:///run/redis.sock":              false,
		"admin:secret@127.0.0.1:1":            true,
		" nats://admin:secret@127.0.0.1:1":    true,
		"nats://token@127.0.0.1:1":            true,
		"token@127.0.0.1":                     true,
		"tls://token@nats":                    true,
		"ws://token@nats":                     true,
		"wss://admin:secret@nats":             true,
		"nats://admin:secret@[::1]":           true,
		"nats://admin:se/cret@nats":           true,
		"nats://to#ken@nats":                  true,
		"redis://:secret@127.0.0.1:6379":      true,
		"rediss://user:secret@127.0.0.1:6379": true,
		"unix://user:secret@/run/redis.sock":  true,
		"redis://:se/cret@127.0.0.1:6379":     true,
		"redis://user:secret@[::1]:6379?db=1": true,
		"user:secret@127.0.0.1:6379":          true,
	} {
		if have := complianced.HoldsPassword([]string{"127.0.0.1:1", address}); have != want {
			t.Errorf("%s: want %t, have %t", address, want, have)
		}
	}
}

func TestAWrongNATSAddressIsNamedByItsPlace(t *testing.T) {
	for servers, say := range map[string]string{
		"nats://a:1,tls://u:p@b,c:2, d": "",
		"ws://a:1,wss://b":              "",
		"nats://secret:xx":              "address 1 of 1",
		"a,nats://u:se/cret@b:4222":     "address 2 of 2",
		"a,http://secret":               "address 2 of 2",
		"nats://":                       "address 1 of 1",
		"secret:65536":                  "address 1 of 1",
		"ws://secret,nats://a":          "do not go with",
		" , ":                           "no address",
	} {
		err := complianced.CheckAddresses(servers)
		switch {
		case say == "" && err == nil:
		case say == "" || err == nil:
			t.Errorf("%s: %v", servers, err)
		case !strings.Contains(err.Error(), say) || strings.Contains(err.Error(), "cret"):
			t.Errorf("%s: %v", servers, err)
		}
	}
}
