package graph

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/url"
)

// place is where in a list the next page begins, and how many records the list had at its
// begin, where that was asked for.
type place struct {
	cursor string
	count  int
}

// macSize is how much of the MAC a link has, in bytes.
const macSize = 16

// link returns a place as an opaque text that only this service makes: it is bound to the
// list, so it fits no other one, and cannot be changed.
func (h *handler) link(policy string, q *options, at place) string {
	text := binary.AppendUvarint(make([]byte, macSize), uint64(at.count))
	text = append(text, at.cursor...)
	copy(text, h.mac(policy, q, text[macSize:]))
	return base64.RawURLEncoding.EncodeToString(text)
}

// follow reads the link of a request.
func (h *handler) follow(policy string, q *options) (place, *problem) {
	text, err := base64.RawURLEncoding.Strict().DecodeString(q.skipToken)
	if err != nil || len(text) < macSize || !hmac.Equal(text[:macSize], h.mac(policy, q, text[macSize:])) {
		return place{}, expiredLink()
	}
	count, n := binary.Uvarint(text[macSize:])
	if n <= 0 {
		return place{}, expiredLink()
	}
	return place{cursor: string(text[macSize+n:]), count: int(count)}, nil //nolint:gosec // It was an int.
}

// mac returns the first bytes of the MAC of a place in a list.
func (h *handler) mac(policy string, q *options, place []byte) []byte {
	m := hmac.New(sha256.New, h.LinkKey)
	// Encoded as a query, no two lists have the same text, and no byte 0 is in it.
	m.Write([]byte(policy + "?" + q.encode(url.Values{}) + "\x00"))
	m.Write(place)
	return m.Sum(nil)[:macSize]
}

func expiredLink() *problem {
	return badRequest(codeInvalidQuery, string(optionSkipToken),
		"the $skiptoken is not one of this list: follow @odata.nextLink as it is, or read the list from its begin")
}
