package store

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/complianced/complianced/compliance"
)

// The fields of a record's hash. A property that was never set, or that a
// deletion cleared, has no field; which of the two is in the versions. The id
// has none either: it is the device in the key.
const (
	// fieldNewest is the version of id, which is the record's newest event: event
	// time in ticks and event id, 16 lower-case hex digits each.
	fieldNewest = "v"
	// fieldVersions is there only where not all nine properties have the version
	// in fieldNewest: eight characters, one for each property after id in their
	// documented order, then the distinct other versions in the order of their
	// first use. A character is 0 for the version in fieldNewest, 1 to 7 for one
	// of those that follow, . for a property that was never set. Of eight
	// different versions the eight characters are left out, so that the value
	// never exceeds 256 bytes and the hash stays a listpack.
	fieldVersions = "w"
	// fieldTombstone is there only in a tombstone, which has no fields but this
	// and fieldNewest: the greatest store time in Unix milliseconds.
	fieldTombstone = "t"
)

// valueFields are the fields of the values, by property.
var valueFields = [compliance.NumProperties]string{
	compliance.ID:                    "",
	compliance.DeviceDisplayName:     "n",
	compliance.UserName:              "u",
	compliance.DeviceModel:           "m",
	compliance.Platform:              "p",
	compliance.GracePeriodExpiration: "g",
	compliance.StatusProperty:        "s",
	compliance.LastReported:          "r",
	compliance.UserPrincipalName:     "e",
}

// nullMark is the stored form of null. It is no UTF-8, so no string equals it.
const nullMark = "\xff"

const (
	versionLength = 32
	numOthers     = compliance.NumProperties - 1
	unsetMark     = '.'
)

// lightFields are what the law needs of a record unless a report ties with it;
// fullFields are all.
var (
	lightFields = []string{fieldNewest, fieldVersions, fieldTombstone, valueFields[compliance.StatusProperty]}
	fullFields  = append([]string{fieldNewest, fieldVersions, fieldTombstone}, valueFields[1:]...)
)

var errRecord = errors.New("not the hash of a record")

func appendVersion(b []byte, v compliance.Version) []byte {
	return appendHex(appendHex(b, uint64(v.Time)), v.ID)
}

func appendHex(b []byte, v uint64) []byte {
	const digits = "0123456789abcdef"
	for shift := 60; shift >= 0; shift -= 4 {
		b = append(b, digits[v>>shift&15])
	}
	return b
}

func parseVersion(text string) (compliance.Version, error) {
	if len(text) != versionLength {
		return compliance.Version{}, errRecord
	}
	at, errTime := parseHex(text[:16])
	id, errID := parseHex(text[16:])
	if errTime != nil || errID != nil {
		return compliance.Version{}, errRecord
	}
	return compliance.Version{Time: compliance.Ticks(at), ID: id}, nil
}

func parseHex(text string) (uint64, error) {
	var v uint64
	for i := range len(text) {
		c := text[i]
		switch {
		case '0' <= c && c <= '9':
			v = v<<4 | uint64(c-'0')
		case 'a' <= c && c <= 'f':
			v = v<<4 | uint64(c-'a'+10)
		default:
			return 0, errRecord
		}
	}
	return v, nil
}

// encodeVersions returns the two fields of the versions; the second is empty
// where the record is uniform.
func encodeVersions(r *compliance.Record) (newest, others string) {
	newest = string(appendVersion(make([]byte, 0, versionLength), r.Newest()))
	var index [numOthers]byte
	distinct := make([]compliance.Version, 0, numOthers)
	uniform := true
	for i := range index {
		p := i + 1
		switch {
		case r.Values[p].Kind == compliance.Unset:
			index[i], uniform = unsetMark, false
		case r.Versions[p] == r.Newest():
			index[i] = '0'
		default:
			uniform = false
			n := 0
			for n < len(distinct) && distinct[n] != r.Versions[p] {
				n++
			}
			if n == len(distinct) {
				distinct = append(distinct, r.Versions[p])
			}
			index[i] = '1' + byte(n)
		}
	}
	if uniform {
		return newest, ""
	}
	b := make([]byte, 0, numOthers+numOthers*versionLength)
	if len(distinct) < numOthers {
		b = append(b, index[:]...)
	}
	for _, v := range distinct {
		b = appendVersion(b, v)
	}
	return newest, string(b)
}

// decodeVersions is the inverse of encodeVersions. It gives each set property
// its version and the kind Cleared; the values come after.
func decodeVersions(r *compliance.Record, newest, others string) error {
	v, err := parseVersion(newest)
	if err != nil {
		return err
	}
	for p := range r.Values {
		r.Versions[p], r.Values[p].Kind = v, compliance.Cleared
	}
	if others == "" {
		return nil
	}
	index := "12345678"
	if len(others) != numOthers*versionLength {
		if len(others) < numOthers || (len(others)-numOthers)%versionLength != 0 {
			return errRecord
		}
		index, others = others[:numOthers], others[numOthers:]
	}
	for i := range numOthers {
		p := i + 1
		switch n := int(index[i]) - '0'; {
		case index[i] == unsetMark:
			r.Versions[p], r.Values[p] = compliance.Version{}, compliance.Value{}
		case n == 0:
		case n < 1 || n*versionLength > len(others):
			return errRecord
		default:
			if r.Versions[p], err = parseVersion(others[(n-1)*versionLength : n*versionLength]); err != nil {
				return err
			}
		}
	}
	return nil
}

