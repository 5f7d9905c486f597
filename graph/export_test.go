package graph

import (
	"net/http"
	"net/url"

	"github.com/complianced/complianced/compliance"
)

// Filter is a $filter that was read.
type Filter struct {
	// Match tells whether the filter has a record.
	Match func(*Item) bool
	// Statuses are those that its records can have; Exact says that it asks for nothing else.
	Statuses []compliance.Status
	Exact    bool
}

// ParseFilter reads a $filter; false where it is none.
func ParseFilter(text string) (Filter, bool) {
	f, problem := parseFilter(text)
	if problem != nil {
		return Filter{}, false
	}
	return Filter{Match: f.match(), Statuses: f.statuses(), Exact: f.exact()}, true
}

// Accepts reports whether a header Accept takes JSON.
func Accepts(lines ...string) bool { return accepts(http.Header{"Accept": lines}) }

// Route returns what a path names; false where it names nothing.
func Route(path string) (resource string, key compliance.Key, ok bool) {
	u, err := url.Parse(path)
	if err != nil {
		return "", compliance.Key{}, false
	}
	at, problem := parseRoute(u)
	return at.address(), at.key, problem == nil
}

// BodyID returns the id that a report names.
func BodyID(body string) (string, bool) { return bodyID([]byte(body)) }

// DeltaMembers returns the number of members of a delta; -1 where the body is none, -2
// where it is a wrong one.
func DeltaMembers(body string) int {
	members, isDelta, problem := deltaMembers([]byte(body))
	switch {
	case problem != nil:
		return -2
	case !isDelta:
		return -1
	}
	return len(members)
}
