package graph_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/graph"
)

// sample is a record in the form of the test's own evaluation.
type sample struct {
	status   string
	platform int64
	// texts and the date are nil where they are null or never set.
	texts map[string]*string
	date  string
}

var (
	someTexts = []string{"", "a", "ab", "b", "it's", "ä'"}
	// someDates are in the order of their instants; the second and third are the same.
	someDates = []string{"0001-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "2026-01-01T02:00:00+02:00", "2026-01-01T00:00:00.0000001Z"}
	instants  = map[string]int{someDates[0]: 0, someDates[1]: 1, someDates[2]: 1, someDates[3]: 2}
	textNames = []string{"userPrincipalName", "deviceDisplayName"}
)

func drawSample(t *rapid.T) (sample, *graph.Item) {
	s := sample{
		status:   rapid.SampledFrom(compliance.Statuses()).Draw(t, "status").String(),
		platform: int64(rapid.IntRange(-1, 2).Draw(t, "platform")),
		texts:    map[string]*string{}, date: rapid.SampledFrom(someDates).Draw(t, "date"),
	}
	members := []string{
		fmt.Sprintf(`"status":%q`, s.status), fmt.Sprintf(`"platform":%d`, s.platform), fmt.Sprintf(`"lastReportedDateTime":%q`, s.date),
	}
	for _, name := range textNames {
		switch rapid.IntRange(0, 3).Draw(t, name) {
		case 0:
			members = append(members, fmt.Sprintf(`%q:null`, name))
		case 1:
		default:
			text := rapid.SampledFrom(someTexts).Draw(t, "text")
			s.texts[name] = &text
			members = append(members, fmt.Sprintf(`%q:%q`, name, text))
		}
	}
	if s.date == someDates[0] && rapid.Bool().Draw(t, "never") {
		members = slices.Delete(members, 2, 3)
	}
	report, rejection := compliance.Decode(&compliance.Envelope{
		Subject: "compliance.status.p.d", Body: []byte("{" + strings.Join(members, ",") + "}"), Sequence: 1,
		Header: map[string][]string{"ce-time": {"2026-01-01T00:00:00Z"}},
		Stored: compliance.Ticks(638_000_000_000_000_000).Time().AddDate(10, 0, 0),
	})
	if rejection != nil {
		t.Fatalf("%v: %s", rejection.Violations, members)
	}
	item := &graph.Item{Device: "d"}
	item.Record.Merge(&report)
	return s, item
}

// truth is true, false or nil, which is null.
type truth = *bool

func is(b bool) truth { return &b }

// drawFilter returns a filter, and the test's own evaluation of it.
func drawFilter(t *rapid.T, depth int) (string, func(sample) truth) {
	kind := rapid.IntRange(0, 8).Draw(t, "kind")
	if depth == 0 {
		kind %= 6
	}
	space := func() string { return rapid.SampledFrom([]string{" ", "  ", "\t"}).Draw(t, "space") }
	operators := []string{"eq", "ne", "gt", "ge", "lt", "le"}
	holds := func(op string, c int) truth {
		return is(map[string]bool{"eq": c == 0, "ne": c != 0, "gt": c > 0, "ge": c >= 0, "lt": c < 0, "le": c <= 0}[op])
	}
	switch kind {
	case 0:
		op, status := rapid.SampledFrom(operators[:2]).Draw(t, "operator"), rapid.SampledFrom(compliance.Statuses()).Draw(t, "status").String()
		form := rapid.SampledFrom([]string{"'%s'", "microsoft.graph.complianceStatus'%s'"}).Draw(t, "form")
		return "status" + space() + op + space() + fmt.Sprintf(form, status), func(s sample) truth { return is((s.status == status) == (op == "eq")) }
	case 1:
		op, n := rapid.SampledFrom(operators).Draw(t, "operator"), int64(rapid.IntRange(-1, 2).Draw(t, "number"))
		return "platform" + space() + strings.ToUpper(op) + space() + strconv.FormatInt(n, 10), func(s sample) truth { return holds(op, int(s.platform-n)) }
	case 2:
		op, date := rapid.SampledFrom(operators).Draw(t, "operator"), rapid.SampledFrom(someDates).Draw(t, "date")
		return "lastReportedDateTime " + op + " " + date, func(s sample) truth { return holds(op, instants[s.date]-instants[date]) }
	case 3:
		name, op := rapid.SampledFrom(textNames).Draw(t, "name"), rapid.SampledFrom(operators).Draw(t, "operator")
		if rapid.Bool().Draw(t, "null") {
			return name + " " + op + " null", func(s sample) truth {
				return is(op == "eq" && s.texts[name] == nil || op == "ne" && s.texts[name] != nil)
			}
		}
		text := rapid.SampledFrom(someTexts).Draw(t, "text")
		return name + " " + op + " " + literal(text), func(s sample) truth {
			if s.texts[name] == nil {
				return is(op == "ne")
			}
			return holds(op, strings.Compare(*s.texts[name], text))
		}
	case 4:
		name, text := rapid.SampledFrom(textNames).Draw(t, "name"), rapid.SampledFrom(someTexts).Draw(t, "text")
		return "startswith(" + name + "," + space() + literal(text) + ")", func(s sample) truth {
			if s.texts[name] == nil {
				return nil
			}
			return is(strings.HasPrefix(*s.texts[name], text))
		}
	case 5:
		numbers := rapid.SliceOfN(rapid.Int64Range(-1, 2), 1, 3).Draw(t, "numbers")
		var words []string
		for _, n := range numbers {
			words = append(words, strconv.FormatInt(n, 10))
		}
		return "platform in (" + strings.Join(words, ",") + ")", func(s sample) truth { return is(slices.Contains(numbers, s.platform)) }
	case 6:
		inner, eval := drawFilter(t, depth-1)
		return "not (" + inner + ")", func(s sample) truth {
			v := eval(s)
			if v == nil {
				return nil
			}
			return is(!*v)
		}
	}
	left, evalLeft := drawFilter(t, depth-1)
	right, evalRight := drawFilter(t, depth-1)
	return "(" + left + ") and (" + right + ")", func(s sample) truth {
		return and(evalLeft(s), evalRight(s))
	}
}

func and(a, b truth) truth {
	switch {
	case a != nil && !*a, b != nil && !*b:
		return is(false)
	case a == nil || b == nil:
		return nil
	}
	return is(true)
}

func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

func TestAFilterIsWhatItSays(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text, eval := drawFilter(t, 3)
		f, ok := graph.ParseFilter(text)
		if !ok {
			t.Fatalf("%s is refused", text)
		}
		s, item := drawSample(t)
		v := eval(s)
		want := v != nil && *v
		if have := f.Match(item); have != want {
			t.Errorf("%s of %+v is %t", text, s, have)
		}
		if status := item.Record.Status(); want && !slices.Contains(f.Statuses, status) || f.Exact && want != slices.Contains(f.Statuses, status) {
			t.Errorf("%s is %t of status %s, its statuses are %v, exact %t", text, want, status, f.Statuses, f.Exact)
		}
	})
}

