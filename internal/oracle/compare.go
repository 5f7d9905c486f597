package oracle

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Compare returns in words where Redis is not what the state demands: every key
// missing, too many, of another type, with an expiry, and every field that is
// another. None at all means that Redis is right.
func Compare(state State, have Snapshot) []string {
	return differences(state.keys(have), have)
}

// Equal returns in words where two states of Redis are not the same: keys, types
// and values, hashes without regard to order. It leaves aside what depends on
// when and how often things happened: the text of floors and seals, the store times of
// tombstones and when a gap was seen.
func Equal(want, have Snapshot) []string {
	return differences(want.timeless(), have.timeless())
}

// timeless returns the snapshot without what [Equal] leaves aside.
func (s Snapshot) timeless() Snapshot {
	all := Snapshot{}
	for key, e := range s {
		switch {
		case strings.HasSuffix(key, ":|floor"), strings.HasSuffix(key, ":|seal"):
			e.Text = ""
		case strings.HasSuffix(key, ":|gaps"):
			e.Fields = blank(e.Fields)
		case strings.HasSuffix(key, ":|tombs"):
			e.Scores = blank(e.Scores)
		default:
			if millis, is := tombstoneMillis(e.Fields); is {
				e.Fields = maps.Clone(e.Fields)
				e.Fields["v"] = strings.TrimSuffix(e.Fields["v"], word(uint64(millis)))
			}
		}
		all[key] = e
	}
	return all
}

// selfTest is the key by which a store finds out whether transactions work. A
// store that was killed meanwhile leaves it for a minute.
var selfTest = regexp.MustCompile(`^cs:\{[0-9a-f]{2}\}:\|selftest:`)

func differences(want, have Snapshot) []string {
	var found []string
	for _, key := range slices.Sorted(maps.Keys(union(want, have))) {
		wanted, wants := want[key]
		e, has := have[key]
		switch {
		case !has:
			found = append(found, key+" is missing")
		case !wants && e.Expires && selfTest.MatchString(key):
		case !wants:
			found = append(found, fmt.Sprintf("%s is too many: a %s", key, e.Type))
		default:
			for _, what := range wanted.differences(e) {
				found = append(found, key+" "+what)
			}
		}
	}
	return found
}

func (e Entry) differences(have Entry) []string {
	var found []string
	if e.Expires != have.Expires {
		found = append(found, fmt.Sprintf("expires: %t, want %t", have.Expires, e.Expires))
	}
	if e.Type != have.Type {
		return append(found, fmt.Sprintf("is a %s, want a %s", have.Type, e.Type))
	}
	if e.Text != have.Text {
		found = append(found, fmt.Sprintf("is %q, want %q", have.Text, e.Text))
	}
	found = append(found, differentFields("field", e.Fields, have.Fields)...)
	return append(found, differentFields("score of", e.Scores, have.Scores)...)
}

func differentFields[V comparable](what string, want, have map[string]V) []string {
	var found []string
	for _, name := range slices.Sorted(maps.Keys(union(want, have))) {
		wanted, wants := want[name]
		value, has := have[name]
		switch {
		case !has:
			found = append(found, fmt.Sprintf("%s %q is missing, want %#v", what, name, wanted))
		case !wants:
			found = append(found, fmt.Sprintf("%s %q is too many: %#v", what, name, value))
		case value != wanted:
			found = append(found, fmt.Sprintf("%s %q is %#v, want %#v", what, name, value, wanted))
		}
	}
	return found
}

func union[V any](a, b map[string]V) map[string]V {
	all := maps.Clone(a)
	if all == nil {
		all = map[string]V{}
	}
	maps.Copy(all, b)
	return all
}

// blank returns a copy in which every entry has the zero value.
func blank[V any](m map[string]V) map[string]V {
	var zero V
	m = maps.Clone(m)
	for name := range m {
		m[name] = zero
	}
	return m
}
