package compliance

import (
	"bytes"
	"encoding/binary"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// plain reads the members of a payload that is as agents write it: one object of
// properties and @odata.type, none of them twice, whose values are strings without
// escapes, whole numbers or null. It is cheaper than the JSON reader, which
// is most of what decoding costs, and takes nothing that the JSON reader would not
// take in the same way: where anything is out of the ordinary it says false, and the
// payload is read from its beginning by the JSON reader. FuzzPlain holds the two
// together.
type plain struct {
	payload string
	at      int
	// control says that there are control characters; between the members they can be
	// white space.
	control bool
	// members are the properties and their values in the order of the payload.
	members [NumProperties]struct {
		property Property
		value    member
	}
	n int
}

// read reports whether the payload is plain. Whole is the payload as a string.
func (s *plain) read(payload []byte, whole string) bool {
	if !utf8.Valid(payload) || bytes.IndexByte(payload, '\\') >= 0 {
		return false
	}
	s.payload, s.control = whole, hasControl(payload)
	if !s.take('{') {
		return false
	}
	var seen PropertySet
	seenType := false
	var p Property
	for more := true; more; more = s.take(',') {
		name, ok := s.text()
		if !ok || !s.take(':') {
			return false
		}
		value, ok := s.value()
		if !ok {
			return false
		}
		var known bool
		p, known = propertyAfter(p, name.text())
		switch {
		case known && !seen.Has(p):
			seen = seen.With(p)
			s.members[s.n].property, s.members[s.n].value = p, value
			s.n++
		case !known && !seenType && name.text() == odataType && value.kind == '"' && value.text() == ODataType:
			seenType = true
		default:
			return false
		}
	}
	return s.take('}') && s.peek() == 0 && s.at == len(payload)
}

// hasControl reports whether there is a byte below 0x20, eight at a time: a byte is
// one where subtracting 0x20 borrows and its own highest bit is not set.
func hasControl(b []byte) bool {
	const low, high = 0x2020202020202020, 0x8080808080808080
	for ; len(b) >= 8; b = b[8:] {
		if v := binary.LittleEndian.Uint64(b); (v-low)&^v&high != 0 {
			return true
		}
	}
	for _, c := range b {
		if c < ' ' {
			return true
		}
	}
	return false
}

// peek skips white space and returns the byte after it; 0 at the end.
func (s *plain) peek() byte {
	for ; s.at < len(s.payload); s.at++ {
		switch c := s.payload[s.at]; c {
		case ' ', '\t', '\r', '\n':
		default:
			return c
		}
	}
	return 0
}

func (s *plain) take(c byte) bool {
	if s.peek() != c {
		return false
	}
	s.at++
	return true
}

// from returns the member that begins at a place and ends here.
func (s *plain) from(start int, kind jsontext.Kind) member {
	return member{kind: kind, raw: s.payload[start:s.at], offset: start}
}

// text reads a string. The payload has no escapes.
func (s *plain) text() (member, bool) {
	if !s.take('"') {
		return member{}, false
	}
	start := s.at - 1
	n := strings.IndexByte(s.payload[s.at:], '"')
	if n < 0 || s.control && hasControl([]byte(s.payload[s.at:s.at+n])) {
		return member{}, false
	}
	s.at += n + 1
	return s.from(start, '"'), true
}

// value reads a string, a number of up to ten digits, or null.
func (s *plain) value() (member, bool) {
	switch s.peek() {
	case '"':
		return s.text()
	case 'n':
		start := s.at
		if s.at += len("null"); s.at > len(s.payload) || s.payload[start:s.at] != "null" {
			return member{}, false
		}
		return s.from(start, 'n'), true
	}
	return s.number()
}

// number reads a whole number. What follows it is not looked at: there must be a
// comma or the end of the object.
func (s *plain) number() (member, bool) {
	const most = 10
	start := s.at
	if s.peek() == '-' {
		s.at++
	}
	first := s.at
	for s.at < len(s.payload) && '0' <= s.payload[s.at] && s.payload[s.at] <= '9' {
		s.at++
	}
	digits := s.at - first
	if digits == 0 || digits > most || digits > 1 && s.payload[first] == '0' {
		return member{}, false
	}
	return s.from(start, '0'), true
}
