package oracle

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// The fields of a record's hash. The field v begins with the newest version and
// the number of the status, . where that is not set; where there is a grace period,
// g in place of the number and the end in Unix milliseconds as 12 hexadecimal digits.
// It goes on only where not all nine properties have that version: with a mark for
// each property after the id (0 for the newest version, 1 to 8 for the first to
// eighth of the others, . for never set) and with the others in the order of their
// first use. Where these are more than six, they are in the field w. The other fields
// are the values of the properties.
//
// A tombstone has the field v alone: its version, t, and its store time in Unix
// milliseconds.
var valueFields = [NumProperties]string{"", "n", "u", "m", "p", "g", "", "r", "e"}

const (
	// storedNull is the value of a property that is null.
	storedNull = "\xff"
	// maxOthers is how many other versions the field v takes, so that no field has
	// more than 256 bytes, and the hash stays compact.
	maxOthers = 6
	// versionLength is that of a version in hexadecimal digits.
	versionLength = 32
)

func (v Version) hex() string { return fmt.Sprintf("%016x%016x", uint64(v.Time), v.ID) }

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
	marks, others := r.otherVersions()
	fields["v"] = r.Versions[propertyID].hex() + status + marks
	if len(others) > maxOthers*versionLength {
		fields["w"] = others
	} else {
		fields["v"] += others
	}
	return fields
}

// otherVersions returns which versions the properties after the id have, and
// those that are not the newest; nothing where all nine are the same.
func (r Record) otherVersions() (marks, others string) {
	var distinct []string
	for p := 1; p < NumProperties; p++ {
		version := r.Versions[p].hex()
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
	return marks, strings.Join(distinct, "")
}

// tombstoneFields returns the hash of a tombstone with a store time.
func (r Record) tombstoneFields(millis int64) map[string]string {
	return map[string]string{"v": r.Versions[propertyID].hex() + "t" + strconv.FormatInt(millis, 10)}
}

// tombstoneMillis returns the store time in the hash of a tombstone; false where
// it is none.
func tombstoneMillis(fields map[string]string) (int64, bool) {
	version, millis, is := strings.Cut(fields["v"], "t")
	n, err := strconv.ParseInt(millis, 10, 64)
	return n, is && err == nil && len(version) == versionLength
}
