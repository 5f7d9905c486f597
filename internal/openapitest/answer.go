package openapitest

import (
	"maps"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// Answer is what a request got.
type Answer struct {
	// Method and Path are those of the request. The path has its prefix and keys as they
	// were sent, and no query.
	Method, Path string
	// Query, Asked and Sent are the query, the headers and the body of the request.
	Query  url.Values
	Asked  http.Header
	Sent   []byte
	Status int
	Header http.Header
	Body   []byte
}

// everywhere are the headers that the document tells of in words, or that are HTTP's own.
var everywhere = map[string]string{
	"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
	"Content-Type": "", "Content-Length": "", "Connection": "", "Date": "",
}

// key is a key in the OData form.
var key = regexp.MustCompile(`\('([^/]*)'\)`)

// find returns what the document has at an address; nil where it has nothing.
func (d *Document) find(path string) *openapi3.PathItem {
	for _, server := range d.Servers {
		prefix, _ := server.BasePath()
		if rest, ok := strings.CutPrefix(path, prefix+"/"); ok && prefix != "/" {
			path = "/" + rest
			break
		}
	}
	path = key.ReplaceAllString(path, "/$1")
	for template, item := range d.Paths.Map() {
		if matches(strings.Split(template, "/"), strings.Split(path, "/")) {
			return item
		}
	}
	return nil
}

func matches(template, path []string) bool {
	if len(template) != len(path) {
		return false
	}
	for i, segment := range template {
		if segment != path[i] && !strings.HasPrefix(segment, "{") {
			return false
		}
	}
	return true
}

// Check holds an answer against the document. It returns the code of an error. It may be
// called from several goroutines.
func (d *Document) Check(a *Answer) (code string) {
	d.test.Helper()
	d.mutex.Lock()
	defer d.mutex.Unlock()
	operation, response := d.response(a)
	if response == nil {
		d.test.Errorf("%s %s: the document has no %d: %s", a.Method, a.Path, a.Status, a.Body)
		return ""
	}
	d.checkHeader(a, response)
	if code = d.checkBody(a, response); operation != nil {
		if a.Status < http.StatusBadRequest {
			d.checkRequest(a, operation)
		}
		d.seen[Outcome{operation.OperationID, a.Status, code}] = true
	}
	return code
}

// response returns what the document says of an answer. What is no operation has no other
// answers than those for its token, its address and its method.
func (d *Document) response(a *Answer) (*openapi3.Operation, *openapi3.ResponseRef) {
	item := d.find(a.Path)
	var name string
	switch {
	case item != nil && item.GetOperation(a.Method) != nil:
		operation := item.GetOperation(a.Method)
		return operation, operation.Responses.Status(a.Status)
	case a.Status == http.StatusUnauthorized:
		name = "Unauthorized"
	case item == nil && a.Status == http.StatusNotFound:
		name = "NotFound"
	case item != nil && a.Status == http.StatusMethodNotAllowed:
		name = "MethodNotAllowed"
		methods := slices.Sorted(maps.Keys(item.Operations()))
		allowed := strings.Split(a.Header.Get("Allow"), ", ")
		if slices.Sort(allowed); !slices.Equal(methods, allowed) {
			d.test.Errorf("%s: Allow is %q, and the document has %v", a.Path, a.Header.Get("Allow"), methods)
		}
	default:
		return nil, nil
	}
	return nil, &openapi3.ResponseRef{Ref: components + "responses/" + name, Value: d.Components.Responses[name].Value}
}

// Parameter is one of an operation.
type Parameter struct{ Operation, Name string }

// checkRequest holds a request that was right against the document.
func (d *Document) checkRequest(a *Answer, operation *openapi3.Operation) {
	d.test.Helper()
	known := map[string]bool{}
	for _, parameter := range operation.Parameters {
		name := parameter.Value.Name
		known[name] = true
		asked := parameter.Value.In == "query" && a.Query.Has(name) || parameter.Value.In == "header" && a.Asked.Get(name) != ""
		if asked {
			d.used[Parameter{operation.OperationID, name}] = true
		}
	}
	for name := range a.Query {
		// OData takes the names of options in any case, and without the $.
		if option := "$" + strings.ToLower(strings.TrimPrefix(name, "$")); !known[option] {
			d.test.Errorf("%s %s: the document has no option %s", a.Method, a.Path, option)
		}
	}
	if operation.RequestBody == nil {
		if len(a.Sent) > 0 {
			d.test.Errorf("%s %s has a body: %s", a.Method, a.Path, a.Sent)
		}
		return
	}
	if err := d.Fits(RequestSchema(d.template(operation), a.Method), d.parse(a.Sent)); err != nil {
		d.test.Errorf("%s %s: %s: %v", a.Method, a.Path, a.Sent, err)
	}
}

// template returns the path of an operation.
func (d *Document) template(operation *openapi3.Operation) string {
	for template, item := range d.Paths.Map() {
		for _, one := range item.Operations() {
			if one == operation {
				return template
			}
		}
	}
	return ""
}

// Parameters returns those of all operations.
func (d *Document) Parameters() map[Parameter]bool {
	all := map[Parameter]bool{}
	for _, item := range d.Paths.Map() {
		for _, operation := range item.Operations() {
			for _, parameter := range operation.Parameters {
				all[Parameter{operation.OperationID, parameter.Value.Name}] = true
			}
		}
	}
	return all
}

// Used returns the parameters of requests that were right.
func (d *Document) Used() map[Parameter]bool { return d.used }

func (d *Document) checkHeader(a *Answer, response *openapi3.ResponseRef) {
	d.test.Helper()
	documented := map[string]bool{}
	for name, header := range response.Value.Headers {
		documented[http.CanonicalHeaderKey(name)] = true
		values := a.Header.Values(name)
		switch {
		case len(values) > 1:
			d.test.Errorf("%s %s, %d: %s is there %d times", a.Method, a.Path, a.Status, name, len(values))
		case len(values) == 1:
			if err := d.Fits(header.Ref+"/schema", values[0]); err != nil {
				d.test.Errorf("%s %s, %d: %s: %v", a.Method, a.Path, a.Status, name, err)
			}
		case header.Value.Required:
			d.test.Errorf("%s %s, %d: there is no %s", a.Method, a.Path, a.Status, name)
		}
	}
	for name, values := range a.Header {
		want, known := everywhere[name]
		if !documented[name] && !known || want != "" && values[0] != want {
			d.test.Errorf("%s %s, %d: the document has no %s: %v", a.Method, a.Path, a.Status, name, values)
		}
	}
	for name, want := range everywhere {
		if want != "" && a.Header.Get(name) == "" {
			d.test.Errorf("%s %s, %d: there is no %s", a.Method, a.Path, a.Status, name)
		}
	}
}

func (d *Document) checkBody(a *Answer, response *openapi3.ResponseRef) (code string) {
	d.test.Helper()
	if a.Method == http.MethodHead || response.Value.Content == nil {
		if len(a.Body) > 0 {
			d.test.Errorf("%s %s, %d has a body: %s", a.Method, a.Path, a.Status, a.Body)
		}
		return ""
	}
	if media, _, err := mime.ParseMediaType(a.Header.Get("Content-Type")); err != nil || media != mediaType {
		d.test.Errorf("%s %s, %d is %q", a.Method, a.Path, a.Status, a.Header.Get("Content-Type"))
	}
	value := d.parse(a.Body)
	if err := d.Fits(bodySchema(response), value); err != nil {
		d.test.Errorf("%s %s, %d: %s: %v", a.Method, a.Path, a.Status, a.Body, err)
	}
	if a.Status < http.StatusBadRequest {
		return ""
	}
	code, _ = At(value, "error", "innerError", "code").(string)
	outer := code
	switch a.Status {
	case http.StatusBadRequest:
		outer = "badRequest"
	case http.StatusRequestEntityTooLarge:
		outer = "RequestEntityTooLarge"
	case http.StatusServiceUnavailable:
		outer = "ServiceUnavailable"
	}
	if !slices.Contains(codes(response.Value), code) || At(value, "error", "code") != outer {
		d.test.Errorf("%s %s, %d: the document does not have this code: %s", a.Method, a.Path, a.Status, a.Body)
	}
	return code
}

// At returns a member of a member of a JSON object; nil where there is none.
func At(value any, names ...string) any {
	for _, name := range names {
		object, _ := value.(map[string]any)
		value = object[name]
	}
	return value
}

// Outcomes returns every answer that the document has for its operations.
func (d *Document) Outcomes() map[Outcome]bool {
	outcomes := map[Outcome]bool{}
	for _, item := range d.Paths.Map() {
		for _, operation := range item.Operations() {
			for text, response := range operation.Responses.Map() {
				status, err := strconv.Atoi(text)
				if err != nil {
					d.test.Fatal(err)
				}
				for _, code := range codes(response.Value) {
					outcomes[Outcome{operation.OperationID, status, code}] = true
				}
			}
		}
	}
	return outcomes
}

// Seen returns the answers that were checked.
func (d *Document) Seen() map[Outcome]bool { return d.seen }

// codes returns the codes that a response may have; an empty one where it is no error.
func codes(response *openapi3.Response) (list []string) {
	values, _ := response.Extensions["x-error-codes"].([]any)
	for _, value := range values {
		code, _ := value.(string)
		list = append(list, code)
	}
	if list == nil {
		return []string{""}
	}
	return list
}
