package oracle

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth is how deep a text may nest, its outermost object or array included.
const maxDepth = 16

// The kinds of a JSON value.
type jsonKind int

const (
	jsonNull jsonKind = iota
	jsonFalse
	jsonTrue
	jsonNumber
	jsonString
	jsonArray
	jsonObject
)

// node is a JSON value: the whole text is read into a tree before anything in it
// is judged.
type node struct {
	kind jsonKind
	// text is that of a string, unescaped, or of a number, as written.
	text string
	// names are those of an object's members, in order and with repetitions;
	// values are those of an object or an array.
	names  []string
	values []node
}

// member returns the first member of a name, null where there is none.
func (n node) member(name string) node {
	for i, have := range n.names {
		if have == name {
			return n.values[i]
		}
	}
	return node{}
}

// repeated returns the names that come again in their objects, at any depth, in
// the order of their places.
func (n node) repeated() []string {
	var found []string
	for i, value := range n.values {
		if n.kind == jsonObject && n.comesAgain(i) {
			found = append(found, n.names[i])
		}
		found = append(found, value.repeated()...)
	}
	return found
}

// comesAgain reports whether the name of a member was there before it.
func (n node) comesAgain(i int) bool {
	return slices.Contains(n.names[:i], n.names[i])
}

// parseJSON reads one JSON text (RFC 8259) in valid UTF-8. It is false for
// everything that is not exactly one, and for what nests too deep.
func parseJSON(text []byte) (node, bool) {
	if !utf8.Valid(text) {
		return node{}, false
	}
	s := scanner{text: string(text)}
	value := s.value(1)
	s.space()
	return value, !s.bad && s.at == len(s.text)
}

// scanner reads a text from front to back. Once bad, it stays so.
type scanner struct {
	text string
	at   int
	bad  bool
}

func (s *scanner) space() {
	for s.at < len(s.text) && strings.IndexByte(" \t\r\n", s.text[s.at]) >= 0 {
		s.at++
	}
}

// took steps over a token where it comes next.
func (s *scanner) took(token string) bool {
	if s.bad || !strings.HasPrefix(s.text[s.at:], token) {
		return false
	}
	s.at += len(token)
	return true
}

func (s *scanner) need(token string) {
	if !s.took(token) {
		s.bad = true
	}
}

func (s *scanner) value(depth int) node {
	s.space()
	switch {
	case s.took("{"):
		return s.object(depth)
	case s.took("["):
		return s.array(depth)
	case s.took(`"`):
		return node{kind: jsonString, text: s.str()}
	case s.took("null"):
		return node{}
	case s.took("true"):
		return node{kind: jsonTrue}
	case s.took("false"):
		return node{kind: jsonFalse}
	}
	return s.number()
}

var number = regexp.MustCompile(`^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?`)

func (s *scanner) number() node {
	text := number.FindString(s.text[s.at:])
	if text == "" {
		s.bad = true
	}
	s.at += len(text)
	return node{kind: jsonNumber, text: text}
}

func (s *scanner) object(depth int) node {
	n := node{kind: jsonObject}
	s.items(depth, "}", func() {
		s.need(`"`)
		name := s.str()
		s.space()
		s.need(":")
		n.names = append(n.names, name)
		n.values = append(n.values, s.value(depth+1))
	})
	return n
}

func (s *scanner) array(depth int) node {
	n := node{kind: jsonArray}
	s.items(depth, "]", func() { n.values = append(n.values, s.value(depth+1)) })
	return n
}

// items reads what stands between an opening token and its closing one.
func (s *scanner) items(depth int, closing string, item func()) {
	s.bad = s.bad || depth > maxDepth
	s.space()
	if s.bad || s.took(closing) {
		return
	}
	for {
		s.space()
		item()
		s.space()
		if s.bad || s.took(closing) {
			return
		}
		s.need(",")
	}
}

// str reads a string up to and with its closing quotation mark.
func (s *scanner) str() string {
	var b strings.Builder
	for !s.bad && s.at < len(s.text) {
		c := s.text[s.at]
		s.at++
		switch {
		case c == '"':
			return b.String()
		case c == '\\':
			b.WriteRune(s.escape())
		case c < 0x20:
			s.bad = true
		default:
			b.WriteByte(c)
		}
	}
	s.bad = true
	return ""
}

// escape reads what follows a backslash.
func (s *scanner) escape() rune {
	if s.at == len(s.text) {
		s.bad = true
		return 0
	}
	c := s.text[s.at]
	s.at++
	if i := strings.IndexByte(`"\/bfnrt`, c); i >= 0 {
		return rune("\"\\/\b\f\n\r\t"[i])
	}
	if c != 'u' {
		s.bad = true
		return 0
	}
	r := s.unit()
	if !utf16.IsSurrogate(r) {
		return r
	}
	s.need(`\u`)
	r = utf16.DecodeRune(r, s.unit())
	s.bad = s.bad || r == utf8.RuneError // A pair never makes U+FFFD: it lies below 10000.
	return r
}

// unit reads four hexadecimal digits.
func (s *scanner) unit() rune {
	if s.bad || s.at+4 > len(s.text) || strings.Trim(s.text[s.at:s.at+4], "0123456789abcdefABCDEF") != "" {
		s.bad = true
		return 0
	}
	v, _ := strconv.ParseUint(s.text[s.at:s.at+4], 16, 16)
	s.at += 4
	return rune(v)
}
