package store

import (
	"encoding/hex"
	"errors"
	"slices"
	"strings"

	"github.com/complianced/complianced/compliance"
)

// rollup are the policies of a device, in ascending order, each with the status of its
// record. A device without records has none.
//
// Its stored form is, for each policy, the number of the status as a digit, and the
// policy: one that is a UUID in lower case as its 16 bytes, any other as its length in
// one byte and its text. The digit of a UUID has 128 added. Five policies of a device
// take 85 bytes instead of 190, which is a tenth of what the whole device takes.
type rollup []standing

type standing struct {
	policy string
	status compliance.Status
}

const (
	uuidLength = 36
	uuidBit    = 0x80
)

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
		digit := '0' + byte(s.status)
		if id, ok := packUUID(s.policy); ok {
			b = append(append(b, digit|uuidBit), id[:]...)
			continue
		}
		b = append(append(b, digit, byte(len(s.policy))), s.policy...)
	}
	return string(b)
}

// parseRollup is the inverse of encode. The error is errRollup also where a text is
// not what encode writes.
func parseRollup(text string) (rollup, error) {
	var r rollup
	for rest := text; rest != ""; {
		digit := rest[0] &^ uuidBit
		isUUID := rest[0]&uuidBit != 0
		n, from := 16, 1
		if !isUUID {
			if len(rest) < 2 {
				return nil, errRollup
			}
			n, from = int(rest[1]), 2
		}
		if len(rest) < from+n || digit < '0' || digit >= '0'+compliance.NumStatuses {
			return nil, errRollup
		}
		policy := rest[from : from+n]
		if isUUID {
			policy = unpackUUID(policy)
		}
		rest = rest[from+n:]
		if !compliance.ValidID(policy) || len(r) > 0 && r[len(r)-1].policy >= policy {
			return nil, errRollup
		}
		r = append(r, standing{policy, compliance.Status(digit - '0')})
	}
	if r.encode() != text {
		return nil, errRollup
	}
	return r, nil
}

// packUUID returns the bytes of a UUID in lower case; false for any other text.
func packUUID(text string) (id [16]byte, ok bool) {
	if len(text) != uuidLength || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return id, false
	}
	digits := text[:8] + text[9:13] + text[14:18] + text[19:23] + text[24:]
	if _, err := hex.Decode(id[:], []byte(digits)); err != nil || unpackUUID(string(id[:])) != text {
		return id, false
	}
	return id, true
}

func unpackUUID(id string) string {
	digits := hex.EncodeToString([]byte(id))
	return digits[:8] + "-" + digits[8:12] + "-" + digits[12:16] + "-" + digits[16:20] + "-" + digits[20:]
}
