package main_test

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/graph"
	"github.com/complianced/complianced/internal/openapitest"
)

const clientRequest = "6d0c9f3e-58a5-4b0e-9d43-0b1a0a6a7b11"

// oversize is a member that makes a report too large.
var oversize = `"@big":"` + strings.Repeat("a", compliance.MaxBody) + `"`

// exampleExchanges are those of the examples, in an order in which they are true.
var exampleExchanges = []exchange{
	{method: http.MethodPatch, path: apiRecord, send: "report", status: 200, example: "recordAnswer", header: map[string]string{"client-request-id": clientRequest}},
	{method: http.MethodGet, path: apiRecord, status: 200, example: "recordRead"},
	{method: http.MethodGet, path: "/beta" + apiRecord + "?$select=status", status: 200, example: "recordSelected"},
	{method: http.MethodPatch, path: apiStatuses, send: "reportDocumented", status: 200, example: "recordDocumented"},
	{method: http.MethodPatch, path: apiStatuses, send: "delta", status: 200, example: "deltaAnswer"},
	{method: http.MethodGet, path: apiStatuses + "?$top=1&$count=true&$select=id,status", status: 200, example: "list"},
	{method: http.MethodGet, path: apiOverview, status: 200, example: "overview"},
	{method: http.MethodPatch, path: apiRecord, send: "reportSmallest", header: prefer("respond-async"), status: 202, applied: "respond-async", example: "stored"},
	{method: http.MethodPatch, path: apiStatuses, send: "delta", header: prefer("respond-async"), status: 202, applied: "respond-async", example: "deltaStored"},
	{method: http.MethodGet, path: apiStatuses + "?$filter=status%20eq%20'broken'", status: 400, code: "invalidQuery", example: "errorQuery"},
	{method: http.MethodPatch, path: apiRecord, body: `{"status":"String","platform":"8"}`, status: 400, code: "invalidStatus", example: "errorReport"},
	{method: http.MethodPatch, path: apiStatuses, body: `{"status":"compliant"}`, status: 400, code: "idRequired", example: "errorNoId"},
	{
		method: http.MethodPatch, path: apiStatuses, body: `{"value":[{"id":"my-device","status":"compliant"},{"id":"other-device","status":"Compliant"}]}`,
		status: 400, code: "invalidStatus", example: "errorDelta",
	},
	{method: http.MethodDelete, path: apiRecord, body: "{}", status: 400, code: "badRequest", example: "errorDelete"},
	{method: http.MethodGet, path: apiRecord, header: map[string]string{"Authorization": ""}, status: 401, code: "InvalidAuthenticationToken", example: "errorUnauthorized"},
	{method: http.MethodGet, path: apiStatuses + "/no-device", status: 404, code: "ResourceNotFound", example: "errorNotFound"},
	{method: http.MethodPost, path: apiStatuses, status: 405, code: "MethodNotAllowed", example: "errorMethod"},
	{method: http.MethodGet, path: apiRecord, header: map[string]string{"Accept": "text/html"}, status: 406, code: "NotAcceptable", example: "errorNotAcceptable"},
	{method: http.MethodPatch, path: apiRecord, body: "{}", header: map[string]string{"Transfer-Encoding": "chunked"}, status: 411, code: "LengthRequired", example: "errorLength"},
	{method: http.MethodPatch, path: apiRecord, body: "{" + oversize + "}", status: 413, code: "tooLarge", example: "errorTooLarge"},
	{method: http.MethodPatch, path: apiRecord, body: "{}", header: map[string]string{"Content-Type": "text/plain"}, status: 415, code: "UnsupportedMediaType", example: "errorMediaType"},
	{method: http.MethodPatch, path: apiStatuses, send: "reportWithId", status: 200},
	{method: http.MethodPatch, path: apiRecord, send: "reportDeletion", status: 204},
}

func prefer(what string) map[string]string { return map[string]string{"Prefer": what} }

