package store

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/complianced/complianced/compliance"
)

// fieldHead is the field of a record's hash that a transaction reads, so that it
// reads one field unless a report ties with the record:
//
//	the status          its number; . where it reads as never set; g where it is
//	                    nonCompliant with a grace period, of which the end follows
//	                    in 12 lower-case hex digits of Unix milliseconds; or t of a
//	                    tombstone
//	the newest version  which is that of id: event time in ticks and event id, 8
//	                    bytes each, and with them
//	the digest          16 bytes, by which a report that repeats the values is
//	                    known; see digest
//
// Numbers are big-endian; bytes are in the URL alphabet of base64 without padding, 43
// characters for these 32. A tombstone has no digest, so 22 characters; the greatest
// store time in Unix milliseconds follows, and there is no other field. Of a record
// whose nine properties all have the newest version nothing follows. Of any other
// there follow eight marks, one for each property after id in their documented order,
// and the distinct other versions in the order of their first use, 16 bytes each. A
// mark is 0 for the newest version, 1 to 8 for one of those that follow, . for a
// property that was never set.
//
// A head has at most 235 bytes, so that no value exceeds 256 and the hash stays a
// listpack.
//
// A property that was never set, or that a deletion cleared, has no field; which of
// the two is in the head. The id has none either: it is the device in the key.
const fieldHead = "v"

// valueFields are the fields of the values, by property.
var valueFields = [compliance.NumProperties]string{
	compliance.ID:                    "",
	compliance.DeviceDisplayName:     "n",
	compliance.UserName:              "u",
	compliance.DeviceModel:           "m",
	compliance.Platform:              "p",
	compliance.GracePeriodExpiration: "g",
	compliance.StatusProperty:        "",
	compliance.LastReported:          "r",
	compliance.UserPrincipalName:     "e",
}

// valueOrder is the order in which a new hash gets its values. Redis finds a field
// of a listpack by walking it, so those that change most stand first.
var valueOrder = [...]compliance.Property{
	compliance.LastReported, compliance.GracePeriodExpiration, compliance.Platform, compliance.DeviceModel,
	compliance.DeviceDisplayName, compliance.UserName, compliance.UserPrincipalName,
}

// fullFields are all fields, in the order in which decode wants them.
var fullFields = func() []string {
	fields := []string{fieldHead}
	for _, p := range valueOrder {
		fields = append(fields, valueFields[p])
	}
	return fields
}()

// nullText is the stored form of null. It is no UTF-8, so no string equals it.
var nullText = "\xff"

const (
	versionBytes  = 16
	numOthers     = compliance.NumProperties - 1
	unsetMark     = '.'
	graceMark     = 'g'
	graceLength   = 12
	tombstoneMark = 't'
)

// Lengths in the text of a head.
const (
	versionLength = (versionBytes*8 + 5) / 6
	newestLength  = ((versionBytes+digestBytes)*8 + 5) / 6
	othersLength  = (numOthers*versionBytes*8 + 5) / 6
)

// text64 is the text of bytes in a head. Each text stands for other bytes.
var text64 = base64.RawURLEncoding.Strict()

var errRecord = errors.New("not the hash of a record")

func putVersion(b []byte, v compliance.Version) {
	binary.BigEndian.PutUint64(b, uint64(v.Time))
	binary.BigEndian.PutUint64(b[8:], v.ID)
}

func versionOf(b []byte) compliance.Version {
	return compliance.Version{Time: compliance.Ticks(binary.BigEndian.Uint64(b)), ID: binary.BigEndian.Uint64(b[8:])}
}

// decodeText fills b from the text of exactly as many bytes.
func decodeText(b []byte, text string) error {
	var buffer [othersLength]byte
	if n := copy(buffer[:], text); n != len(text) || text64.DecodedLen(n) != len(b) {
		return errRecord
	}
	if n, err := text64.Decode(b, buffer[:len(text)]); err != nil || n != len(b) {
		return errRecord
	}
	return nil
}

