package oracle_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/complianced/complianced/internal/oracle"
)

func TestADeadLetterThatIsDeletedIsMissing(t *testing.T) {
	d := deploy(t, single)
	stream, err := d.js.Stream(t.Context(), "COMPLIANCE_DEAD")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.DeleteMsg(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	found := oracle.CompareDeadLetters(d.state, d.letters())
	if len(found) != 1 || !strings.HasSuffix(found[0], " is missing") {
		t.Errorf("found %q", found)
	}
}

func TestEveryFaultAmongTheDeadLettersIsNamed(t *testing.T) {
	d := deploy(t, single)
	right := d.letters()
	n := slices.IndexFunc(right, func(m oracle.Message) bool { return m.Header["ce-source"] != nil })
	for _, fault := range []struct {
		name string
		make func(letters []oracle.Message) []oracle.Message
		want string
	}{
		{"one that is missing", func(all []oracle.Message) []oracle.Message { return all[1:] }, right[0].Subject + " is missing"},
		{"one that is there twice", func(all []oracle.Message) []oracle.Message { return append(all, all[0]) }, "2 times"},
		{"one that is too many", func(all []oracle.Message) []oracle.Message {
			return append(all, oracle.Message{Subject: "compliance.dead.x.y.1.2"})
		}, "x.y.1.2 is too many"},
		{"another body", func(all []oracle.Message) []oracle.Message { all[n].Body = nil; return all }, "has another body"},
		{"another error", header(n, "Compliance-Error", `{}`), "has other details"},
		{"an error of another code", edited(n, `"code":"badRequest"`, `"code":"x"`), `an error with code "x"`},
		{"an error of another target", edited(n, `"target":"status","details"`, `"target":"x","details"`), `an error with target "x"`},
		{"an error of another inner code", edited(n, `"innerError":{"code":"invalidStatus"`, `"innerError":{"code":"x"`), `an error with inner code "x"`},
		{"an error of another time", edited(n, `"date":"2`, `"date":"3`), "want the store time"},
		{"an error without a time", edited(n, `"date":`, `"data":`), "want the store time"},
		{"an error with a detail less", edited(n, `{"code":"typeMismatch"`, `{"code":"x"`), "has other details"},
		{"an error that is no JSON", header(n, "Compliance-Error", `{`), "has an error object that is none"},
		{"no code", header(n, "Compliance-Code"), "has header Compliance-Code"},
		{"another property", header(n, "Compliance-Property", "x"), "has header Compliance-Property"},
		{"another subject", header(n, "Compliance-Subject", "x"), "has header Compliance-Subject"},
		{"another stream", header(n, "Compliance-Stream", "x"), "has header Compliance-Stream"},
		{"another sequence", header(n, "Compliance-Sequence", "0"), "has header Compliance-Sequence"},
		{"another store time", header(n, "Compliance-Stored", "0"), "has header Compliance-Stored"},
		{"a header that was not kept", header(n, "ce-source"), "has header ce-source"},
		{"a header that is kept but must not be", header(n, "Secret", "no"), "has header Secret"},
	} {
		t.Run(fault.name, func(t *testing.T) {
			letters := fault.make(clone(right))
			found := strings.Join(oracle.CompareDeadLetters(d.state, letters), "\n")
			if !strings.Contains(found, fault.want) {
				t.Errorf("found %q, want %q", found, fault.want)
			}
		})
	}
}

func TestADeadLetterHasAsManyDetailsAsFit(t *testing.T) {
	d := deploy(t, single)
	right := d.letters()
	size := func(m oracle.Message) int { return len(m.Header["Compliance-Error"][0]) }
	n := 0
	for i := range right {
		if size(right[i]) > size(right[n]) {
			n = i
		}
	}
	text := right[n].Header["Compliance-Error"][0]
	last, end := strings.LastIndex(text, `,{"code":"unknownProperty"`), strings.Index(text, `],"innerError"`)
	if last < 0 || end < 0 {
		t.Fatal(text)
	}
	less := text[:last] + text[end:]
	for _, c := range []struct {
		name string
		text string
		want int
	}{
		{"one detail less", less, 1},
		{"one detail less where it would not fit", strings.Replace(less, `"message":"`, `"message":"`+strings.Repeat("x", 8192-len(less)), 1), 0},
		{"more than 8 KiB", strings.Replace(text, `"message":"`, `"message":"`+strings.Repeat("x", 8193-len(text)), 1), 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			found := oracle.CompareDeadLetters(d.state, header(n, "Compliance-Error", c.text)(clone(right)))
			if len(found) != c.want {
				t.Errorf("found %q, want %d", found, c.want)
			}
		})
	}
}

// header changes a header of the n-th dead letter.
func header(n int, name string, values ...string) func([]oracle.Message) []oracle.Message {
	return func(all []oracle.Message) []oracle.Message {
		all[n].Header[name] = values
		return all
	}
}

// edited changes the error object of the n-th dead letter.
func edited(n int, from, to string) func([]oracle.Message) []oracle.Message {
	return func(all []oracle.Message) []oracle.Message {
		text := all[n].Header["Compliance-Error"][0]
		all[n].Header["Compliance-Error"] = []string{strings.Replace(text, from, to, 1)}
		return all
	}
}

func clone(letters []oracle.Message) []oracle.Message {
	all := slices.Clone(letters)
	for i := range all {
		all[i].Header = maps.Clone(letters[i].Header)
	}
	return all
}
