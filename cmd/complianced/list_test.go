package main_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// reported publishes reports, each as policy, device, event time and body.
func (s *serving) reported(reports ...[4]string) {
	s.Helper()
	for _, r := range reports {
		s.run(r[3], "publish", r[0], r[1], "--event-time", r[2])
	}
	s.settled()
}

// ago is an event time.
func ago(d time.Duration) string {
	return time.Now().UTC().Add(-d).Truncate(time.Second).Format(time.RFC3339)
}

func stored(text string) string { return strings.TrimSuffix(text, "Z") + ".000000000Z" }

func TestListShowsWhatIsBehindANumber(t *testing.T) {
	s := serve(t)
	hour, old := ago(time.Hour), ago(40*24*time.Hour)
	ends := time.Now().UTC().Add(time.Hour).Truncate(time.Second).Format(time.RFC3339)
	grace := fmt.Sprintf(`{"status":"nonCompliant","complianceGracePeriodExpirationDateTime":%q}`, ends)
	s.reported(
		[4]string{"disk", "a", hour, `{"status":"compliant"}`},
		[4]string{"disk", "b", hour, grace},
		[4]string{"disk", "c", old, `{"status":"nonCompliant"}`},
		[4]string{"virus", "a", hour, `{"status":"error"}`},
		[4]string{"virus", "b", old, `{"status":"compliant"}`},
	)
	sorted := func(args ...string) string {
		t.Helper()
		lines := strings.Split(strings.TrimSuffix(s.run("", args...), "\n"), "\n")
		slices.Sort(lines[1:])
		return strings.Join(lines, "\n")
	}
	hour, old, ends = stored(hour), stored(old), stored(ends)
	want := "POLICY  DEVICE  STATUS        EFFECTIVE      GRACE UNTIL                     NEWEST EVENT\n" +
		"disk    a       compliant     compliant                                      " + hour + "\n" +
		"disk    b       nonCompliant  inGracePeriod  " + ends + "  " + hour + "\n" +
		"disk    c       nonCompliant  stale                                          " + old
	if diff := cmp.Diff(want, sorted("list", "disk")); diff != "" {
		t.Error(diff)
	}
	for _, test := range []struct{ args, want string }{
		{"list disk --status nonCompliant", "disk.b disk.c"},
		{"list disk --status nonCompliant,compliant", "disk.a disk.b disk.c"},
		{"list disk --status nonCompliant --status error", "disk.b disk.c"},
		{"list disk --in-grace", "disk.b"},
		{"list disk --stale", "disk.c"},
		{"list disk --stale --validity 60", ""},
		{"list disk --since " + hour, "disk.a disk.b"},
		{"list disk --since " + old[:10], "disk.a disk.b disk.c"},
		{"list disk --until " + hour, "disk.a disk.b disk.c"},
		{"list disk --until " + old, "disk.c"},
		{"list disk --until " + old[:10], "disk.c"},
		{"list --since " + old[:10] + " --until " + old[:10], "disk.c virus.b"},
		{"list disk --since " + old + " --until " + old, "disk.c"},
		{"list --status nonCompliant", "disk.b disk.c"},
		{"list --status compliant,error", "disk.a virus.a virus.b"},
		{"list --in-grace", "disk.b"},
		{"list --stale", "disk.c virus.b"},
		{"list --device b", "disk.b virus.b"},
		{"list --worst error", "disk.a virus.a"},
		{"list --devices", "disk.b disk.c virus.a"},
		{"list --devices --worst error", "virus.a"},
		{"list --devices --worst nonCompliant", "disk.b disk.c"},
		{"list --devices --in-grace", "disk.b"},
		{"list --worst nonCompliant", "disk.b disk.c virus.b"},
		{"list virus --worst nonCompliant", "virus.b"},
		{"list disk --device b --in-grace", "disk.b"},
		{"export", "disk.a disk.b disk.c virus.a virus.b"},
		{"list disk --device never", ""},
	} {
		args := strings.Fields(test.args)
		if args[0] == "list" {
			args = append(args, "-o", "json")
		}
		if diff := cmp.Diff(test.want, strings.Join(keysIn(t, s.run("", args...)), " ")); diff != "" {
			t.Errorf("%s:\n%s", test.args, diff)
		}
	}
	object, _, _ := strings.Cut(s.run("", "get", "disk", "b", "-o", "json"), `,"@compliance.`)
	line := `{"policy":"disk","device":"b","effectiveStatus":"inGracePeriod","inGrace":true,"stale":false,"newestEvent":"` + hour + `","record":` + object + "}}\n"
	if diff := cmp.Diff(line, s.run("", "list", "disk", "--in-grace", "-o", "json")); diff != "" {
		t.Error(diff)
	}
	if out := s.run("", "get", "disk", "b"); !strings.HasSuffix(out, "\neffective status: inGracePeriod; in grace until "+ends+"; stale: no\n") {
		t.Error(out)
	}
}

