package compliance

import "cmp"

// Property is one of the nine documented members of a record.
type Property uint8

// The properties in their documented order.
const (
	ID Property = iota
	DeviceDisplayName
	UserName
	DeviceModel
	Platform
	GracePeriodExpiration
	StatusProperty
	LastReported
	UserPrincipalName
)

// NumProperties is the number of properties of a record.
const NumProperties = 9

var propertyNames = [NumProperties]string{
	"id", "deviceDisplayName", "userName", "deviceModel", "platform",
	"complianceGracePeriodExpirationDateTime", "status", "lastReportedDateTime", "userPrincipalName",
}

// Properties returns all properties in their documented order.
func Properties() []Property {
	return []Property{
		ID, DeviceDisplayName, UserName, DeviceModel, Platform,
		GracePeriodExpiration, StatusProperty, LastReported, UserPrincipalName,
	}
}

// String returns the property's name in JSON.
func (p Property) String() string { return propertyNames[p] }

// propertyOf returns the property with exactly this name, case included.
func propertyOf(name string) (Property, bool) {
	for p, n := range propertyNames {
		if n == name {
			return Property(p), true
		}
	}
	return 0, false
}

// propertyAfter is propertyOf for a name that is likely to be that of the property
// after this one.
func propertyAfter(p Property, name string) (Property, bool) {
	if next := p + 1; next < NumProperties && propertyNames[next] == name {
		return next, true
	}
	return propertyOf(name)
}

// Kind says what a property holds. The order of the kinds is part of the merge
// law: null is lower than any text, cleared is greater than any other value.
type Kind uint8

// What a property can hold.
const (
	// Unset is a property that no report has set.
	Unset Kind = iota
	// Null is a property that was set to null.
	Null
	// Text is a property that was set to a value.
	Text
	// Cleared is a property that a deletion cleared; it reads as never set.
	Cleared
	// Unread is a value that was not read from the sink. [Record.Ties] says for
	// which reports the law needs it.
	Unread
)

// Value is what a property holds: a kind and, of a text, the stored bytes. The
// zero Value is unset.
type Value struct {
	Kind Kind
	// Text is the stored form: platform the shortest decimal, status its
	// number, dates and strings as sent. It is empty unless Kind is Text.
	Text string
}

// TextValue returns the value with these stored bytes.
func TextValue(text string) Value { return Value{Kind: Text, Text: text} }

func (v Value) compare(w Value) int {
	if c := cmp.Compare(v.Kind, w.Kind); c != 0 {
		return c
	}
	return cmp.Compare(v.Text, w.Text)
}

// Version is what two values of a property are compared by: the event time,
// then the event id.
type Version struct {
	Time Ticks
	// ID is the 64-bit xxh3 of the event id.
	ID uint64
}

// Compare returns -1, 0 or 1 as v is less than, equal to or greater than w.
func (v Version) Compare(w Version) int {
	if c := cmp.Compare(v.Time, w.Time); c != 0 {
		return c
	}
	return cmp.Compare(v.ID, w.ID)
}
