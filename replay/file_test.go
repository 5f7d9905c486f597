package replay_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/replay"
)

// all reads a source to its end.
func all(source replay.Source) (list []replay.Report, err error) {
	for {
		r, err := source.Next(context.Background())
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return list, err
		}
		list = append(list, r)
	}
}

func written(t rapid.TB, reports ...replay.Report) string {
	t.Helper()
	var file bytes.Buffer
	w := replay.NewWriter(&file)
	for i := range reports {
		if err := w.Write(&reports[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return file.String()
}

var sameReports = cmp.Options{cmpopts.IgnoreUnexported(replay.Report{}), cmpopts.EquateEmpty()}

func TestAFileGivesBackWhatWasWritten(t *testing.T) {
	texts := []string{"", "a", " ü\u2028<&>", "\x00\x1b[31m", "\xff\xfe", "\ufeff", "\ufffd", strings.Repeat("\x01", 1000), `{"status":"compliant"}`}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SampledFrom(texts)
		var reports []replay.Report
		for range rapid.IntRange(0, 4).Draw(t, "reports") {
			reports = append(reports, replay.Report{
				Stream:    rapid.SampledFrom([]string{"", "COMPLIANCE_STATUS"}).Draw(t, "stream"),
				Misplaced: rapid.Bool().Draw(t, "misplaced"), Incomplete: rapid.Bool().Draw(t, "incomplete"),
				Envelope: compliance.Envelope{
					Subject: rapid.SampledFrom([]string{"compliance.status.p.d", "compliance.status.\xff.d"}).Draw(t, "subject"), Sequence: rapid.Uint64().Draw(t, "sequence"),
					Body:   []byte(text.Draw(t, "body")),
					Stored: time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, "s"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).UTC(),
					Header: map[string][]string{"ce-id": {text.Draw(t, "id"), text.Draw(t, "second")}, "x": {text.Draw(t, "x")}},
				},
			})
		}
		file := written(t, reports...)
		if strings.ContainsAny(file, "\x00\x1b\x7f") {
			t.Fatalf("the file has control characters: %q", file)
		}
		have, err := all(replay.NewFile(strings.NewReader(file)))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(reports, have, sameReports); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestAWrongLineIsNamed(t *testing.T) {
	const begin = `{"complianceReports":1}` + "\n"
	const stored = `"stored":"2026-01-31T12:00:00.000000000Z","subject":"compliance.status.p.d"`
	right := begin + `{` + stored + `,"payload":"{}"}` + "\n"
	if list, err := all(replay.NewFile(strings.NewReader(right))); err != nil || len(list) != 1 {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, file, say string
		line            int
	}{
		{"no file of capture", "{}\n", "first line", 1},
		{"empty", "", "first line", 1},
		{"a torn first line", `{"complianceRep`, "cut off", 1},
		{"a torn last line", right + `{` + stored + `,"payload":"{}"}`, "cut off", 3},
		{"an empty line", right + "\n", "not one JSON object", 3},
		{"two objects", begin + "{}{}\n", "not one JSON object", 2},
		{"no object", begin + "[]\n", "wrong type", 2},
		{"an unknown member", begin + `{` + stored + `,"payload":"{}","x":1}` + "\n", "unknown member", 2},
		{"a name twice", begin + `{` + stored + `,"payload":"{}","payload":"{}"}` + "\n", "not one JSON object", 2},
		{"not UTF-8", begin + `{` + stored + `,"payload":"` + "\xff" + `"}` + "\n", "UTF-8", 2},
		{"no payload", begin + `{` + stored + "}\n", "exactly one of payload", 2},
		{"two payloads", begin + `{` + stored + `,"payload":"{}","payloadBase64":"e30="}` + "\n", "exactly one of payload", 2},
		{"wrong base64", begin + `{` + stored + `,"payloadBase64":"e30"}` + "\n", "base64", 2},
		{"a wrong header in base64", begin + `{` + stored + `,"payload":"","headersBase64":{"a":["e30"]}}` + "\n", "base64", 2},
		{"a header twice", begin + `{` + stored + `,"payload":"","headers":{"a":["x"]},"headersBase64":{"a":["e30="]}}` + "\n", "both", 2},
		{"a wrong store time", begin + `{"stored":"2026-01-31T12:00:00Z","subject":"compliance.status.p.d","payload":""}` + "\n", "nine digits", 2},
		{"no store time", begin + `{"subject":"compliance.status.p.d","payload":""}` + "\n", "nine digits", 2},
		{"two subjects", begin + `{` + stored + `,"subjectBase64":"Y29tcGxpYW5jZS5zdGF0dXMucC7/","payload":""}` + "\n", "subject", 2},
		{"another subject", begin + `{"stored":"2026-01-31T12:00:00.000000000Z","subject":"a.b","payload":""}` + "\n", "subject", 2},
		{"too long", begin + strings.Repeat(" ", 1<<20) + "\n", "longer than 1 MiB", 2},
	} {
		_, err := all(replay.NewFile(strings.NewReader(c.file)))
		wrong, ok := errors.AsType[*replay.LineError](err)
		if !ok || wrong.Line != c.line || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func FuzzFile(f *testing.F) {
	f.Add([]byte("{\"complianceReports\":1}\n{\"stored\":\"2026-01-31T12:00:00.000000000Z\",\"subject\":\"compliance.status.p.d\",\"payload\":\"{}\"}\n"))
	f.Add([]byte("{\"complianceReports\":1}\n{\"stored\":\"2026-01-31T12:00:00.000000000Z\",\"subject\":\"compliance.status.p.d\",\"payloadBase64\":\"/w==\",\"headersBase64\":{\"ce-id\":[\"/w==\"]}}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		first, err := all(replay.NewFile(bytes.NewReader(text)))
		if err != nil {
			return
		}
		second, err := all(replay.NewFile(strings.NewReader(written(t, first...))))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(first, second, sameReports); diff != "" {
			t.Fatal(diff)
		}
	})
}
