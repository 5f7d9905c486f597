package compliance

import (
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// Defaults of the properties that cannot be null, where no report has set them.
const (
	// NoGracePeriod is the default of complianceGracePeriodExpirationDateTime.
	NoGracePeriod = "9999-12-31T23:59:59.9999999Z"
	// NeverReported is the default of lastReportedDateTime.
	NeverReported = "0001-01-01T00:00:00Z"
)

// Record is what is known of one device under one policy: of each property its
// value and the version that set it. The zero Record is that of a device of
// which no report came. A record whose id is cleared is a tombstone: what is
// left of a removed one.
type Record struct {
	Values   [NumProperties]Value
	Versions [NumProperties]Version
	// StoredMillis is, of a tombstone, the greatest store time of the reports
	// merged into it, in Unix milliseconds; otherwise 0. It is the greatest only
	// where store times ascend in the order of merging, as within a stream; it
	// decides nothing but when the tombstone is taken away.
	StoredMillis int64
	// UnreadGrace is what is known of the end of a grace period whose value was not
	// read, as in [Facts]; [GraceUnknown] where that is nothing.
	UnreadGrace int64
}

// Empty reports whether no report was merged: there is neither record nor
// tombstone.
func (r *Record) Empty() bool { return r.Values[ID].Kind == Unset }

// Exists reports whether there is a record, which is exactly while its id is set.
func (r *Record) Exists() bool {
	return r.Values[ID].Kind == Text || r.Values[ID].Kind == Unread
}

// Tombstone reports whether this is what is left of a removed record.
func (r *Record) Tombstone() bool { return r.Values[ID].Kind == Cleared }

// Expired reports whether this is a tombstone that is to be taken away when a
// bucket has come to a report stored at this time. A keep of 0 keeps it for ever.
func (r *Record) Expired(stored time.Time, keep time.Duration) bool {
	return r.Tombstone() && keep > 0 && stored.UnixMilli()-r.StoredMillis >= keep.Milliseconds()
}

// Status returns the record's status; unknown where it was never set.
func (r *Record) Status() Status { return storedStatus(r.Values[StatusProperty].Text) }

// Standing returns what the counts need to know.
func (r *Record) Standing() Standing {
	if !r.Exists() {
		return Standing{}
	}
	return Standing{Exists: true, Status: r.Status()}
}

// Newest returns the version of the record's newest event, which is that of its
// id.
func (r *Record) Newest() Version { return r.Versions[ID] }

// JSON returns the record of a device as the documented object: @odata.type and
// all nine properties, those that were never set with their defaults. Dates and
// strings have the text that was sent.
func (r *Record) JSON(device string) []byte {
	b := make([]byte, 0, 512)
	b = append(b, `{"@odata.type":"`+ODataType+`"`...)
	for p := range Property(NumProperties) {
		b = append(b, `,"`...)
		b = append(b, p.String()...)
		b = append(b, `":`...)
		b = r.appendValue(b, p, device)
	}
	return append(b, '}')
}

func (r *Record) appendValue(b []byte, p Property, device string) []byte {
	v := r.Values[p]
	switch p {
	case ID:
		return appendQuoted(b, device)
	case Platform:
		if v.Kind != Text {
			return append(b, '0')
		}
		return append(b, v.Text...)
	case StatusProperty:
		return appendQuoted(b, r.Status().String())
	case GracePeriodExpiration:
		if v.Kind != Text {
			return appendQuoted(b, NoGracePeriod)
		}
	case LastReported:
		if v.Kind != Text {
			return appendQuoted(b, NeverReported)
		}
	case DeviceDisplayName, UserName, DeviceModel, UserPrincipalName:
		if v.Kind != Text {
			return append(b, "null"...)
		}
	}
	return appendQuoted(b, v.Text)
}

func appendQuoted(b []byte, text string) []byte {
	// Decode lets no text in that is not UTF-8, and a sink whose bytes rotted must
	// not stop a read: they come out as U+FFFD.
	quoted, _ := jsontext.AppendQuote(b, text)
	return quoted
}
