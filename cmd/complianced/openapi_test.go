package main_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/complianced/complianced/internal/openapitest"
)

// documentedURL is the address of the service in the examples of api/openapi.yaml.
const documentedURL = "http://127.0.0.1:8080"

// Addresses of the API.
const (
	apiRoot     = "/deviceManagement/deviceCompliancePolicies/"
	apiStatuses = apiRoot + "my-policy/deviceStatuses"
	apiRecord   = apiStatuses + "/my-device"
	apiOverview = apiRoot + "my-policy/deviceStatusOverview"
)

// exchange is a request, and what it is answered with.
type exchange struct {
	method string
	// path may have a query.
	path string
	// send is the name of the example that is the body; otherwise the body is text.
	send string
	body string
	// header are headers beside the token and the Content-Type. An empty value leaves out
	// one of these two.
	header map[string]string
	status int
	code   string
	// applied is the header Preference-Applied.
	applied string
	// example is the name of the one that the answer is.
	example string
}

// apiClient sends requests to a service and holds every answer against the document.
type apiClient struct {
	*testing.T
	doc   *openapitest.Document
	base  string
	token string
}

// do sends a request.
func (c *apiClient) do(x *exchange) []byte {
	c.Helper()
	body := []byte(x.body)
	if x.send != "" {
		var err error
		if body, err = json.Marshal(c.doc.Example(x.send)); err != nil {
			c.Fatal(err)
		}
	}
	var reader io.Reader
	if len(body) > 0 {
		reader = bytes.NewReader(body)
	}
	request, err := http.NewRequestWithContext(c.Context(), x.method, c.base+x.path, reader)
	if err != nil {
		c.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+c.token)
	if reader != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	for name, value := range x.header {
		switch {
		case name == "Transfer-Encoding":
			request.ContentLength = -1
		case value == "":
			request.Header.Del(name)
		default:
			request.Header.Set(name, value)
		}
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		c.Fatal(err)
	}
	defer response.Body.Close()
	return c.check(x, response, &openapitest.Answer{Query: request.URL.Query(), Asked: request.Header, Sent: body})
}

// check holds an answer against what is wanted and what the document says.
func (c *apiClient) check(x *exchange, response *http.Response, answer *openapitest.Answer) []byte {
	c.Helper()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		c.Fatal(err)
	}
	answer.Method, answer.Status, answer.Header, answer.Body = x.method, response.StatusCode, response.Header, text
	answer.Path, _, _ = strings.Cut(x.path, "?")
	code := c.doc.Check(answer)
	if x.method == http.MethodHead {
		code = x.code // It has no body to say so.
	}
	if answer.Status != x.status || code != x.code || response.Header.Get("Preference-Applied") != x.applied {
		c.Errorf("%s %s %.100s: %d %s %q, want %d %s %q: %s", x.method, x.path, answer.Sent, answer.Status, code,
			response.Header.Get("Preference-Applied"), x.status, x.code, x.applied, text)
	}
	if id := x.header["client-request-id"]; id != response.Header.Get("client-request-id") {
		c.Errorf("%s %s: client-request-id %q, want %q", x.method, x.path, response.Header.Get("client-request-id"), id)
	}
	if x.example != "" {
		want, err := json.Marshal(c.doc.Example(x.example))
		if err != nil {
			c.Fatal(err)
		}
		asThere := bytes.ReplaceAll(text, []byte(c.base), []byte(documentedURL))
		if diff := cmp.Diff(c.lasting(want), c.lasting(asThere)); diff != "" {
			c.Errorf("%s (-want +got):\n%s", x.example, diff)
		}
	}
	return text
}

// skipToken is the part of a link that differs at each start of a service.
var skipToken = regexp.MustCompile(`(skiptoken=)[A-Za-z0-9_-]+`)

// lasting returns JSON without what differs from time to time.
func (c *apiClient) lasting(text []byte) any {
	c.Helper()
	var value any
	if err := json.Unmarshal(skipToken.ReplaceAll(text, []byte("${1}…")), &value); err != nil {
		c.Fatalf("%s: %v", text, err)
	}
	var walk func(value any)
	walk = func(value any) {
		switch value := value.(type) {
		case []any:
			for _, one := range value {
				walk(one)
			}
		case map[string]any:
			for _, name := range []string{"date", "request-id", "sequence", "lastUpdateDateTime"} {
				if _, ok := value[name]; ok {
					value[name] = "…"
				}
			}
			for _, one := range value {
				walk(one)
			}
		}
	}
	walk(value)
	return value
}

// raw sends the body of an exchange as it is, with its method, path and the token where they
// are named. After it nothing more comes; where it ends, the client says so.
func (c *apiClient) raw(x *exchange, ends bool) {
	c.Helper()
	at, err := url.Parse(c.base)
	if err != nil {
		c.Fatal(err)
	}
	conn, err := new(net.Dialer).DialContext(c.Context(), "tcp", at.Host)
	if err != nil {
		c.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(limit())); err != nil {
		c.Fatal(err)
	}
	text := strings.NewReplacer("{method}", x.method, "{path}", x.path, "{token}", c.token).Replace(x.body)
	if _, err := io.WriteString(conn, text); err != nil {
		c.Fatal(err)
	}
	if tcp, ok := conn.(*net.TCPConn); ok && ends {
		if err := tcp.CloseWrite(); err != nil {
			c.Fatal(err)
		}
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		c.Fatalf("%.200q: %v", text, err)
	}
	defer response.Body.Close()
	c.check(x, response, &openapitest.Answer{})
}

// operations are a request of each operation, by method and address.
var operations = []exchange{
	{method: http.MethodGet, path: apiStatuses},
	{method: http.MethodPatch, path: apiStatuses},
	{method: http.MethodGet, path: apiRecord},
	{method: http.MethodPatch, path: apiRecord},
	{method: http.MethodDelete, path: apiRecord},
	{method: http.MethodGet, path: apiOverview},
}

// Every answer of the API is one that api/openapi.yaml has, and every answer that it has is
// one that comes.
func TestTheAPIIsWhatItsDocumentSays(t *testing.T) {
	doc := openapitest.Read(t, "../../api")
	s := serve(t, "--allow-policies", "my-*")
	client := &apiClient{T: t, doc: doc, base: s.HTTP, token: s.Token}
	if doc.Servers[0].URL != documentedURL {
		t.Errorf("the first server is %s", doc.Servers[0].URL)
	}
	for _, x := range slices.Concat(exampleExchanges, addressExchanges(), headerExchanges, queryExchanges, bodyExchanges()) {
		client.do(&x)
	}
	client.pages()
	for _, of := range operations {
		client.malformed(of)
	}
	outages(t, doc)

	want, seen := doc.Outcomes(), doc.Seen()
	for outcome := range seen {
		if !want[outcome] {
			t.Errorf("the document does not have %+v", outcome)
		}
	}
	for outcome := range want {
		if !seen[outcome] {
			t.Errorf("never seen: %+v", outcome)
		}
	}
	for parameter := range doc.Parameters() {
		if !doc.Used()[parameter] {
			t.Errorf("never used: %+v", parameter)
		}
	}
	if unused := doc.Unused(); len(unused) > 0 {
		t.Errorf("no exchange has these examples: %v", unused)
	}
}
