package store

import (
	"slices"

	"github.com/complianced/complianced/compliance"
)

// What the tests of the stored forms need.
var (
	Decode      = decode
	DecodeHead  = decodeHead
	FormatFloor = formatFloor
	ParseFloor  = parseFloor
)

// FullFields are the names of what Decode reads.
var FullFields = fullFields

// Encode returns the hash of a record.
func Encode(r *compliance.Record) map[string]string {
	hash := map[string]string{}
	for pair := range slices.Chunk(encode(r), 2) {
		hash[pair[0]] = pair[1]
	}
	return hash
}

// Keys returns the key of a record, and what parsing it gives.
func Keys(b compliance.Bucket, k compliance.Key) (string, compliance.Key, bool) {
	name := recordKey(b, k)
	back, ok := parseRecordKey(name)
	return name, back, ok
}
