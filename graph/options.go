package graph

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/complianced/complianced/compliance"
)

// Limits of a list.
const (
	// MaxTop is the greatest $top, and defaultTop the one of a request without.
	MaxTop     = 1000
	defaultTop = 100
)

// option is a query option of OData.
type option string

const (
	optionFilter    option = "$filter"
	optionSelect    option = "$select"
	optionTop       option = "$top"
	optionCount     option = "$count"
	optionSkipToken option = "$skiptoken"
)

// options are the query options of a request.
type options struct {
	filter     filter
	filterText string
	selected   []compliance.Property
	top        int
	topText    string
	count      bool
	skipToken  string
}

// parseOptions reads the query of an address. An option that is not among those that the
// resource has is an error.
func parseOptions(u *url.URL, has ...option) (options, *problem) {
	q := options{top: defaultTop}
	values, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return q, badRequest(codeInvalidQuery, "", "the query of the address is not well-formed")
	}
	seen := map[option]bool{}
	for name, list := range values {
		// OData 4.01 takes the names in any case, and without the $.
		o := option("$" + strings.ToLower(strings.TrimPrefix(name, "$")))
		if !slices.Contains(has, o) {
			return q, unsupportedOption(has)
		}
		if seen[o] || len(list) > 1 {
			return q, badRequest(codeInvalidQuery, string(o), "%s is there more than once", o)
		}
		seen[o] = true
		if problem := q.set(o, list[0]); problem != nil {
			return q, problem
		}
	}
	return q, nil
}

func unsupportedOption(has []option) *problem {
	if len(has) == 0 {
		return badRequest(codeNotSupported, "", "query options are not supported with this resource")
	}
	names := make([]string, len(has))
	for i, o := range has {
		names[i] = string(o)
	}
	return badRequest(codeNotSupported, "", "a query option is not supported: this resource has %s", strings.Join(names, ", "))
}

func (q *options) set(o option, text string) *problem {
	var problem *problem
	switch o {
	case optionFilter:
		q.filterText = text
		q.filter, problem = parseFilter(text)
	case optionSelect:
		q.selected, problem = parseSelect(text)
	case optionTop:
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil || n > MaxTop {
			return badRequest(codeInvalidQuery, string(o), "$top is a number from 0 to %d", MaxTop)
		}
		q.top, q.topText = int(n), text
	case optionCount:
		if text != "true" && text != "false" {
			return badRequest(codeInvalidQuery, string(o), "$count is true or false")
		}
		q.count = text == "true"
	case optionSkipToken:
		if q.skipToken = text; text == "" {
			return expiredLink()
		}
	}
	return problem
}

func parseSelect(text string) ([]compliance.Property, *problem) {
	var selected []compliance.Property
	all := false
	for name := range strings.SplitSeq(text, ",") {
		if name = strings.TrimSpace(name); name == "*" {
			all = true
			continue
		}
		p, ok := propertyOf(name)
		if !ok {
			return nil, badRequest(codeInvalidQuery, string(optionSelect), "$select has a name that is not a property: those are %s", propertyNames())
		}
		if !slices.Contains(selected, p) {
			selected = append(selected, p)
		}
	}
	if all {
		return nil, nil
	}
	return selected, nil
}

func propertyOf(name string) (compliance.Property, bool) {
	for _, p := range compliance.Properties() {
		if p.String() == name {
			return p, true
		}
	}
	return 0, false
}

func propertyNames() string {
	var names []string
	for _, p := range compliance.Properties() {
		names = append(names, p.String())
	}
	return strings.Join(names, ", ")
}

// selection returns what a context says of the selected properties.
func (q *options) selection() string {
	if len(q.selected) == 0 {
		return ""
	}
	return "(" + q.selectText() + ")"
}

func (q *options) selectText() string {
	names := make([]string, len(q.selected))
	for i, p := range q.selected {
		names[i] = p.String()
	}
	return strings.Join(names, ",")
}

// encode returns the options but the place in the list as a query, beside others.
func (q *options) encode(more url.Values) string {
	for o, text := range map[option]string{
		optionFilter: q.filterText, optionSelect: q.selectText(), optionTop: q.topText,
	} {
		if text != "" {
			more.Set(string(o), text)
		}
	}
	if q.count {
		more.Set(string(optionCount), "true")
	}
	// The $ of the names may stand as it is, and is easier to read.
	return strings.ReplaceAll(more.Encode(), "%24", "$")
}
