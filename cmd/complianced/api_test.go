package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/compliance/compliancetest"
	"github.com/complianced/complianced/publisher"
)

// policies is where the API has the policies.
const policies = "/deviceManagement/deviceCompliancePolicies/"

// response is an answer of the API.
type response struct {
	*testing.T
	status int
	header http.Header
	body   string
}

// call sends a request to the API with the token of the serve; headers are names and
// values in turn. It may be called from many goroutines: where no answer comes, the test
// fails, and the status is 0.
func (s *serving) call(method, address, body string, headers ...string) response {
	s.Helper()
	if strings.HasPrefix(address, "/") {
		address = s.HTTP + address
	}
	request, err := http.NewRequestWithContext(s.Context(), method, address, strings.NewReader(body))
	if err != nil {
		s.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+s.Token)
	if method == http.MethodPatch {
		request.Header.Set("Content-Type", "application/json")
	}
	for pair := range slices.Chunk(headers, 2) {
		request.Header.Set(pair[0], pair[1])
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		s.Error(err)
		return response{T: s.T}
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		s.Error(err)
	}
	return response{T: s.T, status: answer.StatusCode, header: answer.Header, body: string(text)}
}

func (s *serving) patch(path, body string, headers ...string) response {
	s.Helper()
	return s.call(http.MethodPatch, policies+path, body, headers...)
}

func (s *serving) read(path string) response {
	s.Helper()
	return s.call(http.MethodGet, policies+path, "")
}

// want checks the status.
func (r response) want(status int) response {
	r.Helper()
	if r.status != status {
		r.Fatalf("status %d, want %d: %s", r.status, status, r.body)
	}
	return r
}

// object returns the JSON object of the body.
func (r response) object() map[string]any {
	r.Helper()
	var object map[string]any
	if err := json.Unmarshal([]byte(r.body), &object); err != nil {
		r.Fatalf("no JSON object: %v: %s", err, r.body)
	}
	return object
}

// fault checks that the answer is the error object of this API, and returns its inner code
// and target.
func (r response) fault(status int, code string) compliance.Error {
	r.Helper()
	r.want(status)
	var object struct {
		Error compliance.Error `json:"error"`
	}
	if err := json.Unmarshal([]byte(r.body), &object); err != nil {
		r.Fatalf("no error object: %v: %s", err, r.body)
	}
	e := object.Error
	if string(e.Inner.Code) != code || e.Code == "" || e.Message == "" || e.Inner.Date == "" {
		r.Errorf("error %+v, want the inner code %s", e, code)
	}
	if e.Inner.RequestID == "" || r.header.Get("request-id") != e.Inner.RequestID {
		r.Errorf("request-id %q in the header, %q in the body", r.header.Get("request-id"), e.Inner.RequestID)
	}
	return e
}

// without returns an object without what is beside the documented one.
func without(object map[string]any, names ...string) map[string]any {
	object = maps.Clone(object)
	maps.DeleteFunc(object, func(name string, _ any) bool { return slices.Contains(names, name) })
	return object
}

func TestTheDocumentedRequestGetsTheDocumentedAnswer(t *testing.T) {
	s := serve(t)
	text, err := os.ReadFile("../../compliance/testdata/documented.json")
	if err != nil {
		t.Fatal(err)
	}
	var want map[string]any
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	const device = "a72b2760-2760-a72b-6027-2ba760272ba7"
	want["id"] = device
	body, _ := json.Marshal(want)
	for _, prefix := range []string{"", "/beta", "/v1.0"} {
		answer := s.call(http.MethodPatch, prefix+policies+"my-policy/deviceStatuses", string(body)).want(http.StatusOK)
		have := answer.object()
		context := s.HTTP + prefix + "/$metadata#deviceManagement/deviceCompliancePolicies('my-policy')/deviceStatuses/$entity"
		if have["@odata.context"] != context {
			t.Errorf("@odata.context %v, want %s", have["@odata.context"], context)
		}
		if diff := cmp.Diff(want, without(have, "@odata.context")); diff != "" {
			t.Errorf("the documented object (-want +have):\n%s", diff)
		}
		if kind := answer.header.Get("Content-Type"); !strings.HasPrefix(kind, "application/json") {
			t.Errorf("Content-Type %q", kind)
		}
		want["platform"] = want["platform"].(float64) + 1 // What is sent next is newer.
		body, _ = json.Marshal(want)
	}
	e := s.patch("my-policy/deviceStatuses", strings.Replace(string(body), "nonCompliant", "String", 1)).fault(http.StatusBadRequest, "invalidStatus")
	for _, status := range compliance.Statuses() {
		if !strings.Contains(e.Message, status.String()) {
			t.Errorf("the message does not name %s: %s", status, e.Message)
		}
	}
	if e.Target != "status" || e.Code != "badRequest" {
		t.Errorf("error %+v", e)
	}
	s.shows(`compliance_api_requests_total{operation="update",status="200"} 3`, `compliance_api_requests_total{operation="update",status="400"} 1`,
		`compliance_api_requests_total{operation="delete",status="204"} 0`, `compliance_api_request_duration_seconds_count{operation="update"} 4`)
}

