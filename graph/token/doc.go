// Package token says what bearer tokens allow. Each of its authorizers is a
// [graph.Authorizer]:
//
//	[File]    tokens that an operator gave out, in a YAML file that has only their hashes
//	[Single]  one token, for a service that runs on one machine
//	[OIDC]    tokens that an OpenID Connect issuer signed
//	[Any]     several of these
//
// # Promises
//
//   - A token that is not valid gets [graph.ErrToken]. Any other error means that it cannot
//     be told now, and no token can cause one while the issuer and its keys can be reached.
//   - A change of the file is in force within a second, without a restart. A file that is
//     wrong changes nothing: the last good one stays in force.
//   - How a token may be signed is fixed here: neither a token nor an issuer can choose.
//   - Requests cannot make the issuer busy: what is wrong with a token besides its signature
//     is found without asking it, and it is asked for its keys at most once in
//     [OIDCOptions].KeyInterval.
//   - Neither a log nor an error has a token, its hash, its subject or its user.
//
// # Sources
//
// RFC 6750 (bearer tokens), RFC 7519 (JSON Web Token), RFC 7517 (JSON Web Key), RFC 8725
// (best practices for JSON Web Tokens), OpenID Connect Discovery 1.0; the claims scp and
// roles are those of the Microsoft identity platform.
package token
