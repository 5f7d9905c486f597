package store

import (
	"strconv"
	"strings"

	"github.com/complianced/complianced/compliance"
)

// Kind says what is wrong.
type Kind string

// The kinds of differences.
const (
	// KindCount is the number of a policy's records in a status.
	KindCount Kind = "count"
	// KindDeviceCount is the number of devices of which a status is the worst.
	KindDeviceCount Kind = "device count"
	// KindDayCount is the number of a policy's records whose newest event lies on a day.
	KindDayCount Kind = "day count"
	// KindGraceCount is the number of a policy's grace periods that end on a day.
	KindGraceCount Kind = "grace count"
	// KindGrace is an entry of the index of grace periods.
	KindGrace Kind = "grace entry"
	// KindAttention is an entry of the index of what needs attention.
	KindAttention Kind = "attention entry"
	// KindDevice is an entry of the index of devices.
	KindDevice Kind = "device entry"
	// KindRollup is the status of a policy in the roll-up of a device.
	KindRollup Kind = "roll-up"
	// KindTombstone is an entry of the index of tombstones.
	KindTombstone Kind = "tombstone entry"
	// KindGap is an entry of the gaps that is none.
	KindGap Kind = "gap entry"
	// KindFloor is a floor that cannot be read, or none where there are records.
	KindFloor Kind = "floor"
	// KindUnreadable is a record that is none.
	KindUnreadable Kind = "unreadable record"
	// KindMissing is a record that the roll-up of its device names and that is not there.
	KindMissing Kind = "missing record"
	// KindUnindexed is a record that is in no index.
	KindUnindexed Kind = "unindexed record"
	// KindMisplaced is a record under the tag of another bucket than that of its device,
	// which nothing reads or counts. It is never deleted: what is in it may be nowhere
	// else.
	KindMisplaced Kind = "misplaced record"
	// KindUnknown is a key that complianced has not written. It is never deleted.
	KindUnknown Kind = "unknown key"
	// KindRecord is a record that differs from what the stream makes of it.
	KindRecord Kind = "record"
)

// Mendable says that a repair puts it right by itself: it follows from the records.
func (k Kind) Mendable() bool {
	switch k {
	case KindMissing, KindUnreadable, KindMisplaced, KindUnknown, KindRecord:
		return false
	case KindCount, KindDeviceCount, KindDayCount, KindGraceCount, KindGrace, KindAttention, KindDevice, KindRollup,
		KindTombstone, KindGap, KindFloor, KindUnindexed:
	}
	return true
}

// Difference is one thing in a bucket that is not what follows from its records.
type Difference struct {
	// Bucket is 0 where a key has the tag of none.
	Bucket compliance.Bucket `json:"bucket"`
	Kind   Kind              `json:"kind"`
	Policy string            `json:"policy,omitempty"`
	// Device is for the eyes of the operator who asked: it goes to no log.
	Device string `json:"device,omitempty"`
	// Status and Day are what a count counts.
	Status string `json:"status,omitempty"`
	Day    string `json:"day,omitempty"`
	// Name is that of an entry that names nothing, or of a key out of place.
	Name string `json:"name,omitempty"`
	Want string `json:"want"`
	Have string `json:"have"`
}

// What stands in the place of a value.
const (
	sayNone       = "none"
	sayUnreadable = "unreadable"
	sayOtherType  = "a key of another type"
)

// legible returns a name as it is, or in quotes where it has bytes that nobody can read.
func legible(name string) string {
	if quoted := strconv.Quote(name); quoted[1:len(quoted)-1] != name {
		return quoted
	}
	return name
}

func orNone(text string) string {
	if text == "" {
		return sayNone
	}
	return text
}

// describe adds to the list what is wrong with an entry. It reports whether a record
// may be lost: one that is named is not there, or is none.
func (v *view) describe(list []Difference, e entryID) (_ []Difference, lost bool) {
	if e.part == partRecords {
		key, _ := parseMember(e.name)
		return append(list, Difference{
			Bucket: v.bucket, Kind: KindUnreadable, Policy: key.Policy, Device: key.Device, Want: "a record", Have: sayUnreadable,
		}), true
	}
	d := Difference{Bucket: v.bucket, Kind: e.part.kind(), Want: orNone(v.wanted(e)), Have: orNone(v.live[e.part][e.name])}
	var key compliance.Key
	ok := true
	switch e.part {
	case partCounts:
		var status compliance.Status
		d.Policy, status, ok = parseCountField(e.name)
		d.Status = status.String()
	case partWorst:
		d.Status = e.name
	case partDays, partGraceDays:
		var day compliance.Day
		d.Policy, day, ok = parseDayField(e.name)
		d.Day = day.String()
	case partGaps:
		d.Name, d.Want = e.name, "a gap"
	case partDevices:
		d.Device = e.name
	case partGrace, partTombstones, partAttention:
		key, ok = keyOfEntry(e)
		d.Policy, d.Device = key.Policy, key.Device
		if e.part == partAttention {
			d.inStatuses(key)
		}
		lost = ok && v.gone(key)
	case partRollup:
		return v.describeRollup(list, e.name)
	case partRecords:
	}
	if !ok {
		d.Policy, d.Device, d.Status, d.Day, d.Name = "", "", "", "", legible(e.name)
	}
	return append(list, d), lost
}

// inStatuses says which statuses the scores of a record stand for.
func (d *Difference) inStatuses(key compliance.Key) {
	for _, text := range []*string{&d.Have, &d.Want} {
		if *text == sayNone {
			continue
		}
		score, err := strconv.ParseInt(*text, 10, 64)
		status, ok := attentionStatus(key, score)
		if err != nil || !ok {
			*text = "score " + *text
			continue
		}
		*text, d.Status = status.String(), status.String()
	}
}

// describeRollup compares the roll-up of a device policy by policy.
func (v *view) describeRollup(list []Difference, device string) (_ []Difference, lost bool) {
	want := v.want.rollups[device]
	text := v.live[partRollup][device]
	have, err := parseRollup(text)
	if err != nil {
		return append(list, Difference{Bucket: v.bucket, Kind: KindRollup, Device: device, Want: want.names(), Have: sayUnreadable}), false
	}
	_, listed := v.live[partDevices][device]
	statuses := map[string]compliance.Status{}
	for _, s := range have {
		statuses[s.policy] = s.status
	}
	for _, s := range want {
		d := Difference{Bucket: v.bucket, Kind: KindRollup, Device: device, Policy: s.policy, Want: s.status.String()}
		status, there := statuses[s.policy]
		delete(statuses, s.policy)
		switch {
		case there && status == s.status:
			continue
		case there:
			d.Have = status.String()
		case text == "" && !listed:
			d.Kind, d.Want, d.Have = KindUnindexed, "in the indexes", sayNone
		default:
			d.Have = sayNone
		}
		list = append(list, d)
	}
	for policy, status := range statuses {
		key := compliance.Key{Policy: policy, Device: device}
		d := Difference{Bucket: v.bucket, Kind: KindRollup, Device: device, Policy: policy, Want: sayNone, Have: status.String()}
		if v.unreadable[key] {
			continue // It has a difference of its own.
		}
		if v.gone(key) {
			d.Kind, d.Want, d.Have, lost = KindMissing, status.String(), sayNone, true
		}
		list = append(list, d)
	}
	return list, lost
}

// names shows a roll-up.
func (r rollup) names() string {
	if len(r) == 0 {
		return sayNone
	}
	names := make([]string, len(r))
	for i, s := range r {
		names[i] = s.policy + "=" + s.status.String()
	}
	return strings.Join(names, " ")
}
