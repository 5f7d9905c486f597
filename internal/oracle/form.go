package oracle

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"strconv"
)

// The fields of a record's hash. The field v begins with the number of the status, .
// where that is not set; where there is a grace period, g in place of the number and the
// end in Unix milliseconds in six bytes. The newest version follows, and a digest of the
// values that describe the device. It goes on only where not all nine properties have
// that version: with a mark for each property after the id (0 for the newest version, 1
// to 8 for the first to eighth of the others, . for never set) and with the others in the
// order of their first use. The other fields are the values of the properties.
//
// A tombstone has the field v alone: t, its version, and its store time in Unix
// milliseconds in eight bytes. All numbers are big-endian.
var valueFields = [NumProperties]string{"", "n", "u", "m", "p", "g", "", "r", "e"}

// storedNull is the value of a property that is null.
const storedNull = "\xff"

// Lengths in bytes.
const (
	versionBytes = 16
	digestBytes  = 16
	graceBytes   = 6
	millisBytes  = 8
)

func word(n uint64) string { return string(binary.BigEndian.AppendUint64(nil, n)) }

func (v Version) text() string { return word(uint64(v.Time)) + word(v.ID) }

// digest is the beginning of the SHA-256 of the fields that describe a device: of each
// 0 where it is not there, otherwise 1, its length in four bytes, and its text.
func digest(fields map[string]string) string {
	sum := sha256.New()
	for _, field := range []string{"n", "u", "m", "p", "g", "e"} {
		text, there := fields[field]
		if !there {
			sum.Write([]byte{0})
			continue
		}
		sum.Write(binary.BigEndian.AppendUint32([]byte{1}, uint32(len(text))))
		sum.Write([]byte(text))
	}
	return string(sum.Sum(nil)[:digestBytes])
}

// fields returns the hash of a record that exists.
func (r Record) fields() map[string]string {
	fields := map[string]string{}
	for p, field := range valueFields {
		switch {
		case field == "":
		case r.Values[p].Kind == Text:
			fields[field] = r.Values[p].Text
		case r.Values[p].Kind == Null:
			fields[field] = storedNull
		}
	}
	status := "."
	if r.Values[propertyStatus].Kind == Text {
		status = r.Values[propertyStatus].Text
	}
	if end, ok := r.graceEnd(); ok {
		status = "g" + word(uint64(end.UnixMilli()))[millisBytes-graceBytes:]
	}
	marks, others := r.otherVersions()
	fields["v"] = status + r.Versions[propertyID].text() + digest(fields) + marks + others
	return fields
}

// otherVersions returns which versions the properties after the id have, and
// those that are not the newest; nothing where all nine are the same.
func (r Record) otherVersions() (marks, others string) {
	var distinct []Version
	for p := 1; p < NumProperties; p++ {
		version := r.Versions[p]
		switch {
		case r.Values[p].Kind == Unset:
			marks += "."
			continue
		case r.Versions[p] == r.Versions[propertyID]:
			marks += "0"
			continue
		case !slices.Contains(distinct, version):
			distinct = append(distinct, version)
		}
		marks += strconv.Itoa(1 + slices.Index(distinct, version))
	}
	if marks == "00000000" {
		return "", ""
	}
	for _, version := range distinct {
		others += version.text()
	}
	return marks, others
}

// tombstoneFields returns the hash of a tombstone with a store time.
func (r Record) tombstoneFields(millis int64) map[string]string {
	return map[string]string{"v": "t" + r.Versions[propertyID].text() + word(uint64(millis))}
}

// tombstoneMillis returns the store time in the hash of a tombstone; false where
// it is none.
func tombstoneMillis(fields map[string]string) (int64, bool) {
	v := fields["v"]
	if len(v) != 1+versionBytes+millisBytes || v[0] != 't' {
		return 0, false
	}
	return int64(binary.BigEndian.Uint64([]byte(v[1+versionBytes:]))), true
}
