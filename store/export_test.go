package store

import (
	"slices"
	"strconv"

	"github.com/complianced/complianced/compliance"
)

// What the tests of the stored forms need.
var (
	Decode      = decode
	DecodeHead  = decodeHead
	FormatFloor = formatFloor
	ParseFloor  = parseFloor
)

// Seal is the seal of a floor, as Redis has it.
func Seal(f compliance.Floor) string { return strconv.FormatInt(sealOf(f), 10) }

// FullFields are the names of what Decode reads.
var FullFields = fullFields

// Encode returns the hash of a record.
func Encode(r *compliance.Record) map[string]string {
	hash := map[string]string{}
	for pair := range slices.Chunk(encode(r), 2) {
		hash[pair[0]] = pair[1]
	}
	return hash
}

// Keys returns the key of a record, and what parsing it gives.
func Keys(b compliance.Bucket, k compliance.Key) (string, compliance.Key, bool) {
	name := recordKey(b, k)
	back, ok := parseRecordKey(name)
	return name, back, ok
}

// EncodeRollup returns the roll-up of a device after its policies got or lost their
// records in this order.
func EncodeRollup(policies []string, status func(policy string) (compliance.Status, bool)) string {
	var r rollup
	for _, policy := range policies {
		s, there := status(policy)
		r = r.set(policy, compliance.Standing{Exists: there, Status: s})
	}
	return r.encode()
}

// ParseRollup returns the policies of a device.
func ParseRollup(text string) (map[string]compliance.Status, error) {
	r, err := parseRollup(text)
	policies := map[string]compliance.Status{}
	for _, s := range r {
		policies[s.policy] = s.status
	}
	return policies, err
}

// Numbers returns the hashes of numbers that follow from the records of a bucket, by
// the names of their keys after the tag, as Redis has them.
func (m *Memory) Numbers(b compliance.Bucket) map[string]map[string]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.bucket(b).derive()
	numbers := map[string]map[string]string{}
	for name, of := range map[string]struct {
		counters map[counter]int64
		field    func(counter) string
	}{
		countsName: {d.counts, statusCounterField}, worstName: {d.worst, worstField},
		daysName: {d.days, dayCounterField}, graceDaysName: {d.graceDays, dayCounterField},
	} {
		numbers[name] = map[string]string{}
		for c, n := range of.counters {
			numbers[name][of.field(c)] = strconv.FormatInt(n, 10)
		}
	}
	return numbers
}

// Place is a place in the order of a list.
type Place = place

// NewPlace returns a place.
func NewPlace(o string, bucket, status int, device, policy string) Place {
	return place{order: order(o), bucket: bucket, status: compliance.Status(status), device: device, policy: policy}
}

// Cursor is the place as a text.
func (p place) Cursor() string { return p.cursor() }

// ParseCursor reads a cursor of an order.
func ParseCursor(o, cursor string, buckets int) (Place, error) {
	return parseCursor(order(o), cursor, buckets)
}
