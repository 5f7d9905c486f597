package oracle

import (
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zeebo/xxh3"
)

// What follows from the records of a bucket lies beside them:
//
//	|counts     hash        <policy>|<status>           how many records have the status
//	|days       hash        <policy>|<day>              how many have their newest event on the UTC day
//	|gracedays  hash        <policy>|<day>              of how many the grace period ends on it
//	|grace      sorted set  <policy><device>, packed    the end of the grace period in Unix milliseconds
//	|attention  sorted set  <policy><device>, packed    those with a status that needs attention, by policy and status
//	|devices    sorted set  <device>                    the devices with a record
//	|rollup     hash        <device>                    its policies with the numbers of their statuses
//	|worst      hash        <status>                    of how many devices it is the worst
//
// Nothing is counted that is 0, and nothing is there that is empty.

// needAttention are the statuses of the records that somebody should look at.
var needAttention = []string{"unknown", "nonCompliant", "conflict", "error"}

// fromBestToWorst are the statuses in the order of which the device has the last.
var fromBestToWorst = []string{"notAssigned", "unknown", "notApplicable", "compliant", "remediated", "nonCompliant", "conflict", "error"}

// keepsGrace is how long before its record's newest event a grace period may have
// ended and still be one.
const keepsGrace = 10 * time.Minute

// graceEnd returns when the grace period of a record ends, in whole milliseconds;
// false where it has none.
func (r Record) graceEnd() (time.Time, bool) {
	value := r.Values[propertyGrace]
	if r.status() != "nonCompliant" || value.Kind != Text {
		return time.Time{}, false
	}
	at, _ := parseDateTime(value.Text) // It was judged before.
	end := at.time().Add(time.Millisecond - 1).Truncate(time.Millisecond)
	newest := r.newest().Truncate(time.Millisecond)
	sentinel := end.Year() < 2 || end.Year() > 9998
	return end, !sentinel && end.After(time.Unix(0, 0)) && end.After(newest.Add(-keepsGrace))
}

// newest returns when the record's newest event was.
func (r Record) newest() time.Time { return instant(r.Versions[propertyID].Time).time() }

// standing returns the number of the record's status, which is that of unknown until
// it is set.
func (r Record) standing() string { return strconv.Itoa(slices.Index(statuses, r.status())) }

// needs returns the score of a record that needs attention: 24 bits of the hash of its
// policy, 3 with the number of its status, and 25 bits of the hash of its device.
func (r Record) needs(key Key) int64 {
	bits := fmt.Sprintf("%064b", xxh3.HashString(key.Policy))[:24] +
		fmt.Sprintf("%03b", slices.Index(statuses, r.status())) +
		fmt.Sprintf("%064b", xxh3.HashString(key.Device))[:25]
	score, _ := strconv.ParseInt(bits, 2, 64) // These are digits.
	return score
}

// recordDerived adds what follows from one record.
func (s Snapshot) recordDerived(tag string, key Key, r Record) {
	s.count(tag+"|counts", key.Policy+"|"+r.status())
	s.count(tag+"|days", key.Policy+"|"+r.newest().Format(time.DateOnly))
	if end, ok := r.graceEnd(); ok {
		s.count(tag+"|gracedays", key.Policy+"|"+end.Format(time.DateOnly))
		s.score(tag+"|grace", packed(key.Policy)+packed(key.Device), end.UnixMilli())
	}
	if slices.Contains(needAttention, r.status()) {
		s.score(tag+"|attention", packed(key.Policy)+packed(key.Device), r.needs(key))
	}
}

// devicesDerived adds what follows from all records of each device.
func (s *State) devicesDerived(want Snapshot) {
	devices := map[string][]string{} // The policies.
	for key, record := range s.Records {
		if !record.Tombstone() {
			devices[key.Device] = append(devices[key.Device], key.Policy)
		}
	}
	for device, policies := range devices {
		tag := bucketTag(share(device, s.Config.buckets()))
		slices.Sort(policies)
		rollup, worst := "", 0
		for _, policy := range policies {
			record := s.Records[Key{policy, device}]
			rollup += rolledUp(policy, record.standing())
			worst = max(worst, slices.Index(fromBestToWorst, record.status()))
		}
		want.field(tag+"|rollup", device, rollup)
		want.score(tag+"|devices", device, 0)
		want.count(tag+"|worst", fromBestToWorst[worst])
	}
}

var uuid = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// packed returns the length of an id in one byte and the id. Of one that is a UUID in
// lower case, a byte of 0 and its 16 bytes.
func packed(id string) string {
	if !uuid.MatchString(id) {
		return string([]byte{byte(len(id))}) + id
	}
	digits, _ := hex.DecodeString(strings.ReplaceAll(id, "-", "")) // They are, as was matched.
	return "\x00" + string(digits)
}

// rolledUp returns the stored form of one policy of a device: the digit of its status
// and the packed policy. Where that begins with 0, the digit with 128 added takes its
// place.
func rolledUp(policy, digit string) string {
	id := packed(policy)
	if id[0] != 0 {
		return digit + id
	}
	return string([]byte{digit[0] + 128}) + id[1:]
}
