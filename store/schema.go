package store

import (
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
//	mark            1 byte    the number of the status as a digit; . where it reads as
//	                          never set; g where it is nonCompliant with a grace
//	                          period; t of a tombstone
//	grace           6 bytes   after g alone: when the grace period ends in Unix ms
//	newest version  16 bytes  which is that of id: event time in ticks and event id
//	digest          16 bytes  by which a report that repeats the values is known; see
//	                          digest
//	marks           8 bytes   one for each property after id in their documented order:
//	                          0 for the newest version, 1 to 8 for one of those that
//	                          follow, . for a property that was never set
//	other versions  16 bytes  each, in the order of their first use
//
// Numbers are big-endian. Marks and other versions are not there where all nine
// properties have the newest version. A tombstone has in the place of the digest its
// greatest store time in Unix milliseconds, in 8 bytes, and nothing more: there is no
// other field.
//
// A head has at most 175 bytes, so that no value exceeds 256 and the hash stays a
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
	graceBytes    = 6
	millisBytes   = 8
	numOthers     = compliance.NumProperties - 1
	maxHead       = 1 + graceBytes + versionBytes + digestBytes + numOthers*(1+versionBytes)
	unsetMark     = '.'
	graceMark     = 'g'
	tombstoneMark = 't'
)

var errRecord = errors.New("not the hash of a record")

func appendVersion(b []byte, v compliance.Version) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, uint64(v.Time)), v.ID)
}

// headReader reads a head from its beginning.
type headReader struct {
	rest string
	err  error
}

// next returns the next n bytes. Where there are fewer, it is errRecord, and they are 0.
func (h *headReader) next(n int) (b [versionBytes]byte) {
	if len(h.rest) < n {
		h.rest, h.err = "", errRecord
		return b
	}
	copy(b[:], h.rest[:n])
	h.rest = h.rest[n:]
	return b
}

func (h *headReader) version() compliance.Version {
	b := h.next(versionBytes)
	return compliance.Version{Time: compliance.Ticks(binary.BigEndian.Uint64(b[:])), ID: binary.BigEndian.Uint64(b[8:])}
}

// grace reads when a grace period ends. One that ends at 0 is none.
func (h *headReader) grace() int64 {
	b := h.next(graceBytes)
	ends := int64(binary.BigEndian.Uint64(b[:]) >> 16)
	if ends == 0 {
		h.err = errRecord
	}
	return ends
}

// appendHead appends the head of a record or tombstone.
func appendHead(b []byte, r *compliance.Record, d digest) []byte {
	if r.Tombstone() {
		return binary.BigEndian.AppendUint64(appendVersion(append(b, tombstoneMark), r.Newest()), uint64(r.StoredMillis))
	}
	b = append(appendVersion(appendStatus(b, r), r.Newest()), d[:]...)
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
	b = append(b, marks[:]...)
	for _, v := range distinct[:n] {
		b = appendVersion(b, v)
	}
	return b
}

func appendStatus(b []byte, r *compliance.Record) []byte {
	if ends := r.Facts().GraceEnds; ends != 0 {
		var bytes [millisBytes]byte
		binary.BigEndian.PutUint64(bytes[:], uint64(ends))
		return append(append(b, graceMark), bytes[millisBytes-graceBytes:]...)
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
	mark, reader := head[0], headReader{rest: head[1:]}
	kind := compliance.Unread
	if mark == tombstoneMark {
		kind = compliance.Cleared
	}
	for p := range r.Values {
		r.Values[p].Kind = kind
	}
	if mark == tombstoneMark {
		reader.newest(r)
		b := reader.next(millisBytes)
		r.StoredMillis = int64(binary.BigEndian.Uint64(b[:]))
		return d, reader.end()
	}
	decodeStatus(r, mark, &reader)
	reader.newest(r)
	d = reader.next(digestBytes)
	if reader.rest != "" {
		decodeMarks(r, &reader)
	}
	return d, reader.end()
}

// newest reads the newest version, and gives it to all properties.
func (h *headReader) newest(r *compliance.Record) {
	v := h.version()
	for p := range r.Versions {
		r.Versions[p] = v
	}
}

// end returns what was wrong, which is also that something is left.
func (h *headReader) end() error {
	if h.rest != "" {
		return errRecord
	}
	return h.err
}

// decodeStatus takes the status from its mark, and reads the end of a grace period.
func decodeStatus(r *compliance.Record, mark byte, reader *headReader) {
	r.UnreadGrace = compliance.GraceUnknown
	status := &r.Values[compliance.StatusProperty]
	switch {
	case mark == unsetMark:
		*status = compliance.Value{Kind: compliance.Cleared}
	case mark == graceMark:
		*status = compliance.TextValue(nonCompliant)
		r.UnreadGrace = reader.grace()
	case mark == nonCompliant[0]:
		*status = compliance.TextValue(nonCompliant)
		r.UnreadGrace = 0
	case '0' <= mark && mark < '0'+compliance.NumStatuses:
		*status = compliance.TextValue("01234567"[mark-'0' : mark-'0'+1])
	default:
		reader.err = errRecord
	}
}

// nonCompliant is the stored form of the status that has grace periods.
var nonCompliant = strconv.Itoa(int(compliance.StatusNonCompliant))

// decodeMarks gives each property after id its version.
func decodeMarks(r *compliance.Record, reader *headReader) {
	marks := reader.next(numOthers)
	var versions [numOthers]compliance.Version
	n := 0
	for ; n < numOthers && reader.rest != ""; n++ {
		versions[n] = reader.version()
	}
	for i := range numOthers {
		p := i + 1
		switch k := int(marks[i]) - '0'; {
		case marks[i] == unsetMark:
			r.Versions[p], r.Values[p] = compliance.Version{}, compliance.Value{}
		case k == 0:
		case 0 < k && k <= n && versions[k-1].Compare(r.Newest()) < 0:
			r.Versions[p] = versions[k-1]
		default:
			reader.err = errRecord
		}
	}
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
	var r compliance.Record
	head, ok := reply[0].(string)
	if !ok {
		for _, field := range reply {
			if field != nil {
				return r, errRecord
			}
		}
		return r, nil
	}
	described, err := decodeHead(&r, head)
	if err != nil {
		return r, err
	}
	for i, p := range valueOrder {
		if r.Values[p].Kind == compliance.Unread {
			r.Values[p] = parseValue(reply[1+i])
		}
	}
	grace := r.UnreadGrace
	r.UnreadGrace = 0
	switch {
	case r.Tombstone():
	case described != digestOf(&r), r.Status() == compliance.StatusNonCompliant && grace != r.Facts().GraceEnds:
		return r, errRecord // The values are not those that the head was written with.
	}
	return r, nil
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
