package main

import (
	"context"
	"crypto/subtle"
	"log/slog"

	"github.com/spf13/pflag"

	"github.com/complianced/complianced/graph"
)

// access are the settings of who may use the API.
type access struct {
	tokens    string
	issuer    string
	audiences []string
}

func (a *access) add(flags *pflag.FlagSet) {
	flags.StringVar(&a.tokens, "api-tokens", "", "`file` with the hashes of the tokens of the HTTP API; see complianced token --help")
	flags.StringVar(&a.issuer, "oidc-issuer", "", "`URL` of the OpenID Connect issuer whose tokens the HTTP API takes")
	flags.StringSliceVar(&a.audiences, "oidc-audience", nil, "`audiences` of which the tokens of --oidc-issuer have one")
}

func (a *access) validate() error {
	if (a.issuer == "") != (len(a.audiences) == 0) {
		return usagef("--oidc-issuer and --oidc-audience go together")
	}
	return nil
}

// named reports whether the settings say who may use the API. Otherwise the serve makes
// one token, which is in serve.json.
func (a *access) named() bool { return a.tokens != "" || a.issuer != "" }

type single string

func (s single) Authorize(_ context.Context, token string) (graph.Grant, error) {
	if subtle.ConstantTimeCompare([]byte(token), []byte(s)) == 1 {
		return graph.Grant{Read: true, Write: true}, nil
	}
	return graph.Grant{}, graph.ErrToken
}

func (a *access) authorizer(own string, _ *slog.Logger) (graph.Authorizer, error) {
	return single(own), nil
}
