package graph

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/complianced/complianced/compliance"
)

// Limits of a $filter.
const (
	maxFilter     = 2048 // Bytes.
	maxFilterNest = 32
)

// filterable are the properties that a $filter may name.
var filterable = []compliance.Property{
	compliance.StatusProperty, compliance.Platform, compliance.UserPrincipalName,
	compliance.DeviceDisplayName, compliance.LastReported,
}

// parser reads a $filter by recursive descent. The grammar is a part of the ABNF of OData
// 4.01; spaces are taken between any two tokens:
//
//	or       = and *( "or" and )
//	and      = term *( "and" term )
//	term     = "not" term / "(" or ")" / "startswith" "(" property "," string ")"
//	         / property ( "eq" / "ne" / "gt" / "ge" / "lt" / "le" ) literal
//	         / property "in" "(" literal *( "," literal ) ")"
type parser struct {
	text string
	at   int
	nest int
}

// parseFilter reads a $filter.
func parseFilter(text string) (filter, *problem) {
	p := parser{text: text}
	if len(text) > maxFilter {
		return filter{}, p.wrong("is longer than %d bytes", maxFilter)
	}
	if !utf8.ValidString(text) {
		return filter{}, p.wrong("is not UTF-8")
	}
	e, problem := p.or()
	if problem == nil && p.peek() != "" {
		problem = p.wrong("has something after its end")
	}
	if problem != nil {
		return filter{}, problem
	}
	return filter{of: e}, nil
}

// wrong says what is wrong, and where. It holds no value: a filter may have the name of a
// user.
func (p *parser) wrong(format string, args ...any) *problem {
	return badRequest(codeInvalidQuery, string(optionFilter), "$filter %s (at character %d)",
		fmt.Sprintf(format, args...), utf8.RuneCountInString(p.text[:p.at])+1)
}

func (p *parser) skipSpace() {
	for p.at < len(p.text) && (p.text[p.at] == ' ' || p.text[p.at] == '\t') {
		p.at++
	}
}

// peek returns the next token without taking it: a parenthesis, a comma, a string with
// its quotes, or a word; empty at the end.
func (p *parser) peek() string {
	p.skipSpace()
	rest := p.text[p.at:]
	if rest == "" {
		return ""
	}
	switch rest[0] {
	case '(', ')', ',':
		return rest[:1]
	case '\'':
		return rest[:quoted(rest)]
	}
	if end := strings.IndexAny(rest, " \t(),'"); end >= 0 {
		return rest[:end]
	}
	return rest
}

// quoted returns the length of a string with its quotes, of which a doubled one stands for
// itself; all that is left where it has no end.
func quoted(text string) int {
	for i := 1; i < len(text); i++ {
		if text[i] != '\'' {
			continue
		}
		if i+1 < len(text) && text[i+1] == '\'' {
			i++
			continue
		}
		return i + 1
	}
	return len(text)
}

// take takes a token that was peeked.
func (p *parser) take(token string) { p.at += len(token) }

// takeWord takes a word, in any case, if it is next.
func (p *parser) takeWord(word string) bool {
	token := p.peek()
	if !strings.EqualFold(token, word) {
		return false
	}
	p.take(token)
	return true
}

func (p *parser) expect(token string) *problem {
	if p.peek() != token {
		return p.wrong("needs %s here", token)
	}
	p.take(token)
	return nil
}

func (p *parser) or() (expression, *problem) { return p.chain("or", p.and) }

func (p *parser) and() (expression, *problem) { return p.chain("and", p.term) }

// chain reads parts with a word between them.
func (p *parser) chain(word string, part func() (expression, *problem)) (expression, *problem) {
	left, problem := part()
	for problem == nil && p.takeWord(word) {
		var right expression
		if right, problem = part(); problem == nil {
			left = logical{and: word == "and", left: left, right: right}
		}
	}
	return left, problem
}

func (p *parser) term() (expression, *problem) {
	if p.nest++; p.nest > maxFilterNest {
		return nil, p.wrong("is nested deeper than %d", maxFilterNest)
	}
	defer func() { p.nest-- }()
	switch token := p.peek(); {
	case token == "":
		return nil, p.wrong("ends where an expression is needed")
	case strings.EqualFold(token, "not"):
		p.take(token)
		e, problem := p.term()
		return negation{e}, problem
	case token == "(":
		p.take(token)
		e, problem := p.or()
		if problem == nil {
			problem = p.expect(")")
		}
		return e, problem
	case strings.EqualFold(token, "startswith"):
		p.take(token)
		return p.startsWith()
	}
	return p.comparison()
}