func TestAndBindsMoreThanOr(t *testing.T) {
	t.Parallel()
	f, ok := graph.ParseFilter("status eq 'error' or status eq 'compliant' and status eq 'conflict' or not status ne 'unknown' and status in ('unknown')")
	if !ok || !f.Exact || !slices.Equal(f.Statuses, []compliance.Status{compliance.StatusUnknown, compliance.StatusError}) {
		t.Errorf("%t, statuses %v, exact %t", ok, f.Statuses, f.Exact)
	}
}

func FuzzParseFilter(f *testing.F) {
	for _, text := range []string{
		"status eq 'error'", "not (platform gt 1 or startswith(deviceDisplayName,'it''s'))", "status in ('error', microsoft.graph.complianceStatus'conflict')",
		"lastReportedDateTime ge 2026-01-01T00:00:00+01:00 and userPrincipalName ne null", "'", "((", "status eq microsoft.graph.complianceStatus", "'''",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		filter, ok := graph.ParseFilter(text)
		if !ok {
			return
		}
		for _, status := range compliance.Statuses() {
			item := &graph.Item{Device: "d"}
			item.Record.Values[compliance.ID] = compliance.TextValue("d")
			item.Record.Values[compliance.StatusProperty] = compliance.TextValue(strconv.Itoa(int(status)))
			matches, can := filter.Match(item), slices.Contains(filter.Statuses, status)
			if matches && !can || filter.Exact && matches != can {
				t.Errorf("%q has status %s: %t, can have it: %t, exact %t", text, status, matches, can, filter.Exact)
			}
		}
	})
}
