//go:build race

package compliance_test

// thinning is how many triples of the enumeration the race detector, which is
// ten times slower and has nothing to find there, makes one of. The naive rules
// are tried on every 16th, which stays the same.
const thinning = 16
