package graph

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

func (h *handler) authorize(r *http.Request) (Grant, *problem) {
	lines := r.Header.Values("Authorization")
	if len(lines) == 0 {
		return Grant{}, unauthorized(messageNoToken)
	}
	scheme, token, _ := strings.Cut(lines[0], " ")
	token = strings.TrimSpace(token)
	if len(lines) > 1 || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return Grant{}, unauthorized(messageNoToken)
	}
	grant, err := h.authorizer.Authorize(r.Context(), token)
	switch {
	case errors.Is(err, ErrToken):
		p := unauthorized(messageWrongToken)
		p.cause = err
		return Grant{}, p
	case err != nil:
		return Grant{}, unavailable("whether the bearer token is valid cannot be told now; try again", err)
	}
	return grant, nil
}

// check looks at all that the resource, the token and the headers say.
func (h *handler) check(r *http.Request, at route, grant Grant) *problem {
	allowed := at.resource.allowed()
	write := r.Method != http.MethodGet
	switch {
	case !slices.Contains(allowed, r.Method):
		list := strings.Join(allowed, ", ")
		return newProblem(http.StatusMethodNotAllowed, codeMethodNotAllowed, "the method is not one of this resource: "+list).with("Allow", list)
	case write && !grant.Write:
		return denied("the token does not allow to write: that needs " + ScopeReadWrite).lacks(ScopeReadWrite)
	case !grant.Read && !grant.Write:
		return denied("the token does not allow to read: that needs " + ScopeRead + " or " + ScopeReadWrite).lacks(ScopeRead)
	case grant.Device != "" && at.resource == entity && at.key.Device != grant.Device:
		return denied("the token is for another device")
	case grant.Device != "" && at.resource != entity && !write:
		return denied("the token is for one device, and this resource has many")
	case !accepts(r.Header):
		return newProblem(http.StatusNotAcceptable, codeNotAcceptable, "the answer is application/json, which the header Accept does not allow")
	case write && r.URL.RawQuery != "":
		return badRequest(codeNotSupported, "", "query options are not supported with %s", r.Method)
	}
	if write && (r.Header.Get("If-None-Match") != "" || r.Header.Get("If-Match") != "" && !anyThere(r)) {
		return badRequest(codeNotSupported, "", "the headers If-Match and If-None-Match are not supported: records have no ETag, and the newest event wins")
	}
	return nil
}

// anyThere reports whether a request is the deletion of a record in whatever state: the
// one condition that holds by itself.
func anyThere(r *http.Request) bool {
	return r.Method == http.MethodDelete && r.Header.Get("If-Match") == "*"
}

// The scopes of tokens, as Microsoft Graph names them.
const (
	ScopeRead      = "DeviceManagementConfiguration.Read.All"
	ScopeReadWrite = "DeviceManagementConfiguration.ReadWrite.All"
)

// GrantOf returns what scopes allow.
func GrantOf(scopes []string) Grant {
	write := slices.Contains(scopes, ScopeReadWrite)
	return Grant{Read: write || slices.Contains(scopes, ScopeRead), Write: write}
}

// accepts reports whether a client takes JSON.
func accepts(header http.Header) bool {
	lines := header.Values("Accept")
	if len(lines) == 0 {
		return true
	}
	// The most specific range decides (RFC 9110, section 12.5.1).
	best, quality := -1, 0.0
	for part := range strings.SplitSeq(strings.Join(lines, ","), ",") {
		media, parameters, _ := strings.Cut(part, ";")
		specific := -1
		switch strings.ToLower(strings.TrimSpace(media)) {
		case "application/json":
			specific = 2
		case "application/*":
			specific = 1
		case "*/*":
			specific = 0
		}
		if specific > best {
			best, quality = specific, weight(parameters)
		}
	}
	return quality > 0
}

// weight returns the weight q among the parameters of a media range.
func weight(parameters string) float64 {
	for parameter := range strings.SplitSeq(parameters, ";") {
		name, value, _ := strings.Cut(parameter, "=")
		if strings.EqualFold(strings.TrimSpace(name), "q") {
			if q, err := strconv.ParseFloat(strings.TrimSpace(value), 64); err == nil {
				return q
			}
		}
	}
	return 1
}
