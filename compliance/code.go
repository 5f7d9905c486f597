package compliance

// Code says why a report is refused. The set is closed and part of the wire
// contract.
type Code string

// The codes, in the order in which the rules are checked.
const (
	InvalidSubject    Code = "invalidSubject"
	PolicyNotAllowed  Code = "policyNotAllowed"
	TooLarge          Code = "tooLarge"
	MalformedJSON     Code = "malformedJson"
	DuplicateProperty Code = "duplicateProperty"
	UnknownProperty   Code = "unknownProperty"
	TypeMismatch      Code = "typeMismatch"
	NullNotAllowed    Code = "nullNotAllowed"
	InvalidStatus     Code = "invalidStatus"
	InvalidDateTime   Code = "invalidDateTime"
	OutOfRange        Code = "outOfRange"
	ValueTooLong      Code = "valueTooLong"
	IDMismatch        Code = "idMismatch"
	WrongType         Code = "wrongType"
	FutureEventTime   Code = "futureEventTime"
)

// Codes returns the closed set of codes.
func Codes() []Code {
	return []Code{
		InvalidSubject, PolicyNotAllowed, TooLarge, MalformedJSON, DuplicateProperty, UnknownProperty,
		TypeMismatch, NullNotAllowed, InvalidStatus, InvalidDateTime, OutOfRange, ValueTooLong,
		IDMismatch, WrongType, FutureEventTime,
	}
}
