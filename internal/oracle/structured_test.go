package oracle_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/complianced/complianced/compliance"
)

// Pools of what a report is made of. The fuzzer changes bytes; these change what
// the bytes mean.
var (
	names = []string{
		"id", "deviceDisplayName", "userName", "deviceModel", "platform", "complianceGracePeriodExpirationDateTime",
		"status", "lastReportedDateTime", "userPrincipalName", "@odata.type", "@removed", "@x", "status@odata.type",
		"x", "", "Status", `st\u0061tus`, `\u0040x`, `a\u0000b`, `\ud83d\ude00`, `\ud83d`, `\ufffd`, "é",
	}
	scalars = []string{
		"null", "true", "false", "0", "-0", "8", "-8", "2147483647", "2147483648", "-2147483648", "-2147483649", "1.0", "1e2", "1E400", "01", "-",
		`""`, `"d"`, `"D"`, `"\u0064"`, `"compliant"`, `"notAssigned"`, `"Compliant"`, `"4"`, `"#microsoft.graph.deviceComplianceDeviceStatus"`,
		`"2026-03-04T05:06:07Z"`, `"2026-03-04T05:16:07.1234567Z"`, `"2026-03-04T05:16:07.1234568Z"`, `"2026-03-04t05:06:07Z"`,
		`"0001-01-01T00:00:00+00:01"`, `"0001-12-31T23:59:59.9999999Z"`, `"0002-01-01T00:00Z"`, `"0002-01-01T13:59+14:00"`,
		`"0000-12-31T23:00:00-01:00"`, `"9999-12-31T23:59:59.999999999999Z"`, `"9999-12-31T23:59:59-00:01"`, `"2024-02-29T00:00:00-00:00"`,
		`"2026-03-04T05:06:07.1234567890123Z"`, `"2026-03-04T05:06:07+14:01"`, `"\ud83d\ude00"`, `"\ud83d"`, `"\ude00"`, "\"\xff\"", "\"\x01\"", `"\x"`,
	}
	headerNames = []string{
		"ce-id", "Ce-Id", "CE-ID", "Nats-Msg-Id", "nats-msg-id", "ce-time", "Ce-Time", "Compliance-Stored", "compliance-stored", "ce-type", "\u212Ae-id",
	}
	headerValues = []string{
		"", " ", "a", "no", "2026-03-04T05:06:07Z", "2026-03-04T05:16:07.1234567Z", "2026-03-04T05:16:07.1234568Z", "2020-01-01T00:00:00.000000000Z",
		"2026-03-04T05:00:00.000000000Z", "2026-03-04T05:06:07.123456789Z", "2026-03-04T05:06:07.123456789+00:00", "0001-01-01T00:00:00Z",
	}
	subjects = []string{
		"compliance.status.p.d", "compliance.status.p.D", "compliance.status.p", "compliance.status.p.d.e", "compliance.p.0.p.d", "compliance.p.1.p.d",
		"compliance.p.1.q.e", "compliance.p.2.p.d", "compliance.p.01.p.d", "compliance.p.256.q.d", "compliance.p.255.q.d", "compliance.p.0.p", "x",
	}
)

func drawValue(t *rapid.T, depth int) string {
	space := rapid.SampledFrom([]string{"", "", "", " ", "\n\t"}).Draw(t, "space")
	kind := rapid.IntRange(0, 9).Draw(t, "kind")
	switch {
	case kind == 0 && depth < 4:
		return space + drawObject(t, depth+1, 3)
	case kind == 1 && depth < 4:
		return "[" + drawValue(t, depth+1) + space + "," + drawValue(t, depth+1) + "]"
	case kind == 2:
		n := rapid.IntRange(1, 17).Draw(t, "nesting")
		return strings.Repeat("[", n) + strings.Repeat("]", n)
	case kind == 3:
		return `"` + strings.Repeat(rapid.SampledFrom([]string{"x", "é", `\u00e9`, `\ud83d\ude00`}).Draw(t, "letter"), rapid.IntRange(255, 257).Draw(t, "length")) + `"`
	}
	return space + rapid.SampledFrom(scalars).Draw(t, "scalar") + space
}

func drawObject(t *rapid.T, depth, most int) string {
	var members []string
	for range rapid.IntRange(0, most).Draw(t, "members") {
		name := rapid.SampledFrom(names).Draw(t, "name")
		members = append(members, fmt.Sprintf(`"%s":%s`, name, drawValue(t, depth)))
	}
	return "{" + strings.Join(members, ",") + "}"
}

func drawEnvelope(t *rapid.T) compliance.Envelope {
	header := map[string][]string{}
	for range rapid.IntRange(0, 3).Draw(t, "headers") {
		name := rapid.SampledFrom(headerNames).Draw(t, "header")
		header[name] = append(header[name], rapid.SampledFrom(headerValues).Draw(t, "value"))
	}
	body := drawObject(t, 1, 5) + rapid.SampledFrom([]string{"", "", "", "", "", "", "", " ", "x", "{}"}).Draw(t, "rest")
	return compliance.Envelope{
		Subject: rapid.SampledFrom(subjects).Draw(t, "subject"), Header: header, Body: []byte(body),
		Stored: time.Date(2026, 3, 4, 5, 6, 7, 123_456_789, time.UTC), Sequence: 7,
	}
}

func TestTheDecodersAgreeOnWhatReportsMean(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := compliance.Rules{Partitions: rapid.SampledFrom([]int{1, 1, 1, 2, 256}).Draw(t, "partitions")}
		rules.Partition = rapid.SampledFrom([]int{0, 1, 255}).Draw(t, "partition") % rules.Partitions
		rules.Allow = rapid.SampledFrom([]compliance.Patterns{nil, nil, {"q"}, {"[", "p*"}}).Draw(t, "allow")
		e := drawEnvelope(t)
		if diff := cmp.Diff(decoded(rules, e), judged(rules, e)); diff != "" {
			t.Errorf("of %q under %q with %q in %+v the answers differ (-product +oracle):\n%s", e.Body, e.Subject, e.Header, rules, diff)
		}
	})
}