func appendHex(b []byte, v uint64, n int) []byte {
	const digits = "0123456789abcdef"
	for shift := 4 * (n - 1); shift >= 0; shift -= 4 {
		b = append(b, digits[v>>shift&15])
	}
	return b
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

// appendHead appends the head of a record or tombstone.
func appendHead(b []byte, r *compliance.Record, d digest) []byte {
	var newest [versionBytes + digestBytes]byte
	putVersion(newest[:], r.Newest())
	if r.Tombstone() {
		b = text64.AppendEncode(append(b, tombstoneMark), newest[:versionBytes])
		return strconv.AppendInt(b, r.StoredMillis, 10)
	}
	copy(newest[versionBytes:], d[:])
	b = text64.AppendEncode(appendStatus(b, r), newest[:])
	var marks [numOthers]byte
	var distinct [numOthers]compliance.Version
	n, uniform := 0, true
	for i := range marks {
		p := i + 1
		switch {
		case r.Values[p].Kind == compliance.Unset:
			marks[i], uniform = unsetMark, false
		case r.Versions[p] == r.Newest():
			marks[i] = '0'
		default:
			uniform = false
			k := slices.Index(distinct[:n], r.Versions[p])
			if k < 0 {
				distinct[n] = r.Versions[p]
				k = n
				n++
			}
			marks[i] = '1' + byte(k)
		}
	}
	if uniform {
		return b
	}
	var others [numOthers * versionBytes]byte
	for k, v := range distinct[:n] {
		putVersion(others[k*versionBytes:], v)
	}
	return text64.AppendEncode(append(b, marks[:]...), others[:n*versionBytes])
}

func appendStatus(b []byte, r *compliance.Record) []byte {
	if ends := r.Facts().GraceEnds; ends != 0 {
		return appendHex(append(b, graceMark), uint64(ends), graceLength)
	}
	if status := r.Values[compliance.StatusProperty]; status.Kind == compliance.Text {
		return append(b, status.Text[0])
	}
	return append(b, unsetMark)
}

// decodeHead reads a head. The record's values other than the status are Unread,
// or Unset.
func decodeHead(r *compliance.Record, head string) (d digest, err error) {
	if head == "" {
		return d, errRecord
	}
	if head[0] == tombstoneMark {
		return d, decodeTombstone(r, head[1:])
	}
	for p := range r.Values {
		r.Values[p].Kind = compliance.Unread
	}
	rest, err := decodeStatus(r, head[0], head[1:])
	if err != nil || len(rest) < newestLength {
		return d, errRecord
	}
	var newest [versionBytes + digestBytes]byte
	if err := decodeText(newest[:], rest[:newestLength]); err != nil {
		return d, err
	}
	for p := range r.Versions {
		r.Versions[p] = versionOf(newest[:])
	}
	copy(d[:], newest[versionBytes:])
	switch rest = rest[newestLength:]; {
	case rest == "":
		return d, nil
	case len(rest) < numOthers:
		return d, errRecord
	}
	return d, decodeMarks(r, rest[:numOthers], rest[numOthers:])
}

func decodeTombstone(r *compliance.Record, rest string) (err error) {
	var version [versionBytes]byte
	if len(rest) < versionLength || decodeText(version[:], rest[:versionLength]) != nil {
		return errRecord
	}
	for p := range r.Values {
		r.Versions[p], r.Values[p].Kind = versionOf(version[:]), compliance.Cleared
	}
	if r.StoredMillis, err = strconv.ParseInt(rest[versionLength:], 10, 64); err != nil {
		return errRecord
	}
	return nil
}

// decodeStatus reads the status from its mark and, of a grace period, from what
// follows. It returns the rest of the head.
func decodeStatus(r *compliance.Record, mark byte, rest string) (string, error) {
	r.UnreadGrace = compliance.GraceUnknown
	status := &r.Values[compliance.StatusProperty]
	switch {
	case mark == unsetMark:
		*status = compliance.Value{Kind: compliance.Cleared}
	case mark == graceMark:
		if len(rest) < graceLength {
			return "", errRecord
		}
		ends, err := parseHex(rest[:graceLength])
		if err != nil || ends == 0 {
			return "", errRecord
		}
		*status = compliance.TextValue(nonCompliant)
		r.UnreadGrace = int64(ends)
		return rest[graceLength:], nil
	case mark == nonCompliant[0]:
		*status = compliance.TextValue(nonCompliant)
		r.UnreadGrace = 0
	case '0' <= mark && mark < '0'+compliance.NumStatuses:
		*status = compliance.TextValue("01234567"[mark-'0' : mark-'0'+1])
	default:
		return "", errRecord
	}
	return rest, nil
}

// nonCompliant is the stored form of the status that has grace periods.
var nonCompliant = strconv.Itoa(int(compliance.StatusNonCompliant))

// decodeMarks gives each property after id its version.
func decodeMarks(r *compliance.Record, marks, others string) error {
	var versions [numOthers * versionBytes]byte
	n := text64.DecodedLen(len(others))
	if n > len(versions) || n%versionBytes != 0 || decodeText(versions[:n], others) != nil {
		return errRecord
	}
	for i := range numOthers {
		p := i + 1
		switch k := int(marks[i]) - '0'; {
		case marks[i] == unsetMark:
			r.Versions[p], r.Values[p] = compliance.Version{}, compliance.Value{}
		case k == 0:
		case 0 < k && k <= n/versionBytes:
			r.Versions[p] = versionOf(versions[(k-1)*versionBytes:])
		default:
			return errRecord
		}
	}
	return nil
}

// encode returns the hash of a record or tombstone as fields and values in turn;
// nil of neither.
func encode(r *compliance.Record) []string {
	if r.Empty() {
		return nil
	}
	hash := []string{fieldHead, string(appendHead(nil, r, digestOf(r)))}
	for _, p := range valueOrder {
		if text := storedValue(&r.Values[p]); text != nil {
			hash = append(hash, valueFields[p], *text)
		}
	}
	return hash
}

// storedValue returns the bytes of a value; nil where it has no field.
func storedValue(v *compliance.Value) *string {
	switch v.Kind {
	case compliance.Text:
		return &v.Text
	case compliance.Null:
		return &nullText
	case compliance.Unset, compliance.Cleared, compliance.Unread:
	}
	return nil
}

// decode reads the answer to HMGET of fullFields, in which nil stands for a field
// that is not there.
func decode(reply []any) (compliance.Record, error) {
	r, grace, err := decodeFields(reply)
	if err == nil && r.Status() == compliance.StatusNonCompliant && grace != r.Facts().GraceEnds {
		err = errRecord // The head says another end than the value.
	}
	return r, err
}

// decodeFields is decode, and returns when a grace period ends as the head has it.
func decodeFields(reply []any) (r compliance.Record, grace int64, err error) {
	head, ok := reply[0].(string)
	if !ok {
		for _, field := range reply {
			if field != nil {
				return r, 0, errRecord
			}
		}
		return r, 0, nil
	}
	if _, err := decodeHead(&r, head); err != nil {
		return r, 0, err
	}
	for i, p := range valueOrder {
		if r.Values[p].Kind == compliance.Unread {
			r.Values[p] = parseValue(reply[1+i])
		}
	}
	grace, r.UnreadGrace = r.UnreadGrace, 0
	return r, grace, nil
}

// parseValue reads the field of a property that was set. One without a field was
// cleared.
func parseValue(field any) compliance.Value {
	text, ok := field.(string)
	switch {
	case !ok:
		return compliance.Value{Kind: compliance.Cleared}
	case text == nullText:
		return compliance.Value{Kind: compliance.Null}
	}
	return compliance.TextValue(text)
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

// parseFloor reads a floor. What is no floor becomes one of another stream, so
// that the bucket is merged again.
func parseFloor(line string) compliance.Floor {
	unreadable := compliance.UnreadableFloor(line)
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
