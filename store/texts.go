package store

import "strings"

// texts makes strings that die at about the same time, the keys and heads of a
// transaction, and has them share their memory: what is allocated one by one costs
// more than what is written into it.
type texts struct{ chunk strings.Builder }

const chunkBytes = 16 << 10

// grow makes room for a string of n bytes. The strings before stay where they are.
func (t *texts) grow(n int) {
	if t.chunk.Cap()-t.chunk.Len() < n {
		t.chunk = strings.Builder{}
		t.chunk.Grow(max(n, chunkBytes))
	}
}

// join returns the parts in one string.
func (t *texts) join(parts ...string) string {
	n := 0
	for _, part := range parts {
		n += len(part)
	}
	t.grow(n)
	for _, part := range parts {
		_, _ = t.chunk.WriteString(part)
	}
	return t.chunk.String()[t.chunk.Len()-n:]
}

// text returns b as a string.
func (t *texts) text(b []byte) string {
	t.grow(len(b))
	_, _ = t.chunk.Write(b)
	return t.chunk.String()[t.chunk.Len()-len(b):]
}
