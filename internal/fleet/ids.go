package fleet

import (
	"math/bits"

	"github.com/google/uuid"
)

// scramble is the finalizer of SplitMix64: a bijection whose results look random.
func scramble(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Purposes of derived numbers, so that those of one never are those of another.
const (
	forPolicies uint64 = iota + 1
	forDevices
	forEvents
	forDraws
	forClocks
	forStatuses
	forRounds
	forLate
)

// number derives a random number from the seed, a purpose and n.
func (f *Fleet) number(purpose, n uint64) uint64 {
	return scramble(scramble(scramble(f.options.Seed)^purpose) ^ n)
}

// appendUUID appends the n-th id of a purpose in the form of a UUID of version 4.
func (f *Fleet) appendUUID(text []byte, purpose, n uint64) []byte {
	var id uuid.UUID
	high := f.number(purpose, n)
	low := scramble(high ^ f.options.Seed)
	for i := range 8 {
		id[i], id[i+8] = byte(high>>(8*i)), byte(low>>(8*i))
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	const hex = "0123456789abcdef"
	for i, b := range id {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			text = append(text, '-')
		}
		text = append(text, hex[b>>4], hex[b&0xf])
	}
	return text
}

// permutation puts the numbers below n in another order: x becomes factor·x +
// shift mod n, with a factor that has no divisor in common with n.
type permutation struct{ n, factor, shift uint64 }

func newPermutation(n, random uint64) permutation {
	p := permutation{n: n, factor: random%n | 1, shift: scramble(random) % n}
	for gcd(p.factor, n) != 1 {
		p.factor += 2
	}
	return p
}

func (p permutation) of(x uint64) uint64 {
	high, low := bits.Mul64(p.factor%p.n, x)
	low, carry := bits.Add64(low, p.shift, 0)
	return bits.Rem64(high+carry, low, p.n)
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
