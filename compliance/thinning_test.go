//go:build !race

package compliance_test

// thinning is 1: every triple of the enumeration is merged.
const thinning = 1
