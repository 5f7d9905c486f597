package store

import "github.com/complianced/complianced/compliance"

// What the tests of the stored forms need.
var (
	Decode      = decode
	Encode      = encode
	FormatFloor = formatFloor
	ParseFloor  = parseFloor
)

// Keys returns the key of a record, and what parsing it gives.
func Keys(b compliance.Bucket, k compliance.Key) (string, compliance.Key, bool) {
	name := recordKey(b, k)
	back, ok := parseRecordKey(name)
	return name, back, ok
}
