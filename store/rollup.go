package store

import (
	"errors"
	"slices"
	"strings"

	"github.com/complianced/complianced/compliance"
)

// rollup are the policies of a device, in ascending order, each with the status of its
// record. A device without records has none. packedRollup is its stored form.
type rollup []standing

type standing struct {
	policy string
	status compliance.Status
}

var errRollup = errors.New("not the roll-up of a device")

// set gives a policy a status, or takes it away.
func (r rollup) set(policy string, s compliance.Standing) rollup {
	at, found := slices.BinarySearchFunc(r, policy, func(s standing, policy string) int { return strings.Compare(s.policy, policy) })
	switch {
	case !s.Exists && found:
		return slices.Delete(r, at, at+1)
	case !s.Exists:
		return r
	case found:
		r[at].status = s.Status
		return r
	}
	return slices.Insert(r, at, standing{policy, s.Status})
}

func (r rollup) has(policy string) bool {
	return slices.ContainsFunc(r, func(s standing) bool { return s.policy == policy })
}

// worst returns the status of the device; false where it has no records.
func (r rollup) worst() (compliance.Status, bool) {
	if len(r) == 0 {
		return 0, false
	}
	return slices.MaxFunc(r, func(a, b standing) int { return a.status.Severity() - b.status.Severity() }).status, true
}

func (r rollup) encode() string {
	b := make([]byte, 0, 24*len(r))
	for _, s := range r {
		b = append(b, packID(s.policy).entry(s.status)...)
	}
	return string(b)
}

// parseRollup is the inverse of encode. The error is errRollup also where a text is
// not what encode writes.
func parseRollup(text string) (rollup, error) {
	packed := packedRollup(text)
	if !packed.valid() {
		return nil, errRollup
	}
	var r rollup
	for at := 0; at < len(packed); {
		p, status, end, _ := packed.next(at)
		r = append(r, standing{p.text(), status})
		at = end
	}
	return r, nil
}

const uuidBit = 0x80

// packedRollup is, for each policy, the number of the status as a digit, and the
// policy: one that is a UUID in lower case as its 16 bytes, any other as its length in
// one byte and its text. The digit of a UUID has 128 added. Five policies of a device
// take 85 bytes instead of 190, which is a tenth of what the whole device takes.
type packedRollup string

// entry is a policy with a status, as it stands in a roll-up.
func (p packedID) entry(s compliance.Status) string {
	digit := '0' + byte(s)
	if p.isUUID {
		return string([]byte{digit | uuidBit}) + p.name
	}
	return string([]byte{digit, byte(len(p.name))}) + p.name
}

// next reads the entry that begins at a place.
func (r packedRollup) next(at int) (p packedID, s compliance.Status, end int, ok bool) {
	digit := r[at] &^ uuidBit
	p.isUUID = r[at]&uuidBit != 0
	from, n := at+1, uuidBytes
	if !p.isUUID {
		if from == len(r) {
			return p, 0, 0, false
		}
		from, n = from+1, int(r[from])
	}
	end = from + n
	if end > len(r) || digit < '0' || digit >= '0'+compliance.NumStatuses {
		return p, 0, 0, false
	}
	p.name = string(r[from:end])
	return p, compliance.Status(digit - '0'), end, true
}

// valid tells whether this is what encode writes.
func (r packedRollup) valid() bool {
	var last packedID
	for at := 0; at < len(r); {
		p, _, end, ok := r.next(at)
		if !ok || at > 0 && last.compare(p) >= 0 || !p.valid() {
			return false
		}
		at, last = end, p
	}
	return true
}

// worst is that of a rollup.
func (r packedRollup) worst() (worst compliance.Status, there bool) {
	for at := 0; at < len(r); {
		_, s, end, _ := r.next(at)
		if !there || s.Severity() > worst.Severity() {
			worst, there = s, true
		}
		at = end
	}
	return worst, there
}

// set returns the roll-up with another entry of a policy, or without one where that is
// empty.
func (r packedRollup) set(policy packedID, entry string, memory *texts) packedRollup {
	from, to := len(r), len(r)
	for at := 0; at < len(r); {
		p, _, end, _ := r.next(at)
		if order := p.compare(policy); order >= 0 {
			from, to = at, at
			if order == 0 {
				to = end
			}
			break
		}
		at = end
	}
	return packedRollup(memory.join(string(r[:from]), entry, string(r[to:])))
}
