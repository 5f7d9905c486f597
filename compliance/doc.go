// Package compliance is the domain of complianced: what a report is, when it
// is right, and what it does to the record of a device. It knows no driver, no
// clock and no I/O; every function here is a pure function of its arguments.
//
// # The way of a report
//
//	Envelope → Rules.Decode → Report → Record.Merge → Change and Outcome
//
// An [Envelope] is a report as the stream keeps it. [Rules.Decode] turns it
// into a [Report] or a [Rejection], which lists every violation. [Record.Merge]
// is the merge law.
//
// # Promises
//
//   - Decode: whether a report is refused depends on that report and the rules
//     alone, never on other reports and never on the time of day.
//   - Merge: the record is a function of the set of reports that were merged.
//     Order, duplication and redelivery do not change it. Each property keeps
//     the value of the greatest (event time, event id, value) that set it.
//   - Absent, null and a value are three things. Absent never alters a
//     property, null is stored and given back as null.
//   - Dates keep their text: what was sent is what is given back.
//   - Messages of this package hold no device id, no user and no value of a
//     report; only names of properties are echoed, cut to 64 printable
//     characters.
//
// # Sources
//
// The record is deviceComplianceDeviceStatus and the operation "Update
// deviceStatuses" of Microsoft Graph, made exact by OData 4.01 (JSON format and
// ABNF) and the Microsoft REST API guidelines (error object).
package compliance