// TestANumberOfADayHasAListBehindIt goes on from page to page.
func TestANumberOfADayHasAListBehindIt(t *testing.T) {
	s := serve(t)
	// The first and the last instant of a day, and those before and after it.
	s.reported(
		[4]string{"disk", "before", "2026-01-30T23:59:59.9999999Z", `{}`},
		[4]string{"disk", "first", "2026-01-31T00:00:00Z", `{"status":"error"}`},
		[4]string{"disk", "noon", "2026-01-31T14:00:00+02:00", `{"status":"compliant"}`},
		[4]string{"disk", "last", "2026-01-31T23:59:59.9999999Z", `{"status":"error"}`},
		[4]string{"disk", "after", "2026-02-01T00:00:00Z", `{}`},
		[4]string{"virus", "noon", "2026-01-31T12:00:00Z", `{}`},
	)
	want := "         POLICY         DAY  RECORDS\n" +
		"           disk  2026-01-30        1\n" +
		"           disk  2026-01-31        3\n" +
		"           disk  2026-02-01        1\n" +
		"          virus  2026-01-31        1\n" +
		"  (all records)  2026-01-30        1\n" +
		"  (all records)  2026-01-31        4\n" +
		"  (all records)  2026-02-01        1\n"
	if diff := cmp.Diff(want, s.run("", "summary", "--days")); diff != "" {
		t.Error(diff)
	}
	want = `{"days":{"disk":{"2026-01-30":1,"2026-01-31":3,"2026-02-01":1},"virus":{"2026-01-31":1}}}` + "\n"
	if diff := cmp.Diff(want, s.run("", "summary", "--days", "-o", "json")); diff != "" {
		t.Error(diff)
	}
	day := []string{"--since", "2026-01-31", "--until", "2026-01-31"}
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"disk"}, "disk.first disk.last disk.noon"},
		{nil, "disk.first disk.last disk.noon virus.noon"},
		{[]string{"disk", "--status", "error"}, "disk.first disk.last"},
	} {
		var keys []string
		args := append(append([]string{"list", "--data-dir", s.dir, "-o", "json", "--limit", "1"}, day...), test.args...)
		for cursor, more := "", true; more; {
			out, stderr, status := command(t, "", append(args, "--cursor", cursor)...)
			if status != 0 {
				t.Fatal(stderr)
			}
			keys = append(keys, keysIn(t, out)...)
			_, cursor, more = strings.Cut(strings.TrimSpace(stderr), "--cursor ")
		}
		slices.Sort(keys)
		if diff := cmp.Diff(test.want, strings.Join(keys, " ")); diff != "" {
			t.Errorf("%v:\n%s", test.args, diff)
		}
	}
}

// keysIn are the records in lines of JSON, sorted.
func keysIn(t *testing.T, lines string) []string {
	t.Helper()
	var keys []string
	for text := range strings.Lines(lines) {
		var line struct {
			Policy string `json:"policy"`
			Device string `json:"device"`
		}
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatal(err)
		}
		keys = append(keys, line.Policy+"."+line.Device)
	}
	slices.Sort(keys)
	return keys
}

