package main_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/complianced/complianced/compliance"
)

func TestAListIsFilteredAndPaged(t *testing.T) {
	s := serve(t)
	var members []string
	for i := range 250 {
		members = append(members, fmt.Sprintf(`{"id":"d%03d","platform":%d,"status":%q,"userPrincipalName":"user%d@example.com","lastReportedDateTime":"2026-01-%02dT00:00:00Z"}`,
			i, i%5, compliance.Status(i%8), i%3, i%28+1))
	}
	members = append(members, `{"id":"none"}`)
	s.patch("p/deviceStatuses", `{"value":[`+strings.Join(members, ",")+`]}`).want(http.StatusOK)
	ids := func(query string) (ids []string, count any) {
		t.Helper()
		address := policies + "p/deviceStatuses?" + query
		for address != "" {
			page := s.call(http.MethodGet, address, "").want(http.StatusOK).object()
			for _, item := range page["value"].([]any) {
				ids = append(ids, item.(map[string]any)["id"].(string))
			}
			if count == nil {
				count = page["@odata.count"]
			} else if count != page["@odata.count"] {
				t.Errorf("%s: the count was %v, and is %v", query, count, page["@odata.count"])
			}
			address, _ = page["@odata.nextLink"].(string)
		}
		return ids, count
	}
	all, count := ids("$count=true&$top=7")
	if len(all) != 251 || count != 251.0 || len(slices.Compact(slices.Sorted(slices.Values(all)))) != 251 {
		t.Errorf("%d records, count %v", len(all), count)
	}
	again, _ := ids("$top=100")
	if diff := cmp.Diff(all, again); diff != "" {
		t.Errorf("the order is another one:\n%s", diff)
	}
	for filter, want := range map[string]func(i int) bool{
		"status eq 'nonCompliant'":                                               func(i int) bool { return i%8 == 4 },
		"status in ('error','compliant') and platform gt 2":                      func(i int) bool { return (i%8 == 5 || i%8 == 2) && i%5 > 2 },
		"not (status ne 'unknown') or platform le 0":                             func(i int) bool { return i%8 == 0 || i%5 == 0 },
		"startswith(userPrincipalName,'user1')":                                  func(i int) bool { return i%3 == 1 },
		"lastReportedDateTime ge 2026-01-20T00:00:00+00:00 and platform lt 1":    func(i int) bool { return i%28+1 >= 20 && i%5 == 0 },
		"status eq microsoft.graph.complianceStatus'conflict' AND platform EQ 3": func(i int) bool { return i%8 == 6 && i%5 == 3 },
		"deviceDisplayName eq null and userPrincipalName eq 'user2@example.com'": func(i int) bool { return i%3 == 2 },
		"deviceDisplayName ne null":                                              func(int) bool { return false },
		"status eq 'notAssigned' and status eq 'error'":                          func(int) bool { return false },
		"userPrincipalName in ('user0@example.com', null) and platform eq 4":     func(i int) bool { return i%3 == 0 && i%5 == 4 },
	} {
		n := 0
		for i := range 250 {
			if want(i) {
				n++
			}
		}
		if filter == "not (status ne 'unknown') or platform le 0" {
			n++ // The record that sets nothing.
		}
		have, count := ids("$count=true&$top=9&$filter=" + url.QueryEscape(filter))
		if len(have) != n || count != float64(n) {
			t.Errorf("%s: %d records and the count %v, want %d", filter, len(have), count, n)
		}
	}
	short := s.read("p/deviceStatuses/d004?$select=status,platform").want(http.StatusOK).object()
	if diff := cmp.Diff(map[string]any{
		"@odata.context": s.HTTP + "/$metadata#deviceManagement/deviceCompliancePolicies('p')/deviceStatuses(status,platform)/$entity",
		"@odata.type":    compliance.ODataType, "status": "nonCompliant", "platform": 4.0,
		"@compliance.effectiveStatus": "nonCompliant", "@compliance.inGrace": false, "@compliance.stale": false,
	}, short); diff != "" {
		t.Errorf("selected (-want +have):\n%s", diff)
	}
	if none := s.read("p/deviceStatuses?$top=0&$count=true").want(http.StatusOK).object(); none["@odata.count"] != 251.0 || len(none["value"].([]any)) != 0 {
		t.Errorf("$top=0: %v", none)
	}
	overview := s.read("p/deviceStatusOverview").want(http.StatusOK).object()
	for name, n := range map[string]float64{"pendingCount": 32 + 31 + 1, "notApplicableCount": 32, "successCount": 31 + 31, "failedCount": 31, "errorCount": 31, "conflictCount": 31} {
		if overview[name] != n {
			t.Errorf("%s %v, want %v", name, overview[name], n)
		}
	}
	s.wrongQueries()
}

// wrongQueries sends queries that are wrong to the list of policy p, which has more than
// 7 records.
func (s *serving) wrongQueries() {
	s.Helper()
	for _, query := range []string{
		"$orderby=status", "$skip=3", "$search=x", "$expand=x", "$apply=x", "top=-1", "$top=1001", "$top=a", "$count=yes", "$select=nothing",
		"$select=", "$filter=", "$filter=id eq 'x'", "$filter=status gt 'error'", "$filter=status eq 'String'", "$filter=platform eq '8'",
		"$filter=lastReportedDateTime eq '2026-01-01T00:00:00Z'", "$filter=userName eq 'x'", "$filter=status eq 'error' xor platform eq 1",
		"$filter=contains(deviceDisplayName,'x')", "$filter=deviceDisplayName eq 'x", "$filter=(platform eq 1", "$filter=platform eq 1)",
		"$filter=" + strings.Repeat("not ", 50) + "platform eq 1", "$top=1&top=2", "x=1", "$skiptoken=", "$skiptoken=abc", "$filter=%ff", "a;b",
	} {
		answer := s.read("p/deviceStatuses?" + strings.ReplaceAll(query, " ", "%20")).want(http.StatusBadRequest)
		if code := answer.object()["error"].(map[string]any)["code"]; code != "badRequest" {
			s.Errorf("%s: %v", query, code)
		}
	}
	link, _ := s.read("p/deviceStatuses?$top=7").object()["@odata.nextLink"].(string)
	s.call(http.MethodGet, link, "").want(http.StatusOK)
	for _, changed := range []string{
		strings.Replace(link, "$top=7", "$top=8", 1), strings.Replace(link, "Policies/p/", "Policies/q/", 1),
		link + "&$count=true", link + "&$filter=platform%20eq%201", link[:len(link)-9] + "A" + link[len(link)-8:],
	} {
		s.call(http.MethodGet, changed, "").fault(http.StatusBadRequest, "invalidQuery")
	}
}
