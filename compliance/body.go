package compliance

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// ODataType is the only value that the member @odata.type may have.
const ODataType = "#microsoft.graph.deviceComplianceDeviceStatus"

const (
	odataType     = "@odata.type"
	removedMember = "@removed"
)

// reader is a JSON decoder that reads a payload where it lies.
type reader struct {
	*jsontext.Decoder
	buffer bytes.Buffer
}

var readers = sync.Pool{New: func() any { return &reader{Decoder: jsontext.NewDecoder(new(bytes.Buffer))} }}

// reset makes the reader read a payload as strict UTF-8. Repeated names are let
// through, because they are violations with a place.
func (r *reader) reset(payload []byte) {
	r.buffer = *bytes.NewBuffer(payload)
	r.Reset(&r.buffer, jsontext.AllowDuplicateNames(true))
}

// member is a name or a value in the payload.
type member struct {
	kind jsontext.Kind
	// escaped says that a string has escapes.
	escaped bool
	// raw is the JSON text, a part of the payload.
	raw string
	// offset is its place in the payload.
	offset int
}

// text returns a JSON string unescaped. Where nothing is escaped it is a part of
// the payload, so that nothing is copied.
func (m member) text() string {
	if !m.escaped {
		return m.raw[1 : len(m.raw)-1]
	}
	text, err := jsontext.AppendUnquote(nil, m.raw)
	if err != nil {
		// The reader has checked the string.
		panic("compliance: a JSON string that cannot be unquoted: " + err.Error())
	}
	return string(text)
}

// body reads the payload and notes what it sets and what is wrong with it.
func (d *decoding) body(payload []byte) {
	b := bodyReader{decoding: d, payload: string(payload)}
	var p plain
	if !p.read(payload, b.payload) {
		b.all(payload)
		return
	}
	for i := range p.members[:p.n] {
		b.value(p.members[i].property, p.members[i].value)
	}
}

// all reads any payload.
func (b *bodyReader) all(payload []byte) {
	r, _ := readers.Get().(*reader)
	defer readers.Put(r)
	r.reset(payload)
	b.reader = r
	before := len(b.violations)
	if err := b.object(); err != nil {
		// Of a text that is no JSON no member counts.
		b.violations = b.violations[:before]
		b.hasReported, b.report.Removed = false, false
		b.malformed(r, err, len(payload))
	}
}

func (d *decoding) malformed(r *reader, err error, size int) {
	offset := int(r.InputOffset())
	reason := "it ends too early"
	syntax, isSyntax := errors.AsType[*jsontext.SyntacticError](err)
	switch {
	case errors.Is(err, errTrailing), errors.Is(err, errDepth):
		reason = err.Error()
	case isSyntax && !errors.Is(err, io.ErrUnexpectedEOF):
		offset = int(syntax.ByteOffset)
		reason = "wrong or no UTF-8 at byte " + strconv.Itoa(offset)
	}
	d.violate(MalformedJSON, "", min(offset, size), "the payload is not one JSON text in UTF-8: "+reason)
}

// bodyReader walks through one payload.
type bodyReader struct {
	*decoding
	*reader
	payload string
	// seen are the members that came already: the properties, @odata.type and
	// @removed as bits, all others by name.
	seen   uint16
	others map[string]struct{}
}

func (b *bodyReader) read() (member, error) {
	raw, err := b.ReadValue()
	if err != nil {
		return member{}, err
	}
	offset := int(b.InputOffset()) - len(raw)
	return member{
		kind:    raw.Kind(),
		escaped: bytes.IndexByte(raw, '\\') >= 0,
		raw:     b.payload[offset : offset+len(raw)],
		offset:  offset,
	}, nil
}

const (
	seenType    = NumProperties
	seenRemoved = NumProperties + 1
)

// What jsontext does not refuse by itself.
var (
	errTrailing = errors.New("something follows after its end")
	errDepth    = errors.New("it is nested deeper than 16")
)

