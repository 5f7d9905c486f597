package store_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
)

// head is the head of a record as it must be, from its mark, the newest version in hex,
// the other fields of its hash, the marks, and the other versions in hex. A mark g has
// the end of the grace period behind it, in hex too.
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
	return mark[:1] + unhex(mark[1:]) + unhex(newest) + string(sum[:16]) + marks + unhex(strings.Join(others, ""))
}

// tombstone is the head of a tombstone.
func tombstone(newest string, millis int64) string {
	return "t" + unhex(newest) + unhex(fmt.Sprintf("%016x", uint64(millis)))
}

func unhex(text string) string {
	b, err := hex.DecodeString(text)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// ticksOfHead returns the time of the newest event of a record's head, in ticks.
func ticksOfHead(head string) int64 {
	from := 1
	if head[0] == 'g' {
		from += 6
	}
	return int64(binary.BigEndian.Uint64([]byte(head[from : from+8])))
}
