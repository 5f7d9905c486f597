package graph

import (
	"net/http"
	"strings"
)

// preferences are those of RFC 7240 that are honoured; all others are ignored, as it
// wants.
type preferences struct {
	async   bool
	minimal bool
	// representation says that the record was asked for in so many words.
	representation bool
}

func parsePreferences(header http.Header) preferences {
	var p preferences
	seenReturn := false
	for _, line := range header.Values("Prefer") {
		for part := range strings.SplitSeq(line, ",") {
			token, _, _ := strings.Cut(part, ";")
			name, value, _ := strings.Cut(token, "=")
			value = strings.Trim(strings.TrimSpace(value), `"`)
			switch strings.ToLower(strings.TrimSpace(name)) {
			case "respond-async":
				p.async = true
			case "return":
				if !seenReturn { // Of one that is there twice the first counts.
					p.minimal, p.representation = strings.EqualFold(value, "minimal"), strings.EqualFold(value, "representation")
				}
				seenReturn = true
			}
		}
	}
	return p
}

// Names of preferences in Preference-Applied.
const (
	appliedAsync   = "respond-async"
	appliedMinimal = "return=minimal"
	appliedWhole   = "return=representation"
)

// whole returns the answer that has the body, unless none is wanted.
func (p preferences) whole(body []byte) answer {
	switch {
	case p.minimal:
		return answer{status: http.StatusNoContent, header: map[string]string{"Preference-Applied": appliedMinimal}}
	case p.representation:
		return answer{status: http.StatusOK, body: body, header: map[string]string{"Preference-Applied": appliedWhole}}
	}
	return answer{status: http.StatusOK, body: body}
}