// addressExchanges are about addresses: their prefixes, the forms of their keys, what is
// none, and the methods that they do not have.
func addressExchanges() (list []exchange) {
	for _, prefix := range []string{"", "/beta", "/v1.0"} {
		for _, policy := range []string{"/my-keys", "('my-keys')"} {
			statuses := prefix + strings.TrimSuffix(apiRoot, "/") + policy + "/deviceStatuses"
			for _, device := range []string{"/my-device", "('my-device')"} {
				list = append(list,
					exchange{method: http.MethodPatch, path: statuses + device, send: "report", status: 200},
					exchange{method: http.MethodGet, path: statuses + device, status: 200},
					exchange{method: http.MethodDelete, path: statuses + device, status: 204})
			}
			list = append(list,
				exchange{method: http.MethodPatch, path: statuses, send: "report", status: 200},
				exchange{method: http.MethodGet, path: statuses, status: 200},
				exchange{method: http.MethodGet, path: prefix + strings.TrimSuffix(apiRoot, "/") + policy + "/deviceStatusOverview", status: 200})
		}
	}
	for _, path := range []string{
		"/", "/beta", "/v1.0/", "/v2.0" + apiStatuses, "/beta/beta" + apiStatuses, strings.TrimSuffix(apiRoot, "/"), apiRoot + "my-policy", apiStatuses + "/",
		apiRecord + "/more", apiOverview + "/more", apiRoot + "my-policy/devicestatuses", "/deviceManagement/deviceConfigurations/my-policy/deviceStatuses",
	} {
		status, code := http.StatusNotFound, "ResourceNotFound"
		if path == apiStatuses+"/" {
			status, code = http.StatusBadRequest, "invalidSubject" // The device has an empty id.
		}
		list = append(list, exchange{method: http.MethodGet, path: path, status: status, code: code})
	}
	for path, has := range graph.Routes() {
		path = strings.NewReplacer("{deviceCompliancePolicyId}", "my-policy", "{id}", "my-device").Replace(path)
		for _, method := range []string{
			http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions, http.MethodTrace, "get", "LOCK",
		} {
			x := exchange{method: method, path: path, status: http.StatusMethodNotAllowed, code: "MethodNotAllowed"}
			for _, one := range has {
				if one == method { // What is there is left to a token that is not valid.
					x.header, x.status, x.code = map[string]string{"Authorization": "Bearer wrong"}, http.StatusUnauthorized, "InvalidAuthenticationToken"
				}
			}
			list = append(list, x)
		}
	}
	return list
}

// headerExchanges are about headers.
var headerExchanges = []exchange{
	{method: http.MethodPatch, path: apiRecord, send: "reportSmallest", header: prefer("return=minimal"), status: 204, applied: "return=minimal"},
	{method: http.MethodPatch, path: apiRecord, send: "reportSmallest", header: prefer("return=representation"), status: 200, applied: "return=representation"},
	{method: http.MethodPatch, path: apiRecord, send: "reportSmallest", header: prefer("handling=strict, wait=1"), status: 200},
	{method: http.MethodPatch, path: apiStatuses, send: "delta", header: prefer("return=minimal"), status: 204, applied: "return=minimal"},
	{method: http.MethodPatch, path: apiStatuses, send: "delta", header: prefer("return=representation"), status: 200, applied: "return=representation"},
	{method: http.MethodPatch, path: apiStatuses, send: "reportWithId", header: prefer("respond-async"), status: 202, applied: "respond-async"},
	{method: http.MethodDelete, path: apiRecord, header: prefer("respond-async"), status: 202, applied: "respond-async"},
	{method: http.MethodPatch, path: apiRecord, send: "reportSmallest", status: 200},
	{method: http.MethodDelete, path: apiRecord, header: map[string]string{"If-Match": "*"}, status: 204},
	{method: http.MethodDelete, path: apiRecord, status: 404, code: "ResourceNotFound"},
	{method: http.MethodDelete, path: apiRecord, header: map[string]string{"If-Match": `"1"`}, status: 400, code: "notSupported"},
	{method: http.MethodPatch, path: apiRecord, body: "{}", header: map[string]string{"If-Match": "*"}, status: 400, code: "notSupported"},
	{method: http.MethodPatch, path: apiStatuses, body: "{}", header: map[string]string{"If-None-Match": "*"}, status: 400, code: "notSupported"},
	{method: http.MethodPatch, path: apiRecord, body: "{}", header: map[string]string{"Accept": "text/html"}, status: 406, code: "NotAcceptable"},
	{method: http.MethodPatch, path: apiStatuses, body: "{}", header: map[string]string{"Accept": "text/html"}, status: 406, code: "NotAcceptable"},
	{method: http.MethodDelete, path: apiRecord, header: map[string]string{"Accept": "text/html"}, status: 406, code: "NotAcceptable"},
	{method: http.MethodGet, path: apiStatuses, header: map[string]string{"Accept": "application/xml, */*;q=0"}, status: 406, code: "NotAcceptable"},
	{method: http.MethodGet, path: apiOverview, header: map[string]string{"Accept": "text/html"}, status: 406, code: "NotAcceptable"},
	{method: http.MethodGet, path: apiOverview, header: map[string]string{"Accept": "text/html, application/*;q=0.1"}, status: 200},
	{method: http.MethodPatch, path: apiStatuses, body: "{}", header: map[string]string{"Transfer-Encoding": "chunked"}, status: 411, code: "LengthRequired"},
	{method: http.MethodPatch, path: apiStatuses, body: "{}", header: map[string]string{"Content-Type": ""}, status: 415, code: "UnsupportedMediaType"},
	{method: http.MethodPatch, path: apiStatuses, body: "{}", header: map[string]string{"Content-Encoding": "gzip"}, status: 415, code: "UnsupportedMediaType"},
}