func TestAListGoesOnWithItsCursor(t *testing.T) {
	s := serve(t)
	var reports [][4]string
	for n := range 7 {
		reports = append(reports, [4]string{"disk", fmt.Sprint("d", n), ago(time.Hour), `{"status":"<&>"}`})
		reports[n][3] = `{"status":"error","userName":"<&>\u2028"}`
	}
	s.reported(reports...)
	for _, args := range [][]string{{"list", "disk"}, {"list", "disk", "--status", "error"}, {"list", "--worst", "error"}} {
		var pages []string
		for cursor, n := "", 0; ; n++ {
			out, stderr, status := command(t, "", append([]string{"--data-dir", s.dir, "-o", "json", "--limit", "3", "--cursor", cursor}, args...)...)
			if status != 0 || n > 3 {
				t.Fatal(stderr)
			}
			pages = append(pages, out)
			var found bool
			if _, cursor, found = strings.Cut(strings.TrimSpace(stderr), "--cursor "); !found {
				if stderr != "" {
					t.Error(stderr)
				}
				break
			}
		}
		all := s.run("", append(args, "--limit", "0", "-o", "json")...)
		if diff := cmp.Diff(all, strings.Join(pages, "")); diff != "" || len(pages) != 3 || strings.Count(all, "\n") != 7 {
			t.Errorf("%v: %d pages, %d lines: %s", args, len(pages), strings.Count(all, "\n"), diff)
		}
		if strings.Contains(all, `\u00`) {
			t.Error("the documented object is written in another way: " + all)
		}
	}
	if _, stderr, status := command(t, "", "--data-dir", s.dir, "list", "disk", "--cursor", "x"); status != 2 || !strings.Contains(stderr, "--cursor") {
		t.Errorf("status %d: %s", status, stderr)
	}
	if out := s.run("", "list", "other"); out != "POLICY  DEVICE  STATUS  EFFECTIVE  GRACE UNTIL  NEWEST EVENT\n" {
		t.Error(out)
	}
}

func TestWhatGetPrintsCanBeSentAsAReport(t *testing.T) {
	s := serve(t)
	s.reported([4]string{"disk", "a", ago(time.Hour), `{"status":"nonCompliant","userName":null,"platform":-3,"deviceModel":"ü \u0022<","lastReportedDateTime":"2026-01-01T00:00+01:00"}`})
	before := s.run("", "get", "disk", "a", "-o", "json")
	if out := s.run(before, "publish", "disk", "a", "--wait"); !strings.HasPrefix(out, "applied") {
		t.Error(out)
	}
	if diff := cmp.Diff(before, s.run("", "get", "disk", "a", "-o", "json")); diff != "" {
		t.Error(diff)
	}
}

func TestARecordThatCannotBeReadStopsNoList(t *testing.T) {
	s := serve(t)
	hour := ago(time.Hour)
	for _, device := range []string{"a", "b", "c"} {
		s.reported([4]string{"disk", device, hour, `{"status":"error"}`})
	}
	raw := s.raw()
	if err := raw.HSet(t.Context(), "cs:{"+s.bucketOf(raw, "disk", "b")+"}:disk:b", "v", "x").Err(); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{"export", "list disk -o json", "list disk --status error -o json"} {
		out, errs, status := command(t, "", append(strings.Fields(args), "--data-dir", s.dir)...)
		keys := keysIn(t, out)
		slices.Sort(keys)
		if cmp.Diff([]string{"disk.a", "disk.c"}, keys) != "" || status != 1 || !strings.Contains(errs, "1 records cannot be read") ||
			!strings.Contains(errs, "verify --repair") || strings.Count(errs, "\n") != 1 {
			t.Errorf("%s: status %d: %s%s", args, status, errs, out)
		}
	}
	for _, which := range []string{"--policy=disk", "--device=b"} {
		_, errs, status := command(t, "", "remove", which, "--yes", "--data-dir", s.dir)
		if status != 1 || !strings.Contains(errs, "1 records cannot be read") {
			t.Errorf("remove %s: status %d: %s", which, status, errs)
		}
	}
	if out, _, _ := command(t, "", "export", "--data-dir", s.dir); out != "" {
		t.Errorf("after their removal: %s", out)
	}
}
