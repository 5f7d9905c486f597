package oracle

import (
	"math/big"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// NumProperties is the number of properties of a record.
const NumProperties = 9

// The names of the properties in their documented order.
var properties = []string{
	"id", "deviceDisplayName", "userName", "deviceModel", "platform",
	"complianceGracePeriodExpirationDateTime", "status", "lastReportedDateTime", "userPrincipalName",
}

// Indexes of the properties that are told apart elsewhere.
const (
	propertyID     = 0
	propertyGrace  = 5
	propertyStatus = 6
)

// The names of the statuses by their numbers.
var statuses = []string{"unknown", "notApplicable", "compliant", "remediated", "nonCompliant", "error", "conflict", "notAssigned"}

// Kind tells what a property holds. The order is that of the last tie-break.
type Kind int

// The kinds.
const (
	Unset Kind = iota
	Null
	Text
	Cleared
)

// Value is what a report sets a property to, and what a record holds of it. Text
// is its stored bytes.
type Value struct {
	Kind Kind
	Text string
}

const odataType = "#microsoft.graph.deviceComplianceDeviceStatus"

// maxText is the greatest length of a text in code points.
const maxText = 256

// members judges the members of a report by position and takes their values. It
// returns the time of lastReportedDateTime, 0 where it has none that counts.
func (j *judgement) members(root node) instant {
	var reported instant
	for i, name := range root.names {
		value := root.values[i]
		switch {
		case root.comesAgain(i):
			j.violate("duplicateProperty", name)
		case j.member(name, value) && name == "lastReportedDateTime":
			reported = counting(value.text)
		}
		for _, again := range value.repeated() {
			j.violate("duplicateProperty", again)
		}
	}
	if root.member("@removed").kind == jsonObject {
		j.remove()
	} else {
		j.verdict.Values[propertyID] = Value{Text, j.verdict.Key.Device}
	}
	return reported
}

// counting returns the time of a right date, 0 in year 1, which counts as absent.
func counting(text string) instant {
	at, _ := parseDateTime(text)
	if at < yearTwo {
		return 0
	}
	return at
}

func (j *judgement) remove() {
	j.verdict.Removed = true
	for p := range j.verdict.Values {
		j.verdict.Values[p] = Value{Kind: Cleared}
	}
}

// member judges one member and reports whether it is right.
func (j *judgement) member(name string, value node) bool {
	code, stored := "", Value{}
	p := slices.Index(properties, name)
	switch {
	case p >= 0:
		code, stored = j.property(name, value)
	case name == "@odata.type":
		if value.kind != jsonString || value.text != odataType {
			code = "wrongType"
		}
	case name == "@removed":
		if value.kind != jsonObject {
			code = "typeMismatch"
		}
	case !strings.Contains(name, "@"):
		code = "unknownProperty"
	}
	if code != "" {
		j.violate(code, name)
		return false
	}
	if p >= 0 {
		j.verdict.Values[p] = stored
	}
	return true
}

// property judges the value of a property and returns its stored form.
func (j *judgement) property(name string, value node) (code string, stored Value) {
	switch name {
	case "deviceDisplayName", "userName", "deviceModel", "userPrincipalName":
		if value.kind == jsonNull {
			return "", Value{Kind: Null}
		}
	}
	wanted := jsonString
	if name == "platform" {
		wanted = jsonNumber
	}
	if value.kind == jsonNull {
		return "nullNotAllowed", Value{}
	}
	if value.kind != wanted {
		return "typeMismatch", Value{}
	}
	text := value.text
	switch name {
	case "id":
		if j.named && text != j.verdict.Key.Device {
			code = "idMismatch"
		}
	case "platform":
		code, text = int32Text(text)
	case "status":
		number := slices.Index(statuses, text)
		if number < 0 {
			code = "invalidStatus"
		}
		text = strconv.Itoa(number)
	case "complianceGracePeriodExpirationDateTime", "lastReportedDateTime":
		if _, ok := parseDateTime(text); !ok {
			code = "invalidDateTime"
		}
	default:
		if utf8.RuneCountInString(text) > maxText {
			code = "valueTooLong"
		}
	}
	return code, Value{Text, text}
}

// int32Text returns the shortest decimal of an Int32.
func int32Text(text string) (code, shortest string) {
	if strings.ContainsAny(text, ".eE") {
		return "typeMismatch", ""
	}
	v, ok := new(big.Int).SetString(text, 10)
	if !ok || !v.IsInt64() || v.Int64() != int64(int32(v.Int64())) {
		return "outOfRange", ""
	}
	return "", v.String()
}
