package graph

import (
	"fmt"
	"net/http"
	"time"

	"github.com/complianced/complianced/compliance"
)

// The codes of errors that are not those of a report. Those of authorization, size and
// service are the ones that Microsoft Graph answers with.
const (
	codeBadRequest       = "badRequest"
	codeIDRequired       = "idRequired"
	codeNotSupported     = "notSupported"
	codeInvalidQuery     = "invalidQuery"
	codeInvalidToken     = "InvalidAuthenticationToken"
	codeDenied           = "Authorization_RequestDenied"
	codeNotFound         = "ResourceNotFound"
	codeMethodNotAllowed = "MethodNotAllowed"
	codeNotAcceptable    = "NotAcceptable"
	codeRequestTimeout   = "RequestTimeout"
	codeLengthRequired   = "LengthRequired"
	codeTooLarge         = "RequestEntityTooLarge"
	codeMediaType        = "UnsupportedMediaType"
	codeHeaders          = "RequestHeaderFieldsTooLarge"
	codeTooMany          = "TooManyRequests"
	codeUnavailable      = "ServiceUnavailable"
)

// Codes returns the codes that an error has beside those of reports, which are
// [compliance.Codes].
func Codes() []string {
	return []string{
		codeBadRequest, codeIDRequired, codeNotSupported, codeInvalidQuery, codeInvalidToken, codeDenied, codeNotFound,
		codeMethodNotAllowed, codeNotAcceptable, codeRequestTimeout, codeLengthRequired, codeTooLarge, codeMediaType,
		codeHeaders, codeTooMany, codeUnavailable,
	}
}

// Statuses returns every status of an answer of [Handler].
func Statuses() []int {
	return []int{
		http.StatusOK, http.StatusAccepted, http.StatusNoContent, http.StatusBadRequest, http.StatusUnauthorized,
		http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotAcceptable,
		http.StatusRequestTimeout, http.StatusLengthRequired, http.StatusRequestEntityTooLarge,
		http.StatusUnsupportedMediaType, http.StatusTooManyRequests, http.StatusServiceUnavailable,
	}
}

// StatusClientGone is what a request counts as whose client did not wait for the answer,
// as reverse proxies count it. Nobody gets it.
const StatusClientGone = 499

// problem is an answer that is an error.
type problem struct {
	status int
	err    compliance.Error
	// header are headers beside those of every error.
	header map[string]string
	// cause is for the log alone.
	cause error
}

// newProblem returns an error whose outer and inner codes are the same.
func newProblem(status int, code, message string) *problem {
	return &problem{status: status, err: compliance.Error{
		Code: code, Message: message, Inner: compliance.InnerError{Code: compliance.Code(code)},
	}}
}

// badRequest is a problem with a part of the request that is not the body of a report.
func badRequest(code, target, format string, args ...any) *problem {
	p := newProblem(http.StatusBadRequest, codeBadRequest, fmt.Sprintf(format, args...))
	p.err.Target, p.err.Inner.Code = target, compliance.Code(code)
	return p
}

// unavailable is a problem that goes away by itself.
func unavailable(message string, cause error) *problem {
	p := newProblem(http.StatusServiceUnavailable, codeUnavailable, message)
	p.cause = cause
	return p.retry(retryUnavailable)
}

const (
	retryUnavailable = "5" // Seconds.
	retryTooMany     = "1"
)

func (p *problem) retry(after string) *problem { return p.with("Retry-After", after) }

func (p *problem) with(name, value string) *problem {
	if p.header == nil {
		p.header = map[string]string{}
	}
	p.header[name] = value
	return p
}

// refused is the verdict on a report as an answer.
func refused(e compliance.Error) *problem {
	p := &problem{status: http.StatusBadRequest, err: e}
	if e.Inner.Code == compliance.TooLarge {
		p.status, p.err.Code = http.StatusRequestEntityTooLarge, codeTooLarge
	}
	return p
}

// body returns the error object of a request.
func (p *problem) body(requestID, clientRequestID string, now time.Time) []byte {
	e := p.err
	e.Inner.Date = now.UTC().Format("2006-01-02T15:04:05Z")
	e.Inner.RequestID, e.Inner.ClientRequestID = requestID, clientRequestID
	return append(append([]byte(`{"error":`), e.JSON()...), '}')
}

// The problems that need no more than a word.

func denied(message string) *problem {
	// RFC 6750, section 3, wants the header here too.
	return newProblem(http.StatusForbidden, codeDenied, message).with("WWW-Authenticate", challenge+`, error="insufficient_scope"`)
}

// lacks says which scope would do (RFC 6750, section 3.1).
func (p *problem) lacks(scope string) *problem {
	return p.with("WWW-Authenticate", challenge+`, error="insufficient_scope", scope="`+scope+`"`)
}

func notFound(message string) *problem {
	return newProblem(http.StatusNotFound, codeNotFound, message)
}

func unauthorized(message string) *problem {
	p := newProblem(http.StatusUnauthorized, codeInvalidToken, message)
	if message == messageNoToken {
		return p.with("WWW-Authenticate", challenge)
	}
	// RFC 6750, section 3: the error is left out only where no token was sent.
	return p.with("WWW-Authenticate", challenge+`, error="invalid_token"`)
}

const challenge = `Bearer realm="complianced"`

const (
	messageNoToken    = "the request has no bearer token: send the header Authorization: Bearer <token>"
	messageWrongToken = "the bearer token is not valid"
)

func tooMany() *problem {
	return newProblem(http.StatusTooManyRequests, codeTooMany, "too many requests are under way; try again").retry(retryTooMany)
}
