package oracle

import (
	"hash/fnv"
	"path"
	"regexp"
	"strconv"
	"strings"
)

// Key names a record.
type Key struct {
	Policy, Device string
}

var (
	statusSubject    = regexp.MustCompile(`^compliance\.status\.([A-Za-z0-9_-]{1,128})\.([A-Za-z0-9_-]{1,128})$`)
	partitionSubject = regexp.MustCompile(`^compliance\.p\.(0|[1-9][0-9]{0,2})\.([A-Za-z0-9_-]{1,128})\.([A-Za-z0-9_-]{1,128})$`)
	partitionPrefix  = regexp.MustCompile(`^compliance\.p\.[^.]*\.?`)
)

// parseSubject returns the ids in a subject; named is false where there are none.
// It is right where a stream of this partition may hold a report under it.
func parseSubject(subject string, partition int, c Config) (key Key, named, right bool) {
	if m := statusSubject.FindStringSubmatch(subject); m != nil {
		return Key{m[1], m[2]}, true, c.partitions() == 1
	}
	m := partitionSubject.FindStringSubmatch(subject)
	if m == nil {
		return Key{}, false, false
	}
	n, _ := strconv.Atoi(m[1])
	if n > 255 {
		return Key{}, false, false
	}
	right = c.partitions() > 1 && n == partition && share(m[3], c.partitions()) == partition
	return Key{m[2], m[3]}, true, right
}

// published returns the subject that the device published to.
func published(subject string) string {
	return partitionPrefix.ReplaceAllLiteralString(subject, "compliance.status.")
}

// share is which of n shares a device belongs to.
func share(device string, n int) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(device))
	return int(h.Sum32() % uint32(n))
}

// partitionOf returns the partition whose reports a stream holds.
func partitionOf(stream string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(stream, "COMPLIANCE_STATUS_"))
	if err != nil {
		return 0
	}
	return n
}

// streamOf returns the name of a partition's stream.
func streamOf(partition int, c Config) string {
	if c.partitions() == 1 {
		return "COMPLIANCE_STATUS"
	}
	return "COMPLIANCE_STATUS_" + strconv.Itoa(partition)
}

// allows reports whether the reports of a policy are taken.
func (c Config) allows(policy string) bool {
	for _, pattern := range c.Allow {
		if ok, _ := path.Match(pattern, policy); ok {
			return true
		}
	}
	return len(c.Allow) == 0
}