func (p *parser) startsWith() (expression, *problem) {
	if problem := p.expect("("); problem != nil {
		return nil, problem
	}
	begin := p.at
	property, problem := p.property()
	if problem != nil {
		return nil, problem
	}
	if !isText(property) {
		p.at = begin
		return nil, p.wrong("has startswith with a property that is not a string")
	}
	if problem := p.expect(","); problem != nil {
		return nil, problem
	}
	value, problem := p.literal(property)
	switch {
	case problem != nil:
		return nil, problem
	case value.null:
		return nil, p.wrong("has startswith with null, which is never true")
	}
	return prefix{property, value.text}, p.expect(")")
}

func isText(p compliance.Property) bool {
	return p == compliance.UserPrincipalName || p == compliance.DeviceDisplayName
}

func (p *parser) property() (compliance.Property, *problem) {
	token := p.peek()
	property, ok := propertyOf(token)
	if !ok || !slices.Contains(filterable, property) {
		names := make([]string, len(filterable))
		for i, f := range filterable {
			names[i] = f.String()
		}
		return 0, p.wrong("needs a property here that can be filtered by: %s", strings.Join(names, ", "))
	}
	p.take(token)
	return property, nil
}

func (p *parser) comparison() (expression, *problem) {
	property, problem := p.property()
	if problem != nil {
		return nil, problem
	}
	if p.takeWord("in") {
		return p.in(property)
	}
	token := p.peek()
	op := operator(strings.ToLower(token))
	switch {
	case !slices.Contains([]operator{opEq, opNe, opGt, opGe, opLt, opLe}, op):
		return nil, p.wrong("needs an operator here: eq, ne, gt, ge, lt, le or in")
	case property == compliance.StatusProperty && op != opEq && op != opNe:
		return nil, p.wrong("compares status, whose members have no order, by another operator than eq, ne or in")
	}
	p.take(token)
	value, problem := p.literal(property)
	return comparison{property, op, value}, problem
}

// in reads what follows the word: true where one of the values is equal.
func (p *parser) in(property compliance.Property) (expression, *problem) {
	problem := p.expect("(")
	var each expression
	for problem == nil {
		var value literal
		if value, problem = p.literal(property); problem != nil {
			break
		}
		one := expression(comparison{property, opEq, value})
		if each != nil {
			one = logical{left: each, right: one}
		}
		each = one
		if p.peek() != "," {
			return each, p.expect(")")
		}
		p.take(",")
	}
	return nil, problem
}

// literal reads a value of the type of a property.
func (p *parser) literal(property compliance.Property) (literal, *problem) {
	if property == compliance.StatusProperty {
		return p.status()
	}
	token := p.peek()
	var value literal
	var ok bool
	switch {
	case isText(property):
		value.text, ok = unquote(token)
		value.null = token == "null"
	case property == compliance.Platform:
		n, err := strconv.ParseInt(token, 10, 32)
		value.number, ok = n, err == nil
	default:
		at, err := compliance.ParseDateTimeOffset(token)
		value.number, ok = int64(at.Ticks()), err == nil //nolint:gosec // The ticks of the year 9999 are below 2^62.
	}
	if !ok && !value.null {
		return value, p.wrong("needs %s here", literalForm(property))
	}
	p.take(token)
	return value, nil
}

func literalForm(p compliance.Property) string {
	switch {
	case isText(p):
		return "a string in single quotes, or null"
	case p == compliance.Platform:
		return "a whole number of 32 bits"
	case p == compliance.LastReported:
		return "a date as 2026-01-31T12:00:00Z, without quotes"
	}
	var names []string
	for _, s := range compliance.Statuses() {
		names = append(names, "'"+s.String()+"'")
	}
	return "a member of complianceStatus: " + strings.Join(names, ", ")
}

// enumType may stand before a member of complianceStatus.
const enumType = "microsoft.graph.complianceStatus"

func (p *parser) status() (literal, *problem) {
	token := p.peek()
	begin := p.at
	if token == enumType && strings.HasPrefix(p.text[p.at+len(token):], "'") {
		p.take(token)
		token = p.peek()
	}
	name, isString := unquote(token)
	s, ok := compliance.ParseStatus(name)
	if !isString || !ok {
		p.at = begin
		return literal{}, p.wrong("needs %s here", literalForm(compliance.StatusProperty))
	}
	p.take(token)
	return literal{number: int64(s)}, nil
}

// unquote returns the text of a string.
func unquote(token string) (string, bool) {
	if len(token) < 2 || token[0] != '\'' || token[len(token)-1] != '\'' || quoted(token) != len(token) {
		return "", false
	}
	inner := token[1 : len(token)-1]
	if strings.Count(inner, "'")%2 != 0 {
		return "", false // The last quote belongs to a pair.
	}
	return strings.ReplaceAll(inner, "''", "'"), true
}
