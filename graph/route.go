package graph

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/complianced/complianced/compliance"
)

// resource is what an address names.
type resource int

const (
	collection resource = iota // The statuses of a policy.
	entity                     // One of them.
	overview                   // Their counts.
)

// Routes returns the methods of every resource by its path, which has the ids in braces.
func Routes() map[string][]string {
	routes := map[string][]string{}
	for _, r := range []resource{collection, entity, overview} {
		at := route{resource: r, key: compliance.Key{Policy: "{" + policyID + "}", Device: "{" + deviceID + "}"}}
		routes[at.address()] = r.allowed()
	}
	return routes
}

// Names in addresses. OData compares them case by case.
const (
	segmentManagement = "deviceManagement"
	segmentPolicies   = "deviceCompliancePolicies"
	segmentStatuses   = "deviceStatuses"
	segmentOverview   = "deviceStatusOverview"
)

// Names of the ids in addresses.
const (
	policyID = "deviceCompliancePolicyId"
	deviceID = "id"
)

// allowed are the methods of a resource, as the header Allow has them.
func (r resource) allowed() []string {
	switch r {
	case collection:
		return []string{http.MethodGet, http.MethodPatch}
	case entity:
		return []string{http.MethodGet, http.MethodPatch, http.MethodDelete}
	case overview:
	}
	return []string{http.MethodGet}
}

// The operations, for logs and metrics.
const (
	operationList     = "list"
	operationGet      = "get"
	operationUpdate   = "update"
	operationDelete   = "delete"
	operationOverview = "overview"
	operationOther    = "other"
)

// Operations returns the names of all operations; the last is that of requests that are
// none.
func Operations() []string {
	return []string{operationList, operationGet, operationUpdate, operationDelete, operationOverview, operationOther}
}

func operationOf(method string, r resource) string {
	switch {
	case method == http.MethodPatch && r != overview:
		return operationUpdate
	case method == http.MethodDelete && r == entity:
		return operationDelete
	case method != http.MethodGet:
		return operationOther
	case r == collection:
		return operationList
	case r == entity:
		return operationGet
	}
	return operationOverview
}

// route is a parsed address.
type route struct {
	// version is the prefix, "/beta" for example; empty where there is none.
	version  string
	resource resource
	// key names the record; its Device is empty unless the resource is an entity.
	key compliance.Key
}

// parseRoute reads the path of a request. It is never cleaned: a segment .. is an id that
// is none.
func parseRoute(u *url.URL) (route, *problem) {
	var at route
	segments := strings.Split(strings.TrimPrefix(u.EscapedPath(), "/"), "/")
	if s := segments[0]; s == "beta" || s == "v1.0" {
		at.version, segments = "/"+s, segments[1:]
	}
	if len(segments) == 0 || segments[0] != segmentManagement {
		return at, noRoute()
	}
	policy, rest, keyed, problem := readKey(segments[1:], segmentPolicies, policyID)
	if problem != nil {
		return at, problem
	}
	if !keyed || len(rest) == 0 {
		return at, noRoute()
	}
	at.key.Policy = policy
	if len(rest) == 1 && rest[0] == segmentOverview {
		at.resource = overview
		return at, nil
	}
	device, rest, keyed, problem := readKey(rest, segmentStatuses, deviceID)
	switch {
	case problem != nil:
		return at, problem
	case len(rest) > 0:
		return at, noRoute()
	case keyed:
		at.resource, at.key.Device = entity, device
	}
	return at, nil
}

func noRoute() *problem {
	return notFound("there is nothing at this address: it is not /deviceManagement/deviceCompliancePolicies/{id}/deviceStatuses, .../deviceStatuses/{id} or .../deviceStatusOverview")
}

// readKey reads name/{key} or name('{key}') off a path. Keyed tells whether there is a
// key after the name; the target names it.
func readKey(segments []string, name, target string) (key string, rest []string, keyed bool, p *problem) {
	if len(segments) == 0 {
		return "", nil, false, noRoute()
	}
	first, rest := segments[0], segments[1:]
	switch {
	case first == name && len(rest) == 0:
		return "", nil, false, nil
	case first == name:
		key, rest = rest[0], rest[1:]
	default:
		var ok bool
		if key, ok = inParentheses(first, name); !ok {
			return "", nil, false, noRoute()
		}
	}
	text, err := url.PathUnescape(key)
	if err != nil || !compliance.ValidID(text) {
		return "", nil, false, badRequest(string(compliance.InvalidSubject), target,
			"%s in the address is not an id: 1 to 128 characters of A-Z a-z 0-9 _ -", target)
	}
	return text, rest, true, nil
}

// inParentheses returns the key of name('key'), whose punctuation may be encoded.
func inParentheses(segment, name string) (string, bool) {
	text, err := url.PathUnescape(segment)
	if err != nil {
		return "", false
	}
	rest, ok := strings.CutPrefix(text, name+"('")
	if !ok {
		return "", false
	}
	key, ok := strings.CutSuffix(rest, "')")
	// The caller decodes a key once more; one that has an escape now is no id.
	return strings.ReplaceAll(key, "%", "%25"), ok
}

// address returns the path of a resource in the form of the documentation.
func (at route) address() string {
	path := at.version + "/" + segmentManagement + "/" + segmentPolicies + "/" + at.key.Policy
	if at.resource == overview {
		return path + "/" + segmentOverview
	}
	if path += "/" + segmentStatuses; at.resource == entity {
		path += "/" + at.key.Device
	}
	return path
}

// context returns the @odata.context of what a resource holds, after the address of the
// service.
func (at route) context(selected string) string {
	path := at.version + "/$metadata#" + segmentManagement + "/" + segmentPolicies + "('" + at.key.Policy + "')/"
	switch at.resource {
	case overview:
		return path + segmentOverview + "/$entity"
	case entity:
		return path + segmentStatuses + selected + "/$entity"
	case collection:
	}
	return path + segmentStatuses + selected
}
