package main_test

import (
	"slices"
	"strings"

	"github.com/complianced/complianced/internal/oracle"
)

// judge waits until every floor is at the end of the stream, and holds Redis and the
// dead letters against what the stream demands. It returns the stream's messages and
// the state.
func (s *serving) judge() ([]oracle.Message, oracle.State) {
	s.Helper()
	nc, _ := s.client()
	stream, err := oracle.NewCopy(nc, "COMPLIANCE_STATUS")
	if err == nil {
		err = stream.CatchUp(s.Context())
	}
	if err != nil {
		s.Fatal(err)
	}
	state := oracle.Fold(stream.History(), oracle.Config{InSequence: true})
	raw := s.redis()
	var differences []string
	eventually(s.T, "every floor at the end of the stream", func() bool {
		have, err := oracle.ReadRedis(s.Context(), raw)
		if err != nil {
			s.Fatal(err)
		}
		differences = oracle.Compare(state, have)
		return !slices.ContainsFunc(differences, func(d string) bool { return strings.Contains(d, ":|floor ") })
	})
	letters, err := oracle.ReadDeadLetters(s.Context(), nc)
	if err != nil {
		s.Fatal(err)
	}
	differences = append(differences, oracle.CompareDeadLetters(state, letters)...)
	if n := len(differences); n > 0 {
		s.Errorf("%d differences from the oracle:\n%s", n, strings.Join(differences[:min(n, 12)], "\n"))
	}
	return stream.History().Messages, state
}
