package token

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"

	"github.com/complianced/complianced/graph"
)

// Single authorizes one token.
func Single(token string, grant graph.Grant) graph.Authorizer {
	return single{hash: sha256.Sum256([]byte(token)), grant: grant}
}

type single struct {
	hash  [sha256.Size]byte
	grant graph.Grant
}

// Authorize implements [graph.Authorizer].
func (s single) Authorize(_ context.Context, token string) (graph.Grant, error) {
	hash := sha256.Sum256([]byte(token)) // Of one length, so that comparing tells nothing of the token.
	if subtle.ConstantTimeCompare(hash[:], s.hash[:]) == 0 {
		return graph.Grant{}, graph.ErrToken
	}
	return s.grant, nil
}

// Any authorizes what one of several authorizers does, which are asked in order. Where
// none does, the error is [graph.ErrToken] if it is that of all.
func Any(authorizers ...graph.Authorizer) graph.Authorizer {
	return several(authorizers)
}

type several []graph.Authorizer

// Authorize implements [graph.Authorizer].
func (s several) Authorize(ctx context.Context, token string) (graph.Grant, error) {
	refused := graph.ErrToken
	var unknown error
	for _, authorizer := range s {
		grant, err := authorizer.Authorize(ctx, token)
		switch {
		case err == nil:
			return grant, nil
		case errors.Is(err, graph.ErrToken):
			refused = err // The last one knows best: those before it are for tokens of other kinds.
		case unknown == nil:
			unknown = err
		}
	}
	if unknown != nil {
		return graph.Grant{}, unknown
	}
	return graph.Grant{}, refused
}
