package graph

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/complianced/complianced/compliance"
)

// filter is what a $filter asks of a record. The zero filter has all.
type filter struct{ of expression }

// verdict is the truth of an expression: OData knows a third value beside true and false,
// null, which stands for what cannot be told.
type verdict int8

const (
	isFalse verdict = iota
	isNull
	isTrue
)

func verdictOf(b bool) verdict {
	if b {
		return isTrue
	}
	return isFalse
}

// expression is one of logical, negation, comparison and prefix.
type expression interface {
	// eval returns the truth for a record of which only the status may be known.
	eval(s *subject) verdict
}

// subject is what an expression is about.
type subject struct {
	status compliance.Status
	// record is nil where nothing but the status is known.
	record *compliance.Record
}

// text returns a string property; false where it is null.
func (s *subject) text(p compliance.Property) (string, bool) {
	v := s.record.Values[p]
	return v.Text, v.Kind == compliance.Text
}

// number returns a property that is never null as a number: the platform, or the ticks of
// a date.
func (s *subject) number(p compliance.Property) int64 {
	text, set := s.text(p)
	if !set {
		return 0 // The default of the platform, and of a device that never reported.
	}
	if p == compliance.Platform {
		n, _ := strconv.ParseInt(text, 10, 32)
		return n
	}
	at, _ := compliance.ParseDateTimeOffset(text)
	return int64(at.Ticks()) //nolint:gosec // The ticks of the year 9999 are below 2^62.
}

// match returns the filter as a function; nil where it has all records.
func (f filter) match() func(*Item) bool {
	if f.of == nil {
		return nil
	}
	return func(item *Item) bool {
		return f.of.eval(&subject{status: item.Record.Status(), record: &item.Record}) == isTrue
	}
}

// statuses returns those that a record of the filter can have.
func (f filter) statuses() []compliance.Status {
	if f.of == nil {
		return compliance.Statuses()
	}
	var can []compliance.Status
	for _, s := range compliance.Statuses() {
		if f.of.eval(&subject{status: s}) != isFalse {
			can = append(can, s)
		}
	}
	return can
}

// exact reports whether the filter is about the status alone.
func (f filter) exact() bool {
	if f.of == nil {
		return true
	}
	for _, s := range compliance.Statuses() {
		if f.of.eval(&subject{status: s}) == isNull {
			return false
		}
	}
	return true
}

// logical is: left and right, or: left or right.
type logical struct {
	and         bool
	left, right expression
}

func (e logical) eval(s *subject) verdict {
	left, right := e.left.eval(s), e.right.eval(s)
	if e.and {
		return min(left, right)
	}
	return max(left, right)
}

type negation struct{ of expression }

func (e negation) eval(s *subject) verdict { return isTrue - e.of.eval(s) }

// operator is a comparison of OData.
type operator string

const (
	opEq operator = "eq"
	opNe operator = "ne"
	opGt operator = "gt"
	opGe operator = "ge"
	opLt operator = "lt"
	opLe operator = "le"
)

// holds tells whether an operator holds of two values that compare as given.
func (o operator) holds(compared int) bool {
	switch o {
	case opEq:
		return compared == 0
	case opNe:
		return compared != 0
	case opGt:
		return compared > 0
	case opGe:
		return compared >= 0
	case opLt:
		return compared < 0
	case opLe:
	}
	return compared <= 0
}

// literal is a value in a filter: a text, a number, or null.
type literal struct {
	null   bool
	text   string
	number int64
}

type comparison struct {
	property compliance.Property
	operator operator
	literal  literal
}

func (e comparison) eval(s *subject) verdict {
	switch {
	case e.property == compliance.StatusProperty:
		return verdictOf(e.operator.holds(cmp.Compare(int64(s.status), e.literal.number)))
	case s.record == nil:
		return isNull
	case isText(e.property):
		return e.ofText(s.text(e.property))
	}
	return verdictOf(e.operator.holds(cmp.Compare(s.number(e.property), e.literal.number)))
}

// ofText compares a string; where it is not set, it is null. Null equals null alone, and
// nothing is greater or less than it (OData 4.01, URL conventions, 5.1.1.1).
func (e comparison) ofText(text string, set bool) verdict {
	switch {
	case set && !e.literal.null:
		return verdictOf(e.operator.holds(strings.Compare(text, e.literal.text)))
	case e.operator == opEq:
		return verdictOf(!set && e.literal.null)
	case e.operator == opNe:
		return verdictOf(set || !e.literal.null)
	}
	return isFalse
}

// prefix is startswith.
type prefix struct {
	property compliance.Property
	text     string
}

func (e prefix) eval(s *subject) verdict {
	if s.record == nil {
		return isNull
	}
	text, set := s.text(e.property)
	if !set {
		return isNull
	}
	return verdictOf(strings.HasPrefix(text, e.text))
}
