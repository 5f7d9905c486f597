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

// The names of records in the indexes of grace periods and of what needs attention.
var (
	PackKey   = packKey
	UnpackKey = unpackKey
)

// MemberOf returns a function that makes the name of a record as a transaction does.
func MemberOf(k compliance.Key) func() string {
	c, memory := newChanges(), new(texts)
	policy := c.policy(k.Policy)
	return func() string { return c.member(policy, k.Device, memory) }
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

// Derived returns all that follows from the records of a bucket, as Redis has it.
func (m *Memory) Derived(b compliance.Bucket) map[string]any {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.bucket(b).derive().keys(b)
}

// keys returns hashes as maps of texts and sorted sets as maps of scores, by key.
func (d *derived) keys(b compliance.Bucket) map[string]any {
	hashes := map[string]map[string]string{
		countsName: inText(d.counts, statusCounterField), worstName: inText(d.worst, worstField),
		daysName: inText(d.days, dayCounterField), graceDaysName: inText(d.graceDays, dayCounterField), rollupName: {},
	}
	sets := map[string]map[string]float64{devicesName: {}, attentionName: scored(d.attention), graceName: scored(d.grace), tombsName: scored(d.tombstones)}
	for device, policies := range d.rollups {
		hashes[rollupName][device] = policies.encode()
		sets[devicesName][device] = 0
	}
	keys := map[string]any{}
	for name, fields := range hashes {
		if len(fields) > 0 {
			keys[tag(b)+name] = fields
		}
	}
	for name, scores := range sets {
		if len(scores) > 0 {
			keys[tag(b)+name] = scores
		}
	}
	return keys
}

func inText(of map[counter]int64, field func(counter) string) map[string]string {
	fields := map[string]string{}
	for c, n := range of {
		fields[field(c)] = strconv.FormatInt(n, 10)
	}
	return fields
}

func scored(of map[string]int64) map[string]float64 {
	scores := map[string]float64{}
	for member, score := range of {
		scores[member] = float64(score)
	}
	return scores
}

// Moved is what follows from records, moved with each report as a check moves it.
type Moved struct {
	derived *derived
	records map[compliance.Key]*compliance.Record
}

// NewMoved returns what follows from no record.
func NewMoved() *Moved { return &Moved{newDerived(), map[compliance.Key]*compliance.Record{}} }

// Merge merges a report.
func (m *Moved) Merge(report *compliance.Report) {
	record := m.records[report.Key]
	if record == nil {
		record = &compliance.Record{}
		m.records[report.Key] = record
	}
	before := knownOf(record)
	record.Merge(report)
	m.derived.move(report.Key, before, knownOf(record))
}

// Derived returns all that follows from the records, as Redis has it.
func (m *Moved) Derived(b compliance.Bucket) map[string]any { return m.derived.keys(b) }

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
