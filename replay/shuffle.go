package replay

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
)

// Window is how many bytes of reports [Shuffle] holds.
const Window = 64 << 20

// perReport is what a report takes beside its body, roughly, in bytes.
const perReport = 500

// Shuffled is a source with the reports of another in a random order.
type Shuffled struct {
	source Source
	random *rand.Rand
	window []Report
	bytes  int
	max    int
	ended  bool
}

// Shuffle returns the reports of a source in an order that the seed decides. It holds
// a window of so many bytes (defaults to [Window]), and each next report is any of
// those in it, all equally likely. Where all fit, every order is as likely as every
// other; where not, a report comes no more than a window early, and late by as much as
// chance has it.
func Shuffle(source Source, seed uint64, window int) *Shuffled {
	if window <= 0 {
		window = Window
	}
	return &Shuffled{source: source, random: rand.New(rand.NewPCG(seed, seed)), max: window}
}

// Next has the contract of [Source].
func (s *Shuffled) Next(ctx context.Context) (Report, error) {
	for !s.ended && s.bytes < s.max {
		r, err := s.source.Next(ctx)
		if errors.Is(err, io.EOF) {
			s.ended = true
			break
		}
		if err != nil {
			return Report{}, err
		}
		r.place = place{}
		s.window = append(s.window, r)
		s.bytes += weight(&r)
	}
	n := len(s.window)
	if n == 0 {
		return Report{}, io.EOF
	}
	i := s.random.IntN(n)
	r := s.window[i]
	s.window[i], s.window[n-1] = s.window[n-1], Report{}
	s.window = s.window[:n-1]
	s.bytes -= weight(&r)
	return r, nil
}

func weight(r *Report) int { return perReport + len(r.Envelope.Body) }
