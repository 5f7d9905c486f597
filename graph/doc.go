// Package graph serves the state over HTTP as Microsoft Graph documents it: the
// operation "Update deviceStatuses" at its documented address, and its siblings.
//
// # Routes
//
// Every route also has the prefix /beta or /v1.0. A key may stand as a path segment or in
// the OData form: deviceStatuses/{id} and deviceStatuses('{id}') are the same.
//
//	/deviceManagement/deviceCompliancePolicies/{policy}/deviceStatuses        GET    a list
//	                                                                          PATCH  one record, or a delta
//	/deviceManagement/deviceCompliancePolicies/{policy}/deviceStatuses/{id}   GET    one record
//	                                                                          PATCH  one record
//	                                                                          DELETE one record
//	/deviceManagement/deviceCompliancePolicies/{policy}/deviceStatusOverview  GET    counts
//
// # One write path
//
// A PATCH is a report like any other: it is decoded by [compliance.Decode], stamped with
// an id and the time of the gateway, and published to the stream. The answer is what the
// worker that merged it says:
//
//	200  applied; the record after it, which has what was sent or a newer value
//	204  as 200 with Prefer: return=minimal; or the record is removed
//	202  stored in the stream and not known to be applied: within Options.Wait, or at once
//	     with Prefer: respond-async; says where in the stream
//	400  refused, with every violation
//	404  stored, and there is no record, because a newer report has removed it; in a delta,
//	     where others have theirs, 200 with @removed in its place
//	503  not known to be stored; or refused by the worker, because the clock here is ahead
//
// So no answer is an acceptance that is lost later: 200, 202 and 204 of a PATCH mean that
// the stream has the report.
//
// # Promises
//
//   - Two updates one after the other through one gateway are applied in that order,
//     whatever dates are in them, and whatever the clock of the device is; a deletion is
//     one that is newer than all that is known of the record.
//   - A delta is validated as a whole before anything is stored.
//   - Waiting for a result is waiting for a message: nothing is polled.
//   - Every route needs a bearer token. What a token does not allow writes nothing.
//   - Every error is the error object of the Microsoft REST API guidelines, also those
//     that the HTTP server itself finds (see [Server]).
//   - Every answer is one that api/openapi.yaml has, with its headers, body and code.
//   - A query option that is not supported is an error, never ignored.
//   - Neither the log nor an error has a device, a user, a token or a value of a body.
//
// # Sources
//
// The operation "Update deviceStatuses" and the resources deviceComplianceDeviceStatus
// and deviceComplianceDeviceOverview of Microsoft Graph; OData 4.01 (URL conventions, JSON
// format); the Microsoft REST API guidelines (errors); RFC 7240 (Prefer); RFC 6750
// (bearer tokens).
package graph
