package deadletter

import (
	"slices"
	"time"

	"github.com/complianced/complianced/compliance"
)

// Filter says which letters are meant. The zero value means all.
type Filter struct {
	// Codes are those of the leading violation. Defaults to all.
	Codes []compliance.Code
	// Policy and Device are those of the report. Default to all. A report whose subject
	// names no record has neither.
	Policy, Device string
	// Since and Until bound the store time of the report, both included. Default to no
	// bound.
	Since, Until time.Time
}

// Match reports whether a letter is meant.
func (f *Filter) Match(l *Letter) bool {
	stored := l.Envelope.Stored
	switch {
	case len(f.Codes) > 0 && !slices.Contains(f.Codes, l.Code),
		!f.Since.IsZero() && stored.Before(f.Since),
		!f.Until.IsZero() && stored.After(f.Until):
		return false
	case f.Policy == "" && f.Device == "":
		return true
	}
	key, _, err := compliance.ParseSubject(l.Envelope.Subject)
	return err == nil && (f.Policy == "" || f.Policy == key.Policy) && (f.Device == "" || f.Device == key.Device)
}

// subjects returns the subjects that the server filters by.
func (f *Filter) subjects() []string {
	var subjects []string
	for _, code := range f.Codes {
		subject := compliance.DeadPrefix + string(code) + ".>"
		if !slices.Contains(subjects, subject) { // The server refuses subjects that overlap.
			subjects = append(subjects, subject)
		}
	}
	return subjects
}
