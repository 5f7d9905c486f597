package compliance

import (
	"fmt"
	"path"
	"slices"
	"sync"
	"time"
)

// Limits of a report.
const (
	// MaxBody is the greatest payload in bytes.
	MaxBody = 16 << 10
	// MaxDepth is how deep a payload may nest; the object itself is 1.
	MaxDepth = 16
	// MaxText is the greatest length of a string property in Unicode code points.
	MaxText = 256
	// MaxFuture is how far the event time may lie after the store time.
	MaxFuture = 10 * time.Minute
)

// Patterns are names of policies as path.Match has them: * stands for any
// characters, ? for one, [a-z] for one of a range.
type Patterns []string

// Validate returns an error that names the first pattern that is malformed.
func (p Patterns) Validate() error {
	for _, pattern := range p {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("policy pattern %q: %w", pattern, err)
		}
	}
	return nil
}

// Match reports whether a policy matches one of the patterns. No patterns at all
// match every policy.
func (p Patterns) Match(policy string) bool {
	for _, pattern := range p {
		if ok, err := path.Match(pattern, policy); ok && err == nil {
			return true
		}
	}
	return len(p) == 0
}

// Rules are the part of the configuration that decides, together with the report
// itself, whether it is refused. The zero value reads the only partition and
// allows every policy.
type Rules struct {
	// Partitions is the number of partitions. Defaults to 1.
	Partitions int
	// Partition is the one whose stream is read, from 0.
	Partition int
	// Allow are the policies to take. Defaults to all. What removes a record is taken
	// of every policy: the records of one that has left must be able to go.
	Allow Patterns
}

// Decode is [Rules.Decode] with the zero rules.
func Decode(e *Envelope) (Report, *Rejection) { return Rules{}.Decode(e) }

// Decode reads a report. It returns either the report or a rejection with every
// violation, in this order: subject, policy, size, text, members by position,
// event time. After a violation of size or text no member is looked at.
func (r Rules) Decode(e *Envelope) (Report, *Rejection) {
	d, _ := decodings.Get().(*decoding)
	defer decodings.Put(d)
	*d = decoding{report: Report{Sequence: e.Sequence, Stored: e.Stored}}
	named := d.subject(e.Subject, r)
	head := e.headers()
	if validReply(head.reply.value) {
		d.report.Reply = head.reply.value
	}
	ofSubject := len(d.violations)
	if len(e.Body) > MaxBody {
		d.violate(TooLarge, "", -1, "the payload is larger than 16 KiB")
	} else {
		d.body(e.Body)
	}
	if named && !d.report.Removed && !r.Allow.Match(d.report.Key.Policy) {
		d.violations = slices.Insert(d.violations, ofSubject, Violation{
			Code: PolicyNotAllowed, Offset: -1, Message: "the policy is not one of those that this deployment takes",
		})
	}
	d.report.Version.ID, d.report.EventID = e.eventID(&head, d.report.Key)
	d.eventTime(&head, e.Stored)
	if len(d.violations) > 0 {
		return Report{}, &Rejection{
			Key:        d.report.Key,
			Reply:      d.report.Reply,
			EventID:    d.report.EventID,
			EventTime:  d.report.Version.Time,
			Stored:     e.Stored,
			Violations: d.violations,
		}
	}
	if d.report.Removed {
		for p := range d.report.Values {
			d.report.Values[p] = Value{Kind: Cleared}
		}
	} else {
		d.report.Values[ID] = TextValue(d.report.Key.Device)
	}
	return d.report, nil
}

// decoding is the state of one Decode.
type decoding struct {
	report     Report
	violations []Violation
	// reported is the tick of lastReportedDateTime, where that is present,
	// right and not in year 1.
	reported    Ticks
	hasReported bool
	// reportedAt is its place in the payload.
	reportedAt int
}

var decodings = sync.Pool{New: func() any { return new(decoding) }}

func (d *decoding) violate(code Code, target string, offset int, message string) {
	d.violations = append(d.violations, Violation{Code: code, Target: target, Offset: offset, Message: message})
}

// subject reads the subject and reports whether it names a record.
func (d *decoding) subject(subject string, r Rules) bool {
	key, partition, err := ParseSubject(subject)
	if err != nil {
		d.violate(InvalidSubject, "", -1, err.Error())
		return false
	}
	d.report.Key = key
	want := Unpartitioned
	if r.Partitions > 1 {
		want = r.Partition
	}
	switch {
	case partition != want:
		d.violate(InvalidSubject, "", -1, "the report did not come by the subject mapping of this partition")
	case r.Partitions > 1 && share(key.Device, r.Partitions) != want:
		d.violate(InvalidSubject, "", -1, "the device belongs to another partition")
	}
	return true
}

// eventTime finds the event time (ce-time, else lastReportedDateTime, else the
// store time) and checks that it is not too far in the future.
func (d *decoding) eventTime(h *headers, storeTime time.Time) {
	stored, ok := TicksOf(storeTime)
	if !ok {
		d.violate(InvalidDateTime, "", -1, "the store time lies outside the years 0001 to 9999")
		return
	}
	limit := stored
	if h.stored.present {
		first, err := ParseStored(h.stored.value)
		if err != nil {
			d.violate(InvalidDateTime, HeaderStored, -1, "the header is not a DateTimeOffset in UTC with nine digits of a second")
			first = stored
		}
		limit = min(limit, first)
	}
	target, offset := "", -1
	switch {
	case h.eventTime.present:
		at, err := ParseDateTimeOffset(h.eventTime.value)
		if err != nil {
			d.violate(InvalidDateTime, HeaderEventTime, -1, err.Error())
			return
		}
		d.report.Version.Time, target = at.Ticks(), HeaderEventTime
	case d.hasReported:
		d.report.Version.Time, target, offset = d.reported, LastReported.String(), d.reportedAt
	default:
		d.report.Version.Time = stored
	}
	if d.report.Version.Time > limit+Ticks(MaxFuture/100) {
		d.violate(FutureEventTime, target, offset, "the event time is more than 10 minutes after the report was stored; is the clock right?")
	}
}
