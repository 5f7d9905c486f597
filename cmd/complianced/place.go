package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rivo/uniseg"

	"github.com/complianced/complianced/compliance"
)

// fault is a violation as check and dead show print it, with its place in the payload.
type fault struct {
	Code    compliance.Code `json:"code"`
	Target  string          `json:"target,omitempty"`
	Message string          `json:"message"`
	// Place is absent where the fault is not in the payload.
	Place *place `json:"place,omitempty"`
}

// place is a place in a payload: the line and the character in it, both from 1, and the
// byte from 0. A byte that is no UTF-8 counts as a character.
type place struct {
	Line   int `json:"line"`
	Column int `json:"column"`
	Offset int `json:"offset"`
}

func placeOf(payload []byte, offset int) *place {
	if offset < 0 {
		return nil
	}
	before := payload[:min(offset, len(payload))]
	line := bytes.LastIndexByte(before, '\n') + 1
	return &place{
		Line: bytes.Count(before, []byte{'\n'}) + 1, Column: utf8.RuneCount(before[line:]) + 1, Offset: len(before),
	}
}

// faultsOf returns the violations with their places in the payload.
func faultsOf(payload []byte, violations []compliance.Violation) []fault {
	faults := make([]fault, 0, len(violations))
	for _, v := range violations {
		faults = append(faults, fault{Code: v.Code, Target: v.Target, Message: v.Message, Place: placeOf(payload, v.Offset)})
	}
	return faults
}

// printFaults prints each fault, and under it the part of the payload that it is in,
// with a caret under its place.
func printFaults(w io.Writer, payload []byte, faults []fault) {
	for _, f := range faults {
		at := "report"
		if f.Place != nil {
			at = fmt.Sprintf("%d:%d", f.Place.Line, f.Place.Column)
		}
		if f.Target != "" {
			at += ": " + plain(f.Target)
		}
		fmt.Fprintf(w, "%s: %s: %s\n", at, f.Code, plain(f.Message))
		if f.Place != nil {
			text, before := excerpt(payload, f.Place.Offset)
			fmt.Fprintf(w, "    %s\n    %s^\n", text, strings.Repeat(" ", before))
		}
	}
}

// How much of a line is shown before and from a fault, in bytes.
const (
	shownBefore = 32
	shownAfter  = 48
)

// excerpt returns the part of a line around a place, fit for a terminal, and how many
// columns of a terminal it takes up to there.
func excerpt(payload []byte, offset int) (text string, before int) {
	start := bytes.LastIndexByte(payload[:offset], '\n') + 1
	end := len(payload)
	if n := bytes.IndexByte(payload[offset:], '\n'); n >= 0 {
		end = offset + n
	}
	lead, trail := "", ""
	if offset-start > shownBefore {
		start, lead = runeAt(payload, offset-shownBefore), "…"
	}
	if end-offset > shownAfter {
		end, trail = runeAt(payload, offset+shownAfter), "…"
	}
	head := lead + visible(payload[start:offset])
	return head + visible(payload[offset:end]) + trail, uniseg.StringWidth(head)
}

// runeAt returns where the character begins that the byte is of.
func runeAt(payload []byte, at int) int {
	for n := range utf8.UTFMax {
		if start := at - n; start >= 0 && utf8.RuneStart(payload[start]) {
			if _, size := utf8.DecodeRune(payload[start:]); start+size > at {
				return start
			}
			return at
		}
	}
	return at
}

// visible makes a text fit for a terminal without hiding what it holds: what cannot be
// printed is written as an escape, bytes that are no UTF-8 as \xff.
func visible(text []byte) string {
	var b strings.Builder
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, text[0])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		text = text[size:]
	}
	return b.String()
}

// encodeLine writes a value as JSON on one line in which everything that cannot be
// printed is escaped: the encoder itself leaves some control characters as they are.
func encodeLine(w io.Writer, value any) error {
	var line bytes.Buffer
	encoder := json.NewEncoder(&line)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return err
	}
	var b strings.Builder
	for _, r := range strings.TrimSuffix(line.String(), "\n") {
		switch {
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	_, err := fmt.Fprintln(w, b.String())
	return err
}
