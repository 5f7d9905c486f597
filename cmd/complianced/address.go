package main

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// parseAddress reads an address as the NATS client does: without a scheme it is
// one of nats://. A part before @ that is not understood is an error, because it
// may hold a password.
func parseAddress(text string) (*url.URL, error) {
	text = strings.TrimSpace(text)
	if !strings.Contains(text, "://") {
		text = "nats://" + text
	}
	u, err := url.Parse(text)
	if err == nil && u.User == nil && strings.Contains(text, "@") {
		err = fmt.Errorf("user and password are unreadable")
	}
	return u, err
}

// addressesIn splits a list of NATS addresses as the NATS client does.
func addressesIn(servers string) []string {
	var list []string
	for text := range strings.SplitSeq(servers, ",") {
		if text = strings.TrimSpace(text); text != "" {
			list = append(list, text)
		}
	}
	return list
}

// withoutPassword returns NATS addresses fit for a log.
func withoutPassword(servers string) string {
	list := addressesIn(servers)
	for i, text := range list {
		if u, err := parseAddress(text); err == nil {
			list[i] = u.Scheme + "://" + u.Host
		} else {
			list[i] = "(unreadable address)"
		}
	}
	return strings.Join(list, ",")
}

// holdsPassword says whether an address holds a password or a token. In doubt it
// does.
func holdsPassword(addresses []string) bool {
	return slices.ContainsFunc(addresses, func(text string) bool {
		u, err := parseAddress(text)
		if err != nil || u.User == nil {
			return strings.Contains(text, "@")
		}
		_, has := u.User.Password()
		user := slices.Contains([]string{"redis", "rediss", "unix"}, u.Scheme) // With NATS it is a token.
		return has || !user
	})
}

// checkAddresses checks NATS addresses before a client does, which would show a
// wrong one as it is, with its password.
func checkAddresses(servers string) error {
	list := addressesIn(servers)
	if len(list) == 0 {
		return fmt.Errorf("there is no address in it")
	}
	web := 0
	for i, text := range list {
		u, err := parseAddress(text)
		if err != nil || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme) || u.Hostname() == "" || !isPort(u.Port()) {
			return fmt.Errorf("address %d of %d is not host:port, nats://host:port or one of tls://, ws://, wss:// "+
				"(special characters of a password are percent-encoded)", i+1, len(list))
		}
		if strings.HasPrefix(u.Scheme, "ws") {
			web++
		}
	}
	if web != 0 && web != len(list) {
		return fmt.Errorf("ws:// and wss:// do not go with other addresses")
	}
	return nil
}

func isPort(text string) bool {
	if text == "" {
		return true
	}
	_, err := strconv.ParseUint(text, 10, 16)
	return err == nil
}
