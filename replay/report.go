package replay

import (
	"context"
	"slices"

	"github.com/complianced/complianced/compliance"
)

// Report is a report as its source keeps it.
type Report struct {
	// Envelope is the report; its subject has the form that devices publish to.
	Envelope compliance.Envelope
	// Stream names where the report lies, or lay; empty where that is not known.
	Stream string
	// Misplaced says that the subject in this form names a record, but that the report was
	// refused because it did not come by the subject mapping of its partition. Sent again, it would come by
	// it, so it never is: it counts as rejected.
	Misplaced bool
	// Incomplete says that headers that decide or the body of a refused report are lost, as those of
	// a dead letter that had no room for them: what is left could be right. It is never
	// sent, and counts as rejected.
	Incomplete bool
	// place is where to go on from after this report; empty where only the number of
	// reports before it says so.
	place place
}

// place is a message in a stream that is read in sequence.
type place struct {
	stream   string
	sequence uint64
}

// Source hands over reports.
type Source interface {
	// Next returns the next report, and io.EOF after the last one. What it returns
	// stays valid.
	Next(ctx context.Context) (Report, error)
}

// newReport is a report from the stream of a partition, of so many.
func newReport(e compliance.Envelope, stream string, partitions int) Report {
	_, came, err := compliance.ParseSubject(e.Subject)
	r := Report{Envelope: e, Stream: stream, place: place{stream, e.Sequence}}
	r.Envelope.Subject = compliance.StatusSubject(e.Subject)
	if key, _, named := compliance.ParseSubject(r.Envelope.Subject); named == nil {
		want := compliance.Unpartitioned
		if partitions > 1 {
			want = compliance.Layout{Partitions: partitions}.PartitionOf(key.Device)
		}
		r.Misplaced = err != nil || came != want
	}
	return r
}

// decode decodes the report as the worker did that came upon it first.
func (r *Report) decode(allow compliance.Patterns) (compliance.Report, *compliance.Rejection) {
	rules := compliance.Rules{Allow: allow}
	if r.Misplaced {
		rules.Partitions = compliance.MaxBuckets // Every subject of this form is then misplaced.
	}
	return rules.Decode(&r.Envelope)
}

// Filter says which reports are replayed. The zero value takes all.
type Filter struct {
	// Policy and Device take the reports of a policy, of a device. Default to all.
	Policy, Device string
	// Codes take the reports that are refused and have one of these codes among their
	// violations. Default to all reports, also those that are right.
	Codes []compliance.Code
	// Allow are the policies that the deployment takes, for policyNotAllowed among
	// Codes. Defaults to all.
	Allow compliance.Patterns
}

// takes reports whether a report is to be replayed.
func (f *Filter) takes(r *Report) bool {
	if f.Policy != "" || f.Device != "" {
		key, _, err := compliance.ParseSubject(r.Envelope.Subject)
		if err != nil || f.Policy != "" && key.Policy != f.Policy || f.Device != "" && key.Device != f.Device {
			return false
		}
	}
	if len(f.Codes) == 0 {
		return true
	}
	_, rejection := r.decode(f.Allow)
	return rejection != nil && slices.ContainsFunc(rejection.Violations, func(v compliance.Violation) bool {
		return slices.Contains(f.Codes, v.Code)
	})
}

// Filtered is a source with the reports of another that a filter takes.
type Filtered struct {
	Source Source
	Filter Filter
	// Seen, where not nil, hears of each report that was read whether it is taken.
	Seen func(taken bool)
}

// Next has the contract of [Source].
func (f *Filtered) Next(ctx context.Context) (Report, error) {
	for {
		r, err := f.Source.Next(ctx)
		if err != nil {
			return Report{}, err
		}
		taken := f.Filter.takes(&r)
		if f.Seen != nil {
			f.Seen(taken)
		}
		if taken {
			return r, nil
		}
	}
}
