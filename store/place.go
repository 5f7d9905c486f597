package store

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/complianced/complianced/compliance"
)

// order is one of the orders that a list can have. It begins a cursor.
type order string

const (
	// byDevice is the order of buckets, devices and policies.
	byDevice order = "d"
	// byStatus is the order of buckets and of the index of what needs attention: of the
	// numbers of statuses, and of the hashes of devices.
	byStatus order = "s"
)

// place is a place in an order: after a record or, where there is no policy in
// byDevice, after all those of a device. Where there is no device, it is before the
// first one of the bucket, or of the status. In byStatus the policy is there only where
// the record is of another one than the list.
type place struct {
	order  order
	bucket int
	status compliance.Status
	device string
	policy string
}

// ErrCursor says that a cursor is none, or that of a list in another order.
var ErrCursor = errors.New("the cursor is not one of this list; take the one that the page before ended with, and the same filters")

// cursor returns the place as a text, which means nothing to anybody else.
func (p place) cursor() string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%s|%d|%d|%s|%s", p.order, p.bucket, p.status, p.device, p.policy))
}

// parseCursor is the inverse of cursor. The empty cursor is the beginning. The error is
// [ErrCursor].
func parseCursor(o order, cursor string, buckets int) (place, error) {
	begin := place{order: o}
	if cursor == "" {
		return begin, nil
	}
	text, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	fields := strings.Split(string(text), "|")
	if err != nil || len(fields) != 5 || fields[0] != string(o) {
		return begin, ErrCursor
	}
	bucket, errBucket := strconv.ParseUint(fields[1], 10, 16)
	status, errStatus := strconv.ParseUint(fields[2], 10, 8)
	p := place{order: o, bucket: int(bucket), status: compliance.Status(status), device: fields[3], policy: fields[4]}
	if errBucket != nil || errStatus != nil || p.bucket >= buckets || p.status > compliance.NumStatuses ||
		p.device != "" && !compliance.ValidID(p.device) || p.policy != "" && !compliance.ValidID(p.policy) ||
		p.cursor() != cursor {
		return begin, ErrCursor
	}
	return p, nil
}
