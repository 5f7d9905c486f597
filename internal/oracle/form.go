package oracle

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// The fields of a record's hash. The field v begins with the number of the status, .
// where that is not set; where there is a grace period, g in place of the number and the
// end in Unix milliseconds as 12 hexadecimal digits. The newest version follows, and a
// digest of the values that describe the device, together in base64. It goes on only
// where not all nine properties have that version: with a mark for each property after
// the id (0 for the newest version, 1 to 8 for the first to eighth of the others, . for
// never set) and with the others in the order of their first use, together in base64.
// The other fields are the values of the properties.
//
// A tombstone has the field v alone: t, its version in base64, and its store time in
// Unix milliseconds.
var valueFields = [NumProperties]string{"", "n", "u", "m", "p", "g", "", "r", "e"}

// storedNull is the value of a property that is null.
const storedNull = "\xff"

// Lengths of the text of a version and of a digest in bytes.
const (
	versionLength = 22
	digestBytes   = 16
)

func (v Version) bytes() []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(v.Time)), v.ID)
}

func text64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// digest is the beginning of the SHA-256 of the fields that describe a device: of each
// 0 where it is not there, otherwise 1, its length in four bytes, and its text.
func digest(fields map[string]string) []byte {
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
	return sum.Sum(nil)[:digestBytes]
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
		status = fmt.Sprintf("g%012x", end.UnixMilli())
	}
	newest := append(r.Versions[propertyID].bytes(), digest(fields)...)
	marks, others := r.otherVersions()
	fields["v"] = status + text64(newest) + marks + text64(others)
	return fields
}

// otherVersions returns which versions the properties after the id have, and
// those that are not the newest; nothing where all nine are the same.
func (r Record) otherVersions() (marks string, others []byte) {
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
		return "", nil
	}
	for _, version := range distinct {
		others = append(others, version.bytes()...)
	}
	return marks, others
}

// tombstoneFields returns the hash of a tombstone with a store time.
func (r Record) tombstoneFields(millis int64) map[string]string {
	return map[string]string{"v": "t" + text64(r.Versions[propertyID].bytes()) + strconv.FormatInt(millis, 10)}
}

// tombstoneMillis returns the store time in the hash of a tombstone; false where
// it is none.
func tombstoneMillis(fields map[string]string) (int64, bool) {
	rest, is := strings.CutPrefix(fields["v"], "t")
	if !is || len(rest) < versionLength {
		return 0, false
	}
	n, err := strconv.ParseInt(rest[versionLength:], 10, 64)
	return n, err == nil
}
