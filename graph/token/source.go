package token

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

const (
	// maxAnswer bounds what is read of an answer of the issuer, in bytes.
	maxAnswer = 1 << 20
	// maxRedirects bounds how often the issuer may send us elsewhere.
	maxRedirects = 3
	// minRSA is the size of the smallest RSA key, in bits (RFC 7518, section 3.3).
	minRSA = 2048
)

// source asks an issuer for its keys.
type source struct {
	issuer string
	client http.Client
}

// keys returns the keys of the issuer with which tokens may be signed. Where they are is
// asked each time: it may change, and is asked seldom.
func (s *source) keys(ctx context.Context) ([]jose.JSONWebKey, error) {
	var metadata struct {
		Issuer  string `json:"issuer"`
		KeysURI string `json:"jwks_uri"`
	}
	if err := s.get(ctx, strings.TrimSuffix(s.issuer, "/")+"/.well-known/openid-configuration", &metadata); err != nil {
		return nil, err
	}
	if metadata.Issuer != s.issuer {
		return nil, fmt.Errorf("the issuer names itself %.200q: configure it exactly so", metadata.Issuer)
	}
	address, err := url.Parse(metadata.KeysURI)
	if err != nil || !isSafe(address) {
		return nil, errors.New("the issuer has no jwks_uri with https")
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := s.get(ctx, metadata.KeysURI, &set); err != nil {
		return nil, err
	}
	var keys []jose.JSONWebKey
	for _, text := range set.Keys {
		var key jose.JSONWebKey
		if json.Unmarshal(text, &key) == nil && signs(key) {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("the issuer has no RSA or EC key for signatures")
	}
	return keys, nil
}

// signs reports whether a key is public and for signatures. A set may have others, also of
// kinds that are not known here.
func signs(key jose.JSONWebKey) bool {
	if key.Use != "" && key.Use != "sig" {
		return false
	}
	switch public := key.Key.(type) {
	case *rsa.PublicKey:
		return public.N.BitLen() >= minRSA
	case *ecdsa.PublicKey:
		return true
	}
	return false
}

func (s *source) get(ctx context.Context, address string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return err
	}
	request.Header.Set("Accept", "application/json")
	response, err := s.client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers with status %d", address, response.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("read %s: %w", address, err)
	case len(text) > maxAnswer:
		return fmt.Errorf("%s answers with more than 1 MiB", address)
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s does not answer with JSON as it should: %w", address, err)
	}
	return nil
}

func checkRedirect(request *http.Request, via []*http.Request) error {
	switch {
	case len(via) > maxRedirects:
		return errors.New("the issuer redirects too often")
	case !isSafe(request.URL):
		return errors.New("the issuer redirects to an address without https")
	}
	return nil
}
