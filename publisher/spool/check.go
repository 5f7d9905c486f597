package spool

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/complianced/complianced/publisher"
)

// check refuses what a publisher may send at once, but a spool cannot keep its
// promises for.
func check(o publisher.Outgoing) error {
	timed := !o.NoEventTime || !o.EventTime.IsZero()
	for name, values := range o.Header {
		if hasPrefixFold(name, "Nats-") {
			return fmt.Errorf("%w: headers whose names begin with Nats- tell the server what to do at one moment; a spool sends later, and more than once", publisher.ErrInvalidHeader)
		}
		if !utf8.ValidString(strings.Join(values, "")) {
			return fmt.Errorf("%w: a value that is not UTF-8", publisher.ErrInvalidHeader)
		}
		timed = timed || strings.EqualFold(name, "ce-time")
	}
	if !timed {
		return fmt.Errorf("%w: with NoEventTime the report needs ce-time in Header; the time of storing is none of a report that waits", publisher.ErrInvalidHeader)
	}
	return nil
}

func hasPrefixFold(text, prefix string) bool {
	return len(text) >= len(prefix) && strings.EqualFold(text[:len(prefix)], prefix)
}
