package token

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/complianced/complianced/graph"
)

const (
	// maxToken bounds a token, in bytes.
	maxToken = 8 << 10
	// leeway is how far the clock of the issuer may be from ours.
	leeway = time.Minute
)

// algorithms are those with which a token may be signed: with the private key of the
// issuer, and with none other.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512,
}

// OIDCOptions say whose tokens are valid. Issuer and Audiences are required.
type OIDCOptions struct {
	// Issuer is the address of the issuer, exactly as it names itself: https, or http on
	// loopback.
	Issuer string
	// Audiences are the names of this service: a token must be for one of them.
	Audiences []string
	// KeyInterval is how long the issuer is not asked for its keys after it was. Defaults
	// to 10 s.
	KeyInterval time.Duration
	// HTTPClient is used to ask the issuer. Where to it follows redirects is decided here.
	// Defaults to one with a limit of 5 s, which is also that of a client without one.
	HTTPClient *http.Client
	// Logger hears, once an attempt, when the keys cannot be renewed while the old ones are
	// used. Defaults to none.
	Logger *slog.Logger
	// Now is the clock. Defaults to time.Now.
	Now func() time.Time
}

// OIDC authorizes the tokens that an OpenID Connect issuer signed for this service: JSON
// Web Tokens, signed with RS, PS or ES, of up to 8 KiB. The claim exp is required; it and
// nbf and iat have a leeway of a minute. What a token allows is in its claims scp and
// roles, each a list or a text with blanks; other scopes than those of [graph.GrantOf]
// have no effect.
//
// The issuer is asked for the first time when there is a token to look at, and again when
// its keys do not verify one (a new key), and once its keys are an hour old (a withdrawn
// one), but never sooner than KeyInterval after the last time. While it cannot be reached,
// the keys that are there are used.
type OIDC struct {
	expected jwt.Expected // All but the time.
	keys     *keyring
	now      func() time.Time
}

// NewOIDC returns an authorizer. It does not ask the issuer yet. An error says which
// option is wrong.
func NewOIDC(o OIDCOptions) (*OIDC, error) {
	issuer, err := url.Parse(o.Issuer)
	if err != nil || !isSafe(issuer) || issuer.User != nil || issuer.RawQuery != "" || issuer.Fragment != "" {
		return nil, errors.New("the issuer must be an https URL without user, query and fragment; http is allowed on loopback only")
	}
	if len(o.Audiences) == 0 || slices.Contains(o.Audiences, "") {
		return nil, errors.New("an audience is needed: the name of this service in the tokens of the issuer")
	}
	if o.KeyInterval <= 0 {
		o.KeyInterval = 10 * time.Second
	}
	source := &source{issuer: o.Issuer}
	if o.HTTPClient != nil {
		source.client = *o.HTTPClient
	}
	source.client.CheckRedirect = checkRedirect
	if source.client.Timeout == 0 {
		source.client.Timeout = 5 * time.Second
	}
	now := orTimeNow(o.Now)
	return &OIDC{
		expected: jwt.Expected{Issuer: o.Issuer, AnyAudience: slices.Clone(o.Audiences)},
		keys:     newKeyring(source.keys, o.KeyInterval, orDiscard(o.Logger), now),
		now:      now,
	}, nil
}

// isSafe reports whether nobody on the way can change what an address answers.
func isSafe(address *url.URL) bool {
	host := address.Hostname()
	switch address.Scheme {
	case "https":
		return host != ""
	case "http":
		return host == "localhost" || net.ParseIP(host).IsLoopback()
	}
	return false
}

// Authorize implements [graph.Authorizer].
func (o *OIDC) Authorize(ctx context.Context, token string) (graph.Grant, error) {
	signed, scopes, err := o.read(token)
	if err != nil {
		return graph.Grant{}, err
	}
	if err := o.keys.verify(ctx, signed); err != nil {
		return graph.Grant{}, err
	}
	return graph.GrantOf(scopes), nil
}

// read checks all of a token but its signature, and returns its scopes, which must not be
// used before that is verified.
func (o *OIDC) read(token string) (*jwt.JSONWebToken, []string, error) {
	if len(token) > maxToken {
		return nil, nil, refused("it is longer than 8 KiB")
	}
	signed, err := jwt.ParseSigned(token, algorithms)
	if err != nil || strings.HasSuffix(token, ".") {
		return nil, nil, refused("it is no JSON Web Token that is signed with RS, PS or ES")
	}
	var claims jwt.Claims
	var granted struct {
		Scopes words `json:"scp"`
		Roles  words `json:"roles"`
	}
	if err := signed.UnsafeClaimsWithoutVerification(&claims, &granted); err != nil {
		return nil, nil, refused("its claims are malformed")
	}
	err = claims.ValidateWithLeeway(o.expected.WithTime(o.now()), leeway)
	switch {
	case errors.Is(err, jwt.ErrInvalidIssuer):
		return nil, nil, refused("it is from another issuer")
	case errors.Is(err, jwt.ErrInvalidAudience):
		return nil, nil, refused("it is for another audience")
	case errors.Is(err, jwt.ErrExpired):
		return nil, nil, refused("it has expired")
	case err != nil:
		return nil, nil, refused("it is not valid yet")
	case claims.Expiry == nil:
		return nil, nil, refused("it never expires")
	}
	return signed, slices.Concat(granted.Scopes, granted.Roles), nil
}

// refused returns the error of a token that is not valid. The reason has nothing of the
// token.
func refused(reason string) error {
	return fmt.Errorf("%w: %s", graph.ErrToken, reason)
}

// words is a list of words, which in JSON may be one text.
type words []string

// UnmarshalJSON implements [json.Unmarshaler].
func (w *words) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil {
		*w = strings.Fields(one)
		return nil
	}
	return json.Unmarshal(text, (*[]string)(w))
}
