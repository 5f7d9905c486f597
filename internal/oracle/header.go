package oracle

import (
	"maps"
	"slices"
	"strings"
)

// headerOf returns the header of a name without regard to case: of several
// spellings the smallest, and of its values the first.
func headerOf(header map[string][]string, name string) (value string, there bool) {
	for _, spelling := range slices.Sorted(maps.Keys(header)) {
		if values := header[spelling]; asciiLower(spelling) == name && len(values) > 0 {
			return values[0], true
		}
	}
	return "", false
}

// asciiLower leaves every letter but A to Z alone: the Kelvin sign is no k.
func asciiLower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + ('a' - 'A')
		}
		return r
	}, s)
}

// kept reports whether a header of a report is kept with its dead letter: those
// of CloudEvents, which have a name after the prefix, traceparent and the mark of a retry.
func kept(name string) bool {
	attribute, ours := strings.CutPrefix(asciiLower(name), "ce-")
	return ours && attribute != "" || asciiLower(name) == "traceparent" || asciiLower(name) == "compliance-retry-of"
}
