package main

import (
	"log/slog"

	"github.com/spf13/pflag"

	"github.com/complianced/complianced/graph"
	"github.com/complianced/complianced/graph/token"
)

// access are the settings of who may use the API.
type access struct {
	tokens    string
	issuer    string
	audiences []string
}

func (a *access) add(flags *pflag.FlagSet) {
	flags.StringVar(&a.tokens, "api-tokens", "", "`file` with the hashes of the tokens of the HTTP API; complianced token --new makes one")
	flags.StringVar(&a.issuer, "oidc-issuer", "", "`URL` of the OpenID Connect issuer whose tokens the HTTP API takes")
	flags.StringSliceVar(&a.audiences, "oidc-audience", nil, "`audiences` of the tokens of --oidc-issuer that are meant for this service")
}

// named reports whether the settings say who may use the API. Otherwise the serve makes
// one token, which is in serve.json.
func (a *access) named() bool { return a.tokens != "" || a.issuer != "" }

// authorizers returns what the settings name.
func (a *access) authorizers(log *slog.Logger) (list []graph.Authorizer, err error) {
	if (a.issuer == "") != (len(a.audiences) == 0) {
		return nil, usagef("--oidc-issuer and --oidc-audience go together")
	}
	if a.tokens != "" {
		file, err := token.OpenFile(a.tokens, token.FileOptions{Logger: log})
		if err != nil {
			return nil, usagef("--api-tokens: %w", err)
		}
		list = append(list, file)
	}
	if a.issuer != "" {
		oidc, err := token.NewOIDC(token.OIDCOptions{Issuer: a.issuer, Audiences: a.audiences, Logger: log})
		if err != nil {
			return nil, usagef("--oidc-issuer: %w", err)
		}
		list = append(list, oidc)
	}
	return list, nil
}
