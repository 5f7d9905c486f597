package store

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/complianced/complianced/compliance"
)

// digest tells whether the values that seldom change are those of before. Most reports
// repeat all of them; where the digests are equal, a transaction neither reads nor
// writes them.
//
// It is the first 16 bytes of the SHA-256 of the fields of described, in this order:
// 00 where there is no field, otherwise 01, the length in four bytes, big-endian, and
// the bytes. So it is a function of what is stored, and no two that anybody could
// find are the same.
type digest [digestBytes]byte

const digestBytes = 16

// described are the properties that describe a device and its grace period. The
// status is in the head, and the time of the report changes with each.
var described = [...]compliance.Property{
	compliance.DeviceDisplayName, compliance.UserName, compliance.DeviceModel, compliance.Platform,
	compliance.GracePeriodExpiration, compliance.UserPrincipalName,
}

var describedSet = func() (s compliance.PropertySet) {
	for _, p := range described {
		s = s.With(p)
	}
	return s
}()

// digestOf returns the digest of a record whose described values are known; it panics
// where one was not read. needsDescription says for which reports that cannot be.
func digestOf(r *compliance.Record) digest {
	var buffer [512]byte
	b := buffer[:0]
	for _, p := range described {
		if r.Values[p].Kind == compliance.Unread {
			panic("store: the digest needs the value of " + p.String() + ", which was not read")
		}
		text := storedValue(&r.Values[p])
		if text == nil {
			b = append(b, 0)
			continue
		}
		b = binary.BigEndian.AppendUint32(append(b, 1), uint32(len(*text)))
		b = append(b, *text...)
	}
	sum := sha256.Sum256(b)
	return digest(sum[:digestBytes])
}

// needsDescription reports whether the digest of what merging a report makes of a
// record needs values that were not read: it changes some of those described and
// leaves others.
func needsDescription(r *compliance.Record, report *compliance.Report) bool {
	moves, leaves := false, false
	for _, p := range described {
		switch {
		case report.Values[p].Kind != compliance.Unset && report.Version.Compare(r.Versions[p]) > 0:
			moves = true
		case r.Values[p].Kind == compliance.Unread:
			leaves = true
		}
	}
	return moves && leaves
}
