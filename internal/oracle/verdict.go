package oracle

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/zeebo/xxh3"
)

// maxBody is the greatest payload in bytes.
const maxBody = 16 * 1024

// maxFuture is how far an event time may lie after the store time.
const maxFuture = instant(10 * 60 * ticksPerSecond)

// Violation is one reason why a message is no report: its code and what it is of.
type Violation struct {
	Code, Target string
}

// Verdict is what becomes of a message: a dead letter with its violations, or
// else a report.
type Verdict struct {
	Violations []Violation
	Key        Key
	Version    Version
	// EventID is what the version's id is the hash of; empty where the message has none.
	EventID string
	Removed bool
	Values  [NumProperties]Value
}

// Version is what two values of a property are compared by.
type Version struct {
	// Time is in 100 ns since year 1.
	Time int64
	ID   uint64
}

// Judge decides what becomes of a message.
func Judge(m Message, c Config) Verdict {
	j := judgement{message: m}
	j.subject(c)
	reported := j.body(c)
	j.eventID()
	j.eventTime(reported)
	return j.verdict
}

// judgement collects the violations of a message in their documented order.
type judgement struct {
	message Message
	verdict Verdict
	// named says that the subject has two ids.
	named bool
}

func (j *judgement) violate(code, target string) {
	j.verdict.Violations = append(j.verdict.Violations, Violation{code, echo(target)})
}

// echo is how a name from a payload is shown.
func echo(name string) string {
	runes := []rune(name)
	runes = runes[:min(len(runes), 64)]
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) && r != unicode.ReplacementChar {
			return r
		}
		return '?'
	}, string(runes))
}

func (j *judgement) subject(c Config) {
	key, named, right := parseSubject(j.message.Subject, partitionOf(j.message.Stream), c)
	j.verdict.Key, j.named = key, named
	if !right {
		j.violate("invalidSubject", "")
	}
}

// body judges the policy and the payload and returns the time of
// lastReportedDateTime, 0 where it names none.
func (j *judgement) body(c Config) instant {
	var root node
	large, ok := len(j.message.Body) > maxBody, false
	if !large {
		root, ok = parseJSON(j.message.Body)
	}
	removes := ok && root.kind == jsonObject && root.member("@removed").kind == jsonObject
	if j.named && !removes && !c.allows(j.verdict.Key.Policy) {
		j.violate("policyNotAllowed", "")
	}
	if large {
		j.violate("tooLarge", "")
		return 0
	}
	if !ok {
		j.violate("malformedJson", "")
		return 0
	}
	if root.kind != jsonObject {
		j.violate("typeMismatch", "")
		return 0
	}
	return j.members(root)
}

func (j *judgement) eventID() {
	id, _ := headerOf(j.message.Header, "ce-id")
	if id == "" {
		id, _ = headerOf(j.message.Header, "nats-msg-id")
	}
	j.verdict.EventID = id
	if id == "" {
		id = fmt.Sprintf("%s\x00%s\x00%s", j.verdict.Key.Policy, j.verdict.Key.Device, j.message.Body)
	}
	j.verdict.Version.ID = xxh3.HashString(id)
}

// eventTime finds the event time and judges it by the store time, or by the one
// that a resent report brings along where that is earlier.
func (j *judgement) eventTime(reported instant) {
	stored := instantOf(j.message.Stored)
	limit := stored
	if text, there := headerOf(j.message.Header, "compliance-stored"); there {
		first, ok := parseStoreTime(text)
		if !ok {
			j.violate("invalidDateTime", "Compliance-Stored")
			first = stored
		}
		limit = min(limit, first)
	}
	at, source := stored, ""
	if text, there := headerOf(j.message.Header, "ce-time"); there {
		var ok bool
		if at, ok = parseDateTime(text); !ok {
			j.violate("invalidDateTime", "ce-time")
			return
		}
		source = "ce-time"
	} else if reported != 0 {
		at, source = reported, "lastReportedDateTime"
	}
	j.verdict.Version.Time = int64(at)
	if at > limit+maxFuture {
		j.violate("futureEventTime", source)
	}
}