// TestABodyIsTheSameReportOverHTTPAndNATS sends the body of every vector both ways, to
// records of the same device.
func TestABodyIsTheSameReportOverHTTPAndNATS(t *testing.T) {
	s := serve(t)
	nc, _ := s.client()
	sender, err := publisher.New(nc, publisher.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	codes := map[compliance.Code]bool{}
	for i, vector := range compliancetest.Vectors(t) {
		key, _, err := compliance.ParseSubject(vector.Envelope.Subject)
		if err != nil {
			key.Device = "d"
		}
		key.Policy = fmt.Sprintf("nats-%d", i)
		before := `{"userName":"before","status":"error"}`
		if _, err := sender.PublishAndWait(t.Context(), publisher.Outgoing{Key: key, Body: []byte(before)}); err != nil {
			t.Fatal(err)
		}
		overNATS, err := sender.PublishAndWait(t.Context(), publisher.Outgoing{Key: key, Body: vector.Envelope.Body})
		if errors.Is(err, publisher.ErrTooLarge) { // The stream does not take it either.
			s.patch("p/deviceStatuses/d", string(vector.Envelope.Body)).fault(http.StatusRequestEntityTooLarge, "tooLarge")
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", vector.Name, err)
		}
		path := fmt.Sprintf("http-%d/deviceStatuses/%s", i, key.Device)
		s.patch(path, before).want(http.StatusOK)
		answer := s.patch(path, string(vector.Envelope.Body))
		if overNATS.Outcome == compliance.Rejected {
			codes[overNATS.Error.Inner.Code] = true
			status := http.StatusBadRequest
			if overNATS.Error.Inner.Code == compliance.TooLarge {
				status = http.StatusRequestEntityTooLarge
			}
			e := answer.fault(status, string(overNATS.Error.Inner.Code))
			if e.Target != overNATS.Error.Target {
				t.Errorf("%s: over HTTP about %q, over NATS about %q", vector.Name, e.Target, overNATS.Error.Target)
			}
			if diff := cmp.Diff(overNATS.Error.Details, e.Details); diff != "" {
				t.Errorf("%s: over NATS -, over HTTP +:\n%s", vector.Name, diff)
			}
		} else if overNATS.Record == nil {
			answer.want(http.StatusNoContent)
		} else {
			if diff := cmp.Diff(object(t, string(overNATS.Record)), without(answer.want(http.StatusOK).object(), "@odata.context")); diff != "" {
				t.Errorf("%s: over NATS -, over HTTP +:\n%s", vector.Name, diff)
			}
		}
		// And what is kept.
		fromNATS, fromHTTP := s.read(fmt.Sprintf("nats-%d/deviceStatuses/%s", i, key.Device)), s.read(path)
		if fromNATS.status != fromHTTP.status {
			t.Fatalf("%s: %d and %d", vector.Name, fromNATS.status, fromHTTP.status)
		}
		if fromNATS.status == http.StatusOK {
			if diff := cmp.Diff(without(fromNATS.object(), "@odata.context"), without(fromHTTP.object(), "@odata.context")); diff != "" {
				t.Errorf("%s: the record over NATS -, over HTTP +:\n%s", vector.Name, diff)
			}
		}
	}
	for _, code := range compliance.Codes() {
		aboutBody := !slices.Contains([]compliance.Code{compliance.InvalidSubject, compliance.PolicyNotAllowed, compliance.FutureEventTime}, code)
		if aboutBody && !codes[code] {
			t.Errorf("no vector was refused with %s", code)
		}
	}
}

func object(t *testing.T, text string) map[string]any {
	t.Helper()
	return response{T: t, body: text}.object()
}

func TestUpdatesThroughOneGatewayAreAppliedInTheirOrder(t *testing.T) {
	s := serve(t)
	for i := range 300 {
		name := fmt.Sprintf("n%d", i)
		body := fmt.Sprintf(`{"userName":%q,"lastReportedDateTime":"2026-01-01T00:00:00Z"}`, name)
		if have := s.patch("p/deviceStatuses/d", body).want(http.StatusOK).object(); have["userName"] != name {
			t.Fatalf("after update %d the name is %v", i, have["userName"])
		}
	}
	if have := s.read("p/deviceStatuses('d')").want(http.StatusOK).object(); have["userName"] != "n299" {
		t.Errorf("in the end the name is %v", have["userName"])
	}
	s.judge()
}

func TestWhatABodyOnTheCollectionNames(t *testing.T) {
	s := serve(t)
	e := s.patch("p/deviceStatuses", `{"status":"error"}`).fault(http.StatusBadRequest, "idRequired")
	if e.Target != "id" || len(e.Details) != 1 {
		t.Errorf("error %+v", e)
	}
	for body, code := range map[string]string{
		`{"status":"String"}`:         "idRequired",
		`{"id":"a b"}`:                "invalidSubject",
		`{"id":""}`:                   "invalidSubject",
		`{"id":null}`:                 "nullNotAllowed",
		`{"id":7}`:                    "typeMismatch",
		`[]`:                          "typeMismatch",
		`{"status":`:                  "malformedJson",
		``:                            "malformedJson",
		`{"id":"d","id":"d"}`:         "duplicateProperty",
		`{"id":"d","value":[]}`:       "unknownProperty",
		`{"value":[],"value":[]}`:     "duplicateProperty",
		`{"value":[}`:                 "malformedJson",
		`{"value":[]} x`:              "malformedJson",
		`{"value":7}`:                 "idRequired",
		`{"value":[{}` + "\xff" + `]`: "malformedJson",
	} {
		s.patch("p/deviceStatuses", body).fault(http.StatusBadRequest, code)
	}
	large := `{"id":"d","userName":"` + strings.Repeat("x", compliance.MaxBody) + `"}`
	s.patch("p/deviceStatuses", large).fault(http.StatusRequestEntityTooLarge, "tooLarge")
	if n := s.run("", "summary", "-o", "json"); strings.Contains(n, `"p"`) {
		t.Errorf("a refused report made a record: %s", n)
	}
	if have := s.patch("p/deviceStatuses", `{"userName":"x","id":"d1"}`).want(http.StatusOK).object(); have["id"] != "d1" {
		t.Errorf("record %v", have)
	}
}

func TestADeltaIsAppliedAsAWholeOrNotAtAll(t *testing.T) {
	s := serve(t)
	_, js := s.client()
	last := func() uint64 {
		stream, err := js.Stream(t.Context(), "COMPLIANCE_STATUS")
		if err != nil {
			t.Fatal(err)
		}
		return stream.CachedInfo().State.LastSeq
	}
	e := s.patch("p/deviceStatuses", `{"@odata.context":"x","value":[{"id":"d1"},{"id":"d2","platform":"8","status":"String"},{"status":"error"},{"id":"d4","@removed":7}]}`).
		fault(http.StatusBadRequest, "typeMismatch")
	var targets []string
	for _, d := range e.Details {
		targets = append(targets, string(d.Code)+" "+d.Target)
	}
	want := []string{
		"typeMismatch value[1].platform", "invalidStatus value[1].status", "idRequired value[2].id", "typeMismatch value[3].@removed",
	}
	if diff := cmp.Diff(want, targets); diff != "" {
		t.Errorf("details (-want +have):\n%s", diff)
	}
	if n := last(); n != 0 {
		t.Fatalf("a delta with faults stored %d reports", n)
	}
	var members []string
	for i := range 1000 {
		members = append(members, fmt.Sprintf(`{"id":"d%d","userName":"n%d"}`, i%400, i))
	}
	answer := s.patch("p/deviceStatuses", `{"value":[`+strings.Join(members, ",")+`]}`).want(http.StatusOK).object()
	list := answer["value"].([]any)
	if len(list) != 1000 || !strings.HasSuffix(answer["@odata.context"].(string), "deviceStatuses/$delta") {
		t.Fatalf("%d members, context %v", len(list), answer["@odata.context"])
	}
	for i := range 400 { // The last of each device wins, whatever the order of storing.
		newest := 800 + i
		if newest > 999 {
			newest = 400 + i
		}
		if have := s.read(fmt.Sprintf("p/deviceStatuses/d%d", i)).want(http.StatusOK).object(); have["userName"] != fmt.Sprintf("n%d", newest) {
			t.Errorf("device %d has %v, want n%d", i, have["userName"], newest)
		}
	}
	s.patch("p/deviceStatuses", `{"value":[`+strings.Join(append(members, `{"id":"x"}`), ",")+`]}`).fault(http.StatusBadRequest, "tooLarge")
	answer = s.patch("p/deviceStatuses", `{"value":[{"id":"d1","@removed":{"reason":"deleted"}},{"id":"d2","userName":"x"}]}`).want(http.StatusOK).object()
	if first := answer["value"].([]any)[0].(map[string]any); first["@removed"] == nil || first["id"] != "d1" || first["userName"] != nil {
		t.Errorf("the removed one is %v", first)
	}
	s.read("p/deviceStatuses/d1").fault(http.StatusNotFound, "ResourceNotFound")
	if empty := s.patch("p/deviceStatuses", `{"value":[]}`).want(http.StatusOK).object(); len(empty["value"].([]any)) != 0 {
		t.Errorf("an empty delta gives %v", empty)
	}
	huge := `{"value":[{"id":"d"}` + strings.Repeat(" ", 4<<20) + `]}`
	s.patch("p/deviceStatuses", huge).fault(http.StatusRequestEntityTooLarge, "tooLarge")
	s.judge()
}

func TestPreferencesAreHonoured(t *testing.T) {
	s := serve(t)
	answer := s.patch("p/deviceStatuses/d", `{"userName":"a"}`, "Prefer", "handling=lenient, return=minimal").want(http.StatusNoContent)
	if answer.header.Get("Preference-Applied") != "return=minimal" || answer.body != "" {
		t.Errorf("%v %q", answer.header, answer.body)
	}
	answer = s.patch("p/deviceStatuses/d", `{"userName":"b"}`, "Prefer", "respond-async").want(http.StatusAccepted)
	if have := answer.object(); have["stream"] != "COMPLIANCE_STATUS" || have["sequence"] != 2.0 || answer.header.Get("Preference-Applied") != "respond-async" {
		t.Errorf("%v %v", answer.header, have)
	}
	s.patch("p/deviceStatuses/d", `{"userName":7}`, "Prefer", "respond-async").fault(http.StatusBadRequest, "typeMismatch")
	answer = s.patch("p/deviceStatuses/d", `{"userName":"c"}`, "Prefer", `return="representation"; x=y`).want(http.StatusOK)
	if answer.header.Get("Preference-Applied") != "return=representation" {
		t.Errorf("%v", answer.header)
	}
	answer = s.patch("p/deviceStatuses", `{"value":[{"id":"d1"},{"id":"d2"}]}`, "Prefer", "respond-async").want(http.StatusAccepted)
	if list := answer.object()["value"].([]any); len(list) != 2 || list[1].(map[string]any)["id"] != "d2" || list[1].(map[string]any)["sequence"] == 0.0 {
		t.Errorf("accepted: %v", list)
	}
	answer = s.patch("p/deviceStatuses/d", `{}`, "Prefer", "wait=1, odata.maxpagesize=7", "client-request-id", "my-request").want(http.StatusOK)
	if applied, ok := answer.header["Preference-Applied"]; ok {
		t.Errorf("Preference-Applied: %v", applied)
	}
	if answer.header.Get("client-request-id") != "my-request" {
		t.Errorf("%v", answer.header)
	}
	answer = s.patch("p/deviceStatuses/d", `{}`, "client-request-id", "my request").want(http.StatusOK)
	if have, ok := answer.header["Client-Request-Id"]; ok {
		t.Errorf("client-request-id: %v", have)
	}
}

func TestARecordIsDeleted(t *testing.T) {
	s := serve(t)
	s.call(http.MethodDelete, policies+"p/deviceStatuses/d", "").fault(http.StatusNotFound, "ResourceNotFound")
	s.patch("p/deviceStatuses/d", `{"userName":"a"}`).want(http.StatusOK)
	s.call(http.MethodDelete, policies+"p/deviceStatuses('d')", "").want(http.StatusNoContent)
	s.read("p/deviceStatuses/d").fault(http.StatusNotFound, "ResourceNotFound")
	// A device whose clock is ahead does not keep its record.
	s.run(`{"userName":"ahead"}`, "publish", "p", "d", "--wait", "--event-time", inNineMinutes())
	s.call(http.MethodDelete, policies+"p/deviceStatuses/d", "").want(http.StatusNoContent)
	s.read("p/deviceStatuses/d").fault(http.StatusNotFound, "ResourceNotFound")
	// What is sent after it is newer.
	if have := s.patch("p/deviceStatuses/d", `{"userName":"back"}`).want(http.StatusOK).object(); have["userName"] != "back" {
		t.Errorf("record %v", have)
	}
	// A removal that does not win says so, and so does an update of what was removed.
	s.run(`{"userName":"ahead"}`, "publish", "p", "e", "--wait", "--event-time", inNineMinutes())
	if have := s.patch("p/deviceStatuses/e", `{"@removed":{}}`).want(http.StatusOK).object(); have["userName"] != "ahead" {
		t.Errorf("record %v", have)
	}
	list := s.patch("p/deviceStatuses", `{"value":[{"id":"e","@removed":{}}]}`).want(http.StatusOK).object()["value"].([]any)
	if have := list[0].(map[string]any); have["userName"] != "ahead" {
		t.Errorf("record %v", have)
	}
	s.run(`{"@removed":{}}`, "publish", "p", "e", "--wait", "--event-time", inNineMinutes())
	s.patch("p/deviceStatuses/e", `{"userName":"late"}`).fault(http.StatusNotFound, "ResourceNotFound")
	s.judge()
}

// TestAResultThatIsLostIsLookedUp has two workers that may not publish results, one of
// which refuses a policy that the gateway takes.
func TestAResultThatIsLostIsLookedUp(t *testing.T) {
	b := startBroker(t, `
  {user: admin, password: word}
  {user: gateway, password: word, permissions: {
    publish: ["compliance.status.>", "$JS.API.STREAM.INFO.*", "$JS.API.STREAM.MSG.GET.*", "$JS.API.DIRECT.GET.>"]
    subscribe: ["_INBOX.>", "compliance.result.>"]}}
  {user: worker, password: word, permissions: {publish: {deny: "compliance.result.>"}}}`)
	own, _ := ownRedis(t, t.TempDir())
	b.provision("admin:word", own)
	t.Setenv("COMPLIANCED_NATS_URL", b.url("gateway:word")) // It has the rights that the README names.
	gateway := serve(t, "--redis-url", own.URL(), "--roles", "api", "--api-wait", "2s")
	// Nobody merges.
	if have := gateway.patch("p/deviceStatuses/d", `{"userName":"a"}`).want(http.StatusAccepted).object(); have["sequence"] != 1.0 {
		t.Errorf("accepted: %v", have)
	}
	gateway.read("p/deviceStatuses/d").fault(http.StatusNotFound, "ResourceNotFound")
	var members []string
	for i := range 1000 {
		members = append(members, fmt.Sprintf(`{"id":"m%d"}`, i))
	}
	list := gateway.patch("p/deviceStatuses", `{"value":[`+strings.Join(members, ",")+`]}`).want(http.StatusAccepted).object()["value"].([]any)
	if last := list[999].(map[string]any); len(list) != 1000 || last["id"] != "m999" || last["sequence"].(float64) < 2 {
		t.Errorf("%d members are accepted, the last as %v", len(list), last)
	}
	t.Setenv("COMPLIANCED_NATS_URL", b.url("worker:word"))
	worker := serve(t, "--redis-url", own.URL(), "--roles", "ingest", "--allow-policies", "p")
	if have := gateway.patch("p/deviceStatuses/d", `{"deviceModel":"m"}`).want(http.StatusOK).object(); have["userName"] != "a" || have["deviceModel"] != "m" {
		t.Errorf("record %v", have)
	}
	gateway.patch("q/deviceStatuses/d", `{"userName":"a"}`).fault(http.StatusBadRequest, "policyNotAllowed")
	gateway.patch("p/deviceStatuses/d", `{"@removed":{}}`).want(http.StatusNoContent)
	worker.stop()
	gateway.patch("p/deviceStatuses/d", `{"userName":"b"}`).want(http.StatusAccepted)
}

// inNineMinutes is a time that a clock may show that is ahead.
func inNineMinutes() string { return compliance.FormatStored(time.Now().Add(9 * time.Minute)) }
