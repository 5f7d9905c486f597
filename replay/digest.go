package replay

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
)

// digest is the first half of a SHA-256: of a report, or of reports in their order. That of
// no report is zero.
type digest [sha256.Size / 2]byte

// digestOf tells reports apart, and the same report in two places.
func digestOf(r *Report) digest {
	h := sha256.New()
	for _, text := range []string{r.Stream, r.Envelope.Subject} {
		_, _ = h.Write([]byte(text))
		_, _ = h.Write([]byte{0})
	}
	numbers := binary.BigEndian.AppendUint64(nil, r.Envelope.Sequence)
	_, _ = h.Write(binary.BigEndian.AppendUint64(numbers, uint64(r.Envelope.Stored.UnixNano())))
	_, _ = h.Write(r.Envelope.Body)
	return digest(h.Sum(nil)[:len(digest{})])
}

// with is the digest of a further report after those of this one.
func (d digest) with(next digest) digest {
	sum := sha256.Sum256(append(d[:], next[:]...))
	return digest(sum[:len(d)])
}

// String returns the digest in hex.
func (d digest) String() string { return hex.EncodeToString(d[:]) }
