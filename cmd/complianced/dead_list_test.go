package main_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"
)

// instant is what stands for a time in what a command prints.
var instant = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z`)

// letters makes a serve with four dead letters, and beside them what is none.
func letters(t *testing.T) (*serving, jetstream.JetStream) {
	t.Helper()
	s := serve(t)
	_, js := s.client()
	s.sends(js, "p.d", "{\"platform\":\"8\",\n \"userName\":\"\x7f中\", \"statuss\":1}", map[string]string{"ce-id": "\x1b[2J", "ce-type": "t"})
	s.settled()
	s.sends(js, "p.e", "{\"a\":\"\xff\x1b[31m\"}", map[string]string{"Nats-Msg-Id": "m"})
	s.sends(js, "q.d", `{"status":null}`, nil)
	s.settled()
	s.sends(js, "q.d.too.many", `{}`, map[string]string{"Compliance-Retry-Of": "COMPLIANCE_STATUS.1"})
	s.settled()
	if _, err := js.Publish(t.Context(), "compliance.dead.other", []byte("\x1b[2J")); err != nil {
		t.Fatal(err)
	}
	return s, js
}

func TestWhatTheCommandsForDeadLettersPrint(t *testing.T) {
	s, _ := letters(t)
	const none = "complianced: message 5 of COMPLIANCE_DEAD is no dead letter: "
	out, stderr, status := s.tries("dead", "ls")
	want := "SEQUENCE  REPORT STORED  CODE            ABOUT     POLICY  DEVICE      REPORT               RETRY OF\n" +
		"1         TIME           typeMismatch    platform  p       d           COMPLIANCE_STATUS.1  \n" +
		"2         TIME           malformedJson             p       e           COMPLIANCE_STATUS.2  \n" +
		"3         TIME           nullNotAllowed  status    q       d           COMPLIANCE_STATUS.3  \n" +
		"4         TIME           invalidSubject            q       d.too.many  COMPLIANCE_STATUS.4  COMPLIANCE_STATUS.1\n"
	// Times are wider than the word that stands for them.
	have := strings.ReplaceAll(instant.ReplaceAllString(out, "TIME"), "REPORT STORED"+strings.Repeat(" ", 19), "REPORT STORED  ")
	if diff := cmp.Diff(want, strings.ReplaceAll(have, "TIME  ", "TIME           ")); diff != "" {
		t.Error(diff)
	}
	if status != 1 || !strings.HasPrefix(stderr, none) || strings.Count(stderr, "\n") != 2 {
		t.Errorf("status %d: %s", status, stderr)
	}
	for args, want := range map[string]string{
		"--code nullNotAllowed,malformedJson": "23", "--policy p --device d": "1", "--device d": "13", "--until 2026-01-01": "", "--since 2026-01-01": "1234",
	} {
		out, _, _ := s.tries(append([]string{"dead", "ls", "-o", "json"}, strings.Fields(args)...)...)
		have := ""
		for line := range strings.Lines(out) {
			var letter struct {
				Sequence int `json:"sequence"`
			}
			if err := json.Unmarshal([]byte(line), &letter); err != nil {
				t.Fatal(line, err)
			}
			have += fmt.Sprint(letter.Sequence)
		}
		if have != want {
			t.Errorf("%s: %s, want %s", args, have, want)
		}
	}
	shown := instant.ReplaceAllString(s.run("", "dead", "show", "1", "4"), "TIME")
	want = `dead letter 1, buried TIME
  report    COMPLIANCE_STATUS.1
  subject   compliance.status.p.d
  stored    TIME
  event id  ?[2J
  header    ce-id: \u001b[2J
  header    ce-type: t

1:13: platform: typeMismatch: the property is not a JSON number without fraction and exponent
    {"platform":"8",
                ^
2:19: statuss: unknownProperty: no property of deviceComplianceDeviceStatus has this name; the nearest is status
     "userName":"\u007f中", "statuss":1}
                            ^

payload of 49 bytes:
  {"platform":"8",
   "userName":"\u007f中", "statuss":1}

dead letter 4, buried TIME
  report    COMPLIANCE_STATUS.4
  subject   compliance.status.q.d.too.many
  stored    TIME
  event id  ID
  retry of  COMPLIANCE_STATUS.1
  header    Compliance-Retry-Of: COMPLIANCE_STATUS.1

report: invalidSubject: the subject is not compliance.status.<policy>.<device> with ids of 1 to 128 characters of A-Z a-z 0-9 _ -

payload of 2 bytes:
  {}
`
	if diff := cmp.Diff(want, regexp.MustCompile(`[0-9a-f]{16}\n`).ReplaceAllString(shown, "ID\n")); diff != "" {
		t.Error(diff)
	}
	var object struct {
		EventID       string              `json:"eventId"`
		Headers       map[string][]string `json:"headers"`
		PayloadBase64 []byte              `json:"payloadBase64"`
		Faults        []struct {
			Place struct {
				Column int `json:"column"`
				Offset int `json:"offset"`
			} `json:"place"`
		} `json:"faults"`
	}
	text := s.run("", "dead", "show", "2", "-o", "json")
	if err := json.Unmarshal([]byte(text), &object); err != nil || object.EventID != "m" || string(object.PayloadBase64) != "{\"a\":\"\xff\x1b[31m\"}" ||
		object.Headers["Nats-Msg-Id"][0] != "m" || object.Faults[0].Place.Offset != 6 || object.Faults[0].Place.Column != 7 {
		t.Errorf("%v: %s", err, text)
	}
	if text := s.run("", "dead", "show", "1", "-o", "json"); !strings.Contains(text, `\u007f`) || strings.Contains(text, "\x7f") {
		t.Error(text)
	}
}

func TestPurgeTakesAwayWhatIsMeant(t *testing.T) {
	s, js := letters(t)
	remain := func() (have string) {
		t.Helper()
		stream, err := js.Stream(t.Context(), "COMPLIANCE_DEAD")
		if err != nil {
			t.Fatal(err)
		}
		for n := range uint64(5) {
			if _, err := stream.GetMsg(t.Context(), n+1); err == nil {
				have += fmt.Sprint(n + 1)
			}
		}
		return have
	}
	for _, c := range []struct {
		args   string
		status int
		say    string
		left   string
	}{
		{"", 2, "--yes is needed", "12345"},
		{"--code nullNotAllowed", 2, "--yes is needed", "12345"},
		{"--yes 1 9", 1, "dead letter 9: there is no such dead letter, or not any more; nothing was taken away", "12345"},
		{"--yes --policy nobody", 1, "there is no such dead letter", "12345"}, // And one that cannot be read.
		{"--yes --code nullNotAllowed", 0, "took 1 dead letters away", "1245"},
		{"--yes --device d", 1, "took 1 dead letters away", "245"},
		{"--yes 2", 0, "took 1 dead letters away", "45"},
		{"--yes", 0, "took 2 dead letters away", ""},
		{"--yes", 0, "there is no such dead letter", ""},
	} {
		out, stderr, status := s.tries(append([]string{"dead", "purge"}, strings.Fields(c.args)...)...)
		if have := remain(); status != c.status || !strings.Contains(out+stderr, c.say) || have != c.left {
			t.Errorf("purge %s: status %d: %s%s; left are %s, want %s", c.args, status, out, stderr, have, c.left)
		}
	}
}

func TestWrongUseOfTheCommandsForDeadLetters(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"dead", "ls", "1"},
		{"dead", "ls", "--code", "Malformed"},
		{"dead", "ls", "--policy", "a.b"},
		{"dead", "ls", "--since", "yesterday"},
		{"dead", "ls", "--since", "2026-02-01", "--until", "2026-01-31"},
		{"dead", "ls", "-o", "xml"},
		{"dead", "show"},
		{"dead", "show", "0"},
		{"dead", "show", "x"},
		{"dead", "retry", "1", "--code", "tooLarge"},
		{"dead", "retry", "--body", "{}"},
		{"dead", "retry", "1", "2", "--body", "{}"},
		{"dead", "retry", "1", "--body", "{}", "--patch", "{}"},
		{"dead", "retry", "--patch", "[1]"},
		{"dead", "retry", "--timeout", "0s"},
		{"dead", "purge", "--yes", "1", "--policy", "p"},
		{"dead", "frobnicate"},
	} {
		if _, stderr, status := command(t, "", args...); status != 2 || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%v: status %d: %s", args, status, stderr)
		}
	}
}