// object reads the whole payload. The error says that it is not one JSON text.
func (b *bodyReader) object() error {
	if b.PeekKind() != '{' {
		offset, before := b.next(), len(b.violations)
		if err := b.skip(); err != nil {
			return err
		}
		b.violations = b.violations[:before] // No member is looked at.
		b.violate(TypeMismatch, "", offset, "the payload is not a JSON object")
		return b.end()
	}
	if _, err := b.ReadToken(); err != nil {
		return err
	}
	for b.PeekKind() != '}' {
		if err := b.member(); err != nil {
			return err
		}
	}
	if _, err := b.ReadToken(); err != nil {
		return err
	}
	return b.end()
}

// end checks that nothing follows.
func (b *bodyReader) end() error {
	if b.PeekKind() != jsontext.KindInvalid {
		return errTrailing
	}
	if _, err := b.ReadToken(); !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// member reads one name and its value. It returns only errors of the text.
func (b *bodyReader) member() error {
	m, err := b.read()
	if err != nil {
		return err
	}
	name := m.text()
	property, known := propertyOf(name)
	switch {
	case known:
		if b.again(int(property)) {
			return b.duplicate(name, m.offset)
		}
		return b.property(property)
	case name == odataType:
		if b.again(seenType) {
			return b.duplicate(name, m.offset)
		}
		return b.odataType()
	case name == removedMember:
		if b.again(seenRemoved) {
			return b.duplicate(name, m.offset)
		}
		return b.removed()
	}
	if _, again := b.others[name]; again {
		return b.duplicate(name, m.offset)
	}
	if b.others == nil {
		b.others = map[string]struct{}{}
	}
	b.others[name] = struct{}{}
	if !strings.Contains(name, "@") {
		b.unknown(name, m.offset)
	}
	return b.skip()
}

func (b *bodyReader) again(bit int) bool {
	again := b.seen&(1<<bit) != 0
	b.seen |= 1 << bit
	return again
}

func (b *bodyReader) duplicate(name string, offset int) error {
	b.violate(DuplicateProperty, printable(name, maxEchoLength), offset, "the member is there twice")
	return b.skip()
}

func (b *bodyReader) unknown(name string, offset int) {
	message := "no property of deviceComplianceDeviceStatus has this name"
	if len(b.violations) < maxDetails { // Finding the nearest name is dear, and only so many are shown.
		message += "; the nearest is " + nearest(name, propertyNames[:])
	}
	b.violate(UnknownProperty, printable(name, maxEchoLength), offset, message)
}

// skip passes over a value, of which only repeated names count.
func (b *bodyReader) skip() error {
	if kind := b.PeekKind(); kind != '{' && kind != '[' {
		return b.SkipValue()
	}
	outside := b.StackDepth()
	var names []map[string]struct{} // of each open object; nil for an array
	for {
		depth := b.StackDepth()
		kind, n := b.StackIndex(depth)
		if depth > outside && kind == '{' && n%2 == 0 && b.PeekKind() == '"' {
			m, err := b.read()
			if err != nil {
				return err
			}
			name := m.text()
			open := names[len(names)-1]
			if _, again := open[name]; again {
				b.violate(DuplicateProperty, printable(name, maxEchoLength), m.offset, "the member is there twice")
			}
			open[name] = struct{}{}
			continue
		}
		token, err := b.ReadToken()
		if err != nil {
			return err
		}
		switch token.Kind() {
		case '{':
			names = append(names, map[string]struct{}{})
		case '[':
			names = append(names, nil)
		case '}', ']':
			names = names[:len(names)-1]
		}
		if b.StackDepth() > MaxDepth {
			return errDepth
		}
		if len(names) == 0 {
			return nil
		}
	}
}

// odataType checks the member @odata.type.
func (b *bodyReader) odataType() error {
	offset := b.next()
	if b.PeekKind() == '"' {
		m, err := b.read()
		if err != nil {
			return err
		}
		if m.text() == ODataType {
			return nil
		}
		b.violate(WrongType, odataType, offset, "the type is not "+ODataType)
		return nil
	}
	b.violate(WrongType, odataType, offset, "the type is not the string "+ODataType)
	return b.skip()
}

// removed checks the member @removed, which is any JSON object.
func (b *bodyReader) removed() error {
	offset := b.next()
	if b.PeekKind() == '{' {
		b.report.Removed = true
	} else {
		b.violate(TypeMismatch, removedMember, offset, "the member is not a JSON object")
	}
	return b.skip()
}

// next returns where the next value begins.
func (b *bodyReader) next() int {
	rest := b.payload[b.InputOffset():]
	return len(b.payload) - len(strings.TrimLeft(rest, " \t\r\n:"))
}

// property reads the value of one of the nine properties.
func (b *bodyReader) property(p Property) error {
	kind := b.PeekKind()
	if kind == '{' || kind == '[' {
		b.violate(TypeMismatch, p.String(), b.next(), mismatch(p))
		return b.skip()
	}
	m, err := b.read()
	if err != nil {
		return err
	}
	b.value(p, m)
	return nil
}

// value takes the value of a property that is neither object nor array.
func (b *bodyReader) value(p Property, m member) {
	want := jsontext.Kind('"')
	if p == Platform {
		want = '0'
	}
	switch {
	case m.kind == 'n' && nullable(p):
		b.report.Values[p] = Value{Kind: Null}
	case m.kind == 'n':
		b.violate(NullNotAllowed, p.String(), m.offset, "the property cannot be null; leave it out to keep its value")
	case m.kind != want:
		b.violate(TypeMismatch, p.String(), m.offset, mismatch(p))
	case p == Platform:
		b.int32(p, m)
	default:
		b.text(p, m)
	}
}

// nullable reports whether a property may be null.
func nullable(p Property) bool {
	return p == DeviceDisplayName || p == UserName || p == DeviceModel || p == UserPrincipalName
}

func mismatch(p Property) string {
	switch p {
	case Platform:
		return "the property is not a JSON number without fraction and exponent"
	case StatusProperty:
		return "the property is not a JSON string with the name of a status"
	case ID, DeviceDisplayName, UserName, DeviceModel, GracePeriodExpiration, LastReported, UserPrincipalName:
	}
	return "the property is not a JSON string"
}

// int32 takes a number without fraction and exponent. Its stored bytes are the
// shortest decimal, so that -0 is 0.
func (b *bodyReader) int32(p Property, m member) {
	if strings.ContainsAny(m.raw, ".eE") {
		b.violate(TypeMismatch, p.String(), m.offset, mismatch(p))
		return
	}
	n, err := strconv.ParseInt(m.raw, 10, 32)
	if err != nil {
		b.violate(OutOfRange, p.String(), m.offset, "the number is not from -2147483648 to 2147483647")
		return
	}
	b.report.Values[p] = TextValue(strconv.FormatInt(n, 10))
}

// text takes a string and checks what its property asks of it.
func (b *bodyReader) text(p Property, m member) {
	text := m.text()
	switch p {
	case ID:
		if b.report.Key.Device != "" && text != b.report.Key.Device {
			b.violate(IDMismatch, p.String(), m.offset, "the id is not the device that the report was sent for; leave it out")
		}
	case StatusProperty:
		status, ok := ParseStatus(text)
		if !ok {
			b.violate(InvalidStatus, p.String(), m.offset, "the status is none of "+
				strings.Join(statusNames[:], ", ")+"; the nearest is "+nearest(text, statusNames[:]))
			return
		}
		b.report.Values[p] = TextValue(status.stored())
	case GracePeriodExpiration, LastReported:
		at, err := ParseDateTimeOffset(text)
		if err != nil {
			b.violate(InvalidDateTime, p.String(), m.offset, err.Error())
			return
		}
		b.report.Values[p] = TextValue(text)
		if p == LastReported && at.Ticks() >= endOfYear1 {
			b.reported, b.hasReported, b.reportedAt = at.Ticks(), true, m.offset
		}
	case DeviceDisplayName, UserName, DeviceModel, Platform, UserPrincipalName:
		// No text has more characters than bytes.
		if len(text) > MaxText && utf8.RuneCountInString(text) > MaxText {
			b.violate(ValueTooLong, p.String(), m.offset, "the text is longer than 256 characters")
			return
		}
		b.report.Values[p] = TextValue(text)
	}
}