// encode returns the hash of a record or tombstone; nil of neither.
func encode(r *compliance.Record) map[string]string {
	if r.Empty() {
		return nil
	}
	newest, others := encodeVersions(r)
	hash := map[string]string{fieldNewest: newest}
	if r.Tombstone() {
		hash[fieldTombstone] = strconv.FormatInt(r.StoredMillis, 10)
		return hash
	}
	if others != "" {
		hash[fieldVersions] = others
	}
	for p := 1; p < compliance.NumProperties; p++ {
		if text, ok := storedValue(r.Values[p]); ok {
			hash[valueFields[p]] = text
		}
	}
	return hash
}

// storedValue returns the bytes of a value; false where it has no field.
func storedValue(v compliance.Value) (string, bool) {
	switch v.Kind {
	case compliance.Text:
		return v.Text, true
	case compliance.Null:
		return nullMark, true
	case compliance.Unset, compliance.Cleared, compliance.Unread:
	}
	return "", false
}

// decode reads the answer to HMGET of lightFields or fullFields, in which nil
// stands for a field that is not there.
func decode(reply []any) (compliance.Record, error) {
	var r compliance.Record
	newest, ok := reply[0].(string)
	if !ok {
		for _, field := range reply {
			if field != nil {
				return r, errRecord
			}
		}
		return r, nil
	}
	others, _ := reply[1].(string)
	if err := decodeVersions(&r, newest, others); err != nil {
		return r, err
	}
	if stored, ok := reply[2].(string); ok {
		var err error
		if r.StoredMillis, err = strconv.ParseInt(stored, 10, 64); err != nil {
			return r, errRecord
		}
		return r, nil
	}
	r.Values[compliance.ID].Kind = compliance.Unread
	if len(reply) == len(lightFields) {
		for p := 1; p < compliance.NumProperties; p++ {
			if r.Values[p].Kind == compliance.Cleared {
				r.Values[p].Kind = compliance.Unread
			}
		}
		decodeValue(&r, compliance.StatusProperty, reply[3])
		return r, nil
	}
	for p := 1; p < compliance.NumProperties; p++ {
		decodeValue(&r, compliance.Property(p), reply[2+p])
	}
	return r, nil
}

// decodeValue takes a value into a record whose versions are known. A set
// property without a field was cleared.
func decodeValue(r *compliance.Record, p compliance.Property, field any) {
	text, ok := field.(string)
	switch {
	case r.Values[p].Kind == compliance.Unset:
	case !ok:
		r.Values[p] = compliance.Value{Kind: compliance.Cleared}
	case text == nullMark:
		r.Values[p] = compliance.Value{Kind: compliance.Null}
	default:
		r.Values[p] = compliance.TextValue(text)
	}
}

// repairMark is the last word of a floor that was set back on purpose.
const repairMark = "repair"

func formatFloor(f compliance.Floor) string {
	stored := int64(0)
	if !f.Stored.IsZero() {
		stored = f.Stored.UnixNano()
	}
	line := fmt.Sprintf("%s %d %d %d %d %d %s", f.Stream, f.Created.UnixNano(), f.Sequence, stored,
		f.Layout.Partitions, f.Layout.Buckets, f.Write)
	if f.Repair {
		line += " " + repairMark
	}
	return line
}

// unreadableStream is the stream of a floor that is none; no stream has this name.
const unreadableStream = "?"

// parseFloor reads a floor. What is no floor becomes one of another stream, so
// that the bucket is merged again.
func parseFloor(line string) compliance.Floor {
	unreadable := compliance.Floor{Stream: unreadableStream, Write: line}
	fields := strings.Split(line, " ")
	repair := len(fields) == 8 && fields[7] == repairMark
	if len(fields) != 7 && !repair {
		return unreadable
	}
	var numbers [5]int64
	for i := range numbers {
		n, err := strconv.ParseInt(fields[i+1], 10, 64)
		if err != nil {
			return unreadable
		}
		numbers[i] = n
	}
	f := compliance.Floor{
		Stream:   fields[0],
		Created:  time.Unix(0, numbers[0]).UTC(),
		Sequence: uint64(numbers[1]),
		Layout:   compliance.Layout{Partitions: int(numbers[3]), Buckets: int(numbers[4])},
		Write:    fields[6],
		Repair:   repair,
	}
	if numbers[2] != 0 {
		f.Stored = time.Unix(0, numbers[2]).UTC()
	}
	if f.Absent() || formatFloor(f) != line {
		return unreadable // A sequence of -1 would be ahead of every report.
	}
	return f
}
