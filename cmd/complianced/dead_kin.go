package main

import (
	"slices"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/deadletter"
)

// kinship knows which dead letters are of a report and of its retries. Any report can
// claim to be a retry, so both must be of one record and have one event id, or, where they
// came without an id, one event time; and the letter of the retry is the later one.
type kinship struct {
	letters map[uint64]relative
	// reports holds letters by the names of their reports, retries by those that they name.
	reports, retries map[identity][]uint64
}

// relative is what a letter is known by, and what it is a retry of; the latter is zero
// where it is none.
type relative struct{ report, retryOf identity }

// identity is a report's name, as [compliance.RetryOf] has it, with what a retry has of it.
type identity struct {
	name, subject, id string
	// at is the event time where there is no id.
	at compliance.Ticks
}

func newKinship() *kinship {
	return &kinship{letters: map[uint64]relative{}, reports: map[identity][]uint64{}, retries: map[identity][]uint64{}}
}

func (k *kinship) add(l *deadletter.Letter) {
	of := identity{name: l.Report(), subject: l.Envelope.Subject, id: l.Envelope.IDHeader()}
	if of.id == "" {
		of.at = eventTime(&l.Envelope)
	}
	one := relative{report: of}
	k.reports[of] = append(k.reports[of], l.Sequence)
	if l.RetryOf != "" {
		one.retryOf = of
		one.retryOf.name = l.RetryOf
		k.retries[one.retryOf] = append(k.retries[one.retryOf], l.Sequence)
	}
	k.letters[l.Sequence] = one
}

// has reports whether a letter was there.
func (k *kinship) has(sequence uint64) bool {
	_, ok := k.letters[sequence]
	return ok
}

// of returns the letters that one is a retry of, and those of its retries, in order.
func (k *kinship) of(sequence uint64) []uint64 {
	all := append(k.earlier(sequence), k.later(sequence)...)
	slices.Sort(all)
	return slices.Compact(all)
}

func (k *kinship) earlier(sequence uint64) (all []uint64) {
	for _, other := range k.reports[k.letters[sequence].retryOf] {
		if other < sequence {
			all = append(append(all, other), k.earlier(other)...)
		}
	}
	return all
}

func (k *kinship) later(sequence uint64) (all []uint64) {
	for _, other := range k.retries[k.letters[sequence].report] {
		if other > sequence {
			all = append(append(all, other), k.later(other)...)
		}
	}
	return all
}
