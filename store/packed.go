package store

import (
	"strings"

	"github.com/google/uuid"

	"github.com/complianced/complianced/compliance"
)

// packedID is an id in a stored form in which a UUID in lower case takes its 16 bytes,
// and any other id its text.
type packedID struct {
	name   string
	isUUID bool
}

// A packed id begins with uuidMark, a length that no id has, and the bytes of a UUID
// follow; or with the length of any other id, and its text follows.
const (
	uuidMark   = 0
	uuidBytes  = 16
	uuidLength = 36

	maxPackedID  = 1 + compliance.MaxIDLength
	maxPackedKey = 2 * maxPackedID
)

func packID(id string) packedID {
	var buffer [maxPackedID]byte
	packed := string(appendID(buffer[:0], id))
	return packedID{packed[1:], packed[0] == uuidMark}
}

// appendID appends a packed id.
func appendID(b []byte, id string) []byte {
	if id, ok := packUUID(id); ok {
		return append(append(b, uuidMark), id[:]...)
	}
	return append(append(b, byte(len(id))), id...)
}

// appendTo appends the packed id.
func (p packedID) appendTo(b []byte) []byte {
	mark := byte(uuidMark)
	if !p.isUUID {
		mark = byte(len(p.name))
	}
	return append(append(b, mark), p.name...)
}

// cutID cuts off the packed id that a text begins with. It is false where that is not
// what appendID appends.
func cutID(text string) (id packedID, rest string, ok bool) {
	if text == "" {
		return id, "", false
	}
	n := int(text[0])
	if id.isUUID = n == uuidMark; id.isUUID {
		n = uuidBytes
	}
	if rest = text[1:]; len(rest) < n {
		return id, "", false
	}
	id.name, rest = rest[:n], rest[n:]
	return id, rest, id.valid()
}

func (p packedID) text() string {
	if p.isUUID {
		return uuid.UUID([]byte(p.name)).String()
	}
	return p.name
}

func (p packedID) valid() bool {
	if p.isUUID {
		return true
	}
	_, isUUID := packUUID(p.name)
	return !isUUID && compliance.ValidID(p.name)
}

// compare orders by text. That of two UUIDs is the order of their bytes.
func (p packedID) compare(q packedID) int {
	if p.isUUID == q.isUUID {
		return strings.Compare(p.name, q.name)
	}
	return strings.Compare(p.text(), q.text())
}

// packKey names a record in the indexes of grace periods and of what needs attention:
// by its packed policy and its packed device. With two UUIDs these are 34 bytes instead
// of 73, which Redis keeps, and goes through with every command.
func packKey(k compliance.Key) string {
	var buffer [maxPackedKey]byte
	return string(appendID(appendID(buffer[:0], k.Policy), k.Device))
}

// cutKey is the inverse of packKey; it is false for every other text.
func cutKey(packed string) (policy, device packedID, ok bool) {
	if policy, packed, ok = cutID(packed); ok {
		device, packed, ok = cutID(packed)
	}
	return policy, device, ok && packed == ""
}

// unpackKey is the inverse of packKey; it is false for every other text.
func unpackKey(packed string) (compliance.Key, bool) {
	policy, device, ok := cutKey(packed)
	if !ok {
		return compliance.Key{}, false
	}
	return compliance.Key{Policy: policy.text(), Device: device.text()}, true
}

// packUUID returns the bytes of a UUID in lower case; false for any other text.
func packUUID(text string) (id uuid.UUID, ok bool) {
	if len(text) != uuidLength {
		return id, false
	}
	n := 0
	for i := range len(text) {
		c := text[i]
		switch {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return id, false
			}
			continue
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		default:
			return id, false
		}
		id[n/2] = id[n/2]<<4 | c
		n++
	}
	return id, true
}