// queryExchanges are about query options.
var queryExchanges = []exchange{
	{method: http.MethodGet, path: apiStatuses + "?filter=status%20ne%20'error'&SELECT=*&top=0&%24count=true", status: 200},
	{method: http.MethodGet, path: apiRoot + "my-empty/deviceStatuses?$count=true", status: 200},
	{method: http.MethodGet, path: apiStatuses + "?$filter=lastReportedDateTime%20lt%202026-01-31T12:00:00%2B01:00", status: 200},
	{method: http.MethodGet, path: apiRoot + "my-empty/deviceStatusOverview", status: 200},
	{method: http.MethodGet, path: apiStatuses + "?$top=1001", status: 400, code: "invalidQuery"},
	{method: http.MethodGet, path: apiStatuses + "?$count=1", status: 400, code: "invalidQuery"},
	{method: http.MethodGet, path: apiStatuses + "?$skiptoken=x", status: 400, code: "invalidQuery"},
	{method: http.MethodGet, path: apiStatuses + "?$top=1&top=1", status: 400, code: "invalidQuery"},
	{method: http.MethodGet, path: apiStatuses + "?$orderby=id", status: 400, code: "notSupported"},
	{method: http.MethodGet, path: apiRoot + "my.policy/deviceStatuses", status: 400, code: "invalidSubject"},
	{method: http.MethodGet, path: apiRecord + "?$select=name", status: 400, code: "invalidQuery"},
	{method: http.MethodGet, path: apiRecord + "?$expand=x", status: 400, code: "notSupported"},
	{method: http.MethodGet, path: apiStatuses + "/my.device", status: 400, code: "invalidSubject"},
	{method: http.MethodGet, path: apiOverview + "?%zz", status: 400, code: "invalidQuery"},
	{method: http.MethodGet, path: apiOverview + "?$select=id", status: 400, code: "notSupported"},
	{method: http.MethodGet, path: apiRoot + "my%00policy/deviceStatusOverview", status: 400, code: "invalidSubject"},
	{method: http.MethodPatch, path: apiStatuses + "?$select=id", body: "{}", status: 400, code: "notSupported"},
	{method: http.MethodPatch, path: apiStatuses + "/..", body: "{}", status: 400, code: "invalidSubject"},
	{method: http.MethodPatch, path: apiRoot + "my%2Fpolicy/deviceStatuses", body: "{}", status: 400, code: "invalidSubject"},
	{method: http.MethodDelete, path: apiRecord + "?force", status: 400, code: "notSupported"},
	{method: http.MethodDelete, path: apiStatuses + "('my%20device')", status: 400, code: "invalidSubject"},
	{method: http.MethodDelete, path: apiStatuses + "/my.device", status: 400, code: "invalidSubject"},
}

