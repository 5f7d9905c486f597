package store_test

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"testing"
)

// head is the head of a record as it must be, from its mark, the newest version in hex,
// the other fields of its hash, the marks, and the other versions in hex.
func head(mark, newest string, hash map[string]string, marks string, others ...string) string {
	var described []byte
	for _, field := range []string{"n", "u", "m", "p", "g", "e"} {
		value, there := hash[field]
		if !there {
			described = append(described, 0)
			continue
		}
		described = binary.BigEndian.AppendUint32(append(described, 1), uint32(len(value)))
		described = append(described, value...)
	}
	sum := sha256.Sum256(described)
	text := mark + base64.RawURLEncoding.EncodeToString(append(unhex(newest), sum[:16]...)) + marks
	var versions []byte
	for _, other := range others {
		versions = append(versions, unhex(other)...)
	}
	return text + base64.RawURLEncoding.EncodeToString(versions)
}

// tombstone is the head of a tombstone.
func tombstone(newest string, millis int64) string {
	return "t" + base64.RawURLEncoding.EncodeToString(unhex(newest)) + strconv.FormatInt(millis, 10)
}

func unhex(text string) []byte {
	b, err := hex.DecodeString(text)
	if err != nil {
		panic(err)
	}
	return b
}

// ticksOfHead returns the time of the newest event of a record's head, in ticks.
func ticksOfHead(tb testing.TB, head string) int64 {
	tb.Helper()
	from := 1
	if head[0] == 'g' {
		from += 12
	}
	b, err := base64.RawURLEncoding.DecodeString(head[from : from+43])
	if err != nil {
		tb.Fatal(err)
	}
	return int64(binary.BigEndian.Uint64(b))
}
