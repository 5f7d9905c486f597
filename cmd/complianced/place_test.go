package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	complianced "github.com/complianced/complianced/cmd/complianced"
	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/deadletter"
)

func TestWhatATerminalMustNotGetIsMadeVisible(t *testing.T) {
	for text, want := range map[string]string{
		"plain Ä 中文 🙂": "plain Ä 中文 🙂", "\x1b[31m": `\u001b[31m`, "a\tb\rc": `a\tb\rc`, "\x00\x7f\u0085": `\u0000\u007f\u0085`,
		"\u202eright": `\u202eright`, "a\u200bb\ufeff": `a\u200bb\ufeff`, "\xff\xc3(": `\xff\xc3(`, "\U000e0001": `\U000e0001`, "\ufffd": "\ufffd",
	} {
		if have := complianced.Visible([]byte(text)); have != want {
			t.Errorf("%q: %s, want %s", text, have, want)
		}
	}
}

func TestAnExcerptHasItsCaretUnderThePlace(t *testing.T) {
	long := strings.Repeat("x", 100)
	for name, c := range map[string]struct {
		payload, at string
		text        string
		before      int
	}{
		"the beginning":    {`{"a":1}`, `{`, `{"a":1}`, 0},
		"a later line":     {"{\n  \"a\": 1,\n  \"b\": 2\n}", `"b"`, `  "b": 2`, 2},
		"escapes before":   {"\t\x1b\xff9", "9", `\t\u001b\xff9`, 12},
		"wide ones before": {"中文9", "9", "中文9", 4},
		"marks before":     {"e\u0301\u0301" + "9", "9", "e\u0301\u03019", 1},
		"much around it":   {long + "9" + long, "9", "…" + long[:32] + "9" + long[:47] + "…", 33},
		"the end":          {`{"a`, "", `{"a`, 3},
		"nothing":          {"", "", "", 0},
	} {
		offset := len(c.payload)
		if c.at != "" {
			offset = strings.Index(c.payload, c.at)
		}
		if text, before := complianced.Excerpt([]byte(c.payload), offset); text != c.text || before != c.before {
			t.Errorf("%s: %d in %s, want %d in %s", name, before, text, c.before, c.text)
		}
	}
}

// FuzzExcerpt takes any place in any payload: what comes can be printed.
func FuzzExcerpt(f *testing.F) {
	f.Add([]byte("{\n\x1b\xff中文"), 3)
	f.Add([]byte(strings.Repeat("é", 80)), 81)
	f.Fuzz(func(t *testing.T, payload []byte, offset int) {
		if offset < 0 || offset > len(payload) {
			return
		}
		text, before := complianced.Excerpt(payload, offset)
		if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) || before < 0 {
			t.Errorf("%q at %d: %d in %q", payload, offset, before, text)
		}
	})
}

func TestJSONForATerminalIsTheSameAndCanBePrinted(t *testing.T) {
	want := map[string]string{"a": "\x1b\x7f\u0085\u202e\u00a0<&>\U000e0001中🙂\n\\u0041"}
	var line bytes.Buffer
	if err := complianced.EncodeLine(&line, want); err != nil {
		t.Fatal(err)
	}
	text := strings.TrimSuffix(line.String(), "\n")
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) || !strings.Contains(text, "<&>") {
		t.Errorf("%q", text)
	}
	var have map[string]string
	if err := json.Unmarshal(line.Bytes(), &have); err != nil || have["a"] != want["a"] {
		t.Errorf("%q came back from %q: %v", have["a"], text, err)
	}
}

// The letter says what is wrong and not where; of two that are alike each has its own place.
func TestTheFaultsOfALetterHaveTheirPlaces(t *testing.T) {
	e := compliance.Envelope{Subject: "compliance.status.p.d", Body: []byte(`{"x":1,"x":2,"x":3,"platform":null}`), Stored: time.Unix(1_800_000_000, 0)}
	_, rejection := compliance.Decode(&e)
	letter := deadletter.Letter{Envelope: e, Error: rejection.ErrorObject()}
	other := compliance.ErrorDetail{Code: compliance.PolicyNotAllowed, Message: "m"} // It is of the deployment.
	letter.Error.Details = append([]compliance.ErrorDetail{other}, letter.Error.Details...)
	have := ""
	for _, f := range complianced.FaultsIn(&letter) {
		have += string(f.Code)
		if f.Place != nil {
			have += fmt.Sprint(" ", f.Place.Offset)
		}
		have += "\n"
	}
	if want := "policyNotAllowed\nunknownProperty 1\nduplicateProperty 7\nduplicateProperty 13\nnullNotAllowed 30\n"; have != want {
		t.Errorf("%s\nwant %s", have, want)
	}
}