// bodyExchanges are a body for every code of a report, on both addresses.
func bodyExchanges() (list []exchange) {
	for code, members := range map[compliance.Code]string{
		compliance.MalformedJSON: `"a"`, compliance.DuplicateProperty: `"platform":1,"platform":1`, compliance.UnknownProperty: `"a":1`,
		compliance.TypeMismatch: `"platform":"8"`, compliance.NullNotAllowed: `"status":null`, compliance.InvalidStatus: `"status":"Error"`,
		compliance.InvalidDateTime: `"lastReportedDateTime":"2026-01-31"`, compliance.OutOfRange: `"platform":2147483648`,
		compliance.ValueTooLong: `"userName":"` + strings.Repeat("a", 257) + `"`, compliance.WrongType: `"@odata.type":"#microsoft.graph.device"`,
	} {
		list = append(list,
			exchange{method: http.MethodPatch, path: apiRecord, body: `{` + members + `}`, status: 400, code: string(code)},
			exchange{method: http.MethodPatch, path: apiStatuses, body: `{"id":"my-device",` + members + `}`, status: 400, code: string(code)},
			exchange{method: http.MethodPatch, path: apiStatuses, body: `{"value":[{"id":"a"},{"id":"my-device",` + members + `}]}`, status: 400, code: string(code)})
	}
	const other = apiRoot + "other-policy/deviceStatuses"
	return append(list,
		exchange{method: http.MethodPatch, path: other, body: `{"id":"my-device"}`, status: 400, code: "policyNotAllowed"},
		exchange{method: http.MethodPatch, path: other + "/my-device", body: `{}`, status: 400, code: "policyNotAllowed"},
		exchange{method: http.MethodPatch, path: apiRecord, body: `{"id":"other-device"}`, status: 400, code: "idMismatch"},
		exchange{method: http.MethodPatch, path: apiStatuses, body: `{"id":"my device"}`, status: 400, code: "invalidSubject"},
		exchange{method: http.MethodPatch, path: apiStatuses + "/my.device", body: `{}`, status: 400, code: "invalidSubject"},
		exchange{method: http.MethodPatch, path: apiStatuses, body: `{"id":"my-device",` + oversize + `}`, status: 413, code: "tooLarge"},
		exchange{method: http.MethodPatch, path: apiStatuses, body: `{"value":[{"id":"my-device",` + oversize + `}]}`, status: 400, code: "tooLarge"},
		exchange{method: http.MethodPatch, path: apiStatuses, body: `{"value":[` + strings.Repeat("{},", 1000) + `{}]}`, status: 400, code: "tooLarge"},
		exchange{method: http.MethodPatch, path: apiStatuses, body: `{"value":[],"id":"my-device"}`, status: 400, code: "unknownProperty"},
		exchange{method: http.MethodPatch, path: apiStatuses, body: `{"@odata.context":"x","value":[]}`, status: 200},
	)
}

// pages follows the links of a list to its end.
func (c *apiClient) pages() {
	c.Helper()
	const n = 5
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		c.do(&exchange{method: http.MethodPatch, path: apiRoot + "my-pages/deviceStatuses", body: `{"id":"` + id + `","status":"error"}`, status: 200})
	}
	found, path := 0, apiRoot+"my-pages/deviceStatuses?$top=2&$count=true&$filter=status%20eq%20'error'"
	for path != "" {
		var page struct {
			Count int    `json:"@odata.count"`
			Next  string `json:"@odata.nextLink"`
			Value []any  `json:"value"`
		}
		if err := json.Unmarshal(c.do(&exchange{method: http.MethodGet, path: path, status: 200}), &page); err != nil {
			c.Fatal(err)
		}
		if found += len(page.Value); page.Count != n || found > n {
			c.Fatalf("%d of %d records", found, page.Count)
		}
		for _, record := range page.Value {
			if openapitest.At(record, "userName") != nil || openapitest.At(record, "status") != "error" || len(record.(map[string]any)) != 10+3 {
				c.Errorf("a record has not all: %v", record)
			}
		}
		path = strings.TrimPrefix(page.Next, c.base)
	}
	if found != n {
		c.Errorf("%d records, want %d", found, n)
	}
}

// malformed sends requests of an operation that are none of HTTP, or that use parts of it
// that are not supported.
func (c *apiClient) malformed(of exchange) {
	c.Helper()
	for _, wrong := range []exchange{
		{body: "{method} {path} HTTP/1.1\r\n\r\n", status: 400, code: "badRequest"},
		{body: "{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n", status: 400, code: "badRequest"},
		{body: "{method} {path} HTTP/1.1\r\nHost: x\r\nExpect: 200-ok\r\n\r\n", status: 417, code: "notSupported", example: "errorNotSupported"},
		{body: "{method} {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", status: 501, code: "notSupported"},
		{body: "{method} {path} HTTP/3.0\r\nHost: x\r\n\r\n", status: 505, code: "notSupported"},
		{
			body: "{method} {path} HTTP/1.1\r\nHost: x\r\nX-Long: " + strings.Repeat("a", 40_000) + "\r\n\r\n", status: 431,
			code: "RequestHeaderFieldsTooLarge", example: "errorHeader",
		},
	} {
		wrong.method, wrong.path = of.method, of.path
		c.raw(&wrong, false)
	}
	if of.method == http.MethodPatch {
		c.raw(&exchange{
			method: of.method, path: of.path, status: 400, code: "badRequest",
			body: "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{}",
		}, true)
	}
}
