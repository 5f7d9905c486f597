package compliance

import (
	"errors"
	"hash/fnv"
	"strconv"
	"strings"
)

// MaxIDLength is the greatest length of a policy or device id, in characters.
const MaxIDLength = 128

// Subject prefixes of the wire contract.
const (
	// StatusPrefix begins the subject that devices publish to.
	StatusPrefix = "compliance.status."
	// PartitionPrefix begins the subject of a report in one of several
	// partitions; the partition's number follows.
	PartitionPrefix = "compliance.p."
	// ResultPrefix begins the subject of a result; device and token follow.
	ResultPrefix = "compliance.result."
	// DeadPrefix begins the subject of a dead letter.
	DeadPrefix = "compliance.dead."
)

// ErrSubject says that a subject is of neither form that a report can have.
var ErrSubject = errors.New("the subject is not compliance.status.<policy>.<device> with ids of 1 to 128 characters of A-Z a-z 0-9 _ -")

// Key names a record: one device under one policy.
type Key struct {
	Policy string
	Device string
}

// Valid reports whether both ids are 1 to 128 characters of A-Z a-z 0-9 _ -.
func (k Key) Valid() bool { return ValidID(k.Policy) && ValidID(k.Device) }

// Subject returns the subject that the reports of this record are published to.
func (k Key) Subject() string { return StatusPrefix + k.Policy + "." + k.Device }

// PartitionSubject returns the subject under which the stream of a partition
// keeps the reports of this record when there are several partitions.
func (k Key) PartitionSubject(partition int) string {
	return PartitionPrefix + strconv.Itoa(partition) + "." + k.Policy + "." + k.Device
}

// Unpartitioned is the partition that [ParseSubject] returns for the subject
// that devices publish to.
const Unpartitioned = -1

// ParseSubject reads both forms of a report's subject: Subject, with
// [Unpartitioned] as the partition, and PartitionSubject. The error is
// [ErrSubject].
func ParseSubject(subject string) (Key, int, error) {
	partition := Unpartitioned
	rest, ok := strings.CutPrefix(subject, StatusPrefix)
	if !ok {
		if rest, ok = strings.CutPrefix(subject, PartitionPrefix); !ok {
			return Key{}, 0, ErrSubject
		}
		number, ids, _ := strings.Cut(rest, ".")
		n, err := strconv.ParseUint(number, 10, 8)
		if err != nil || strconv.FormatUint(n, 10) != number {
			return Key{}, 0, ErrSubject
		}
		partition, rest = int(n), ids
	}
	policy, device, _ := strings.Cut(rest, ".")
	key := Key{Policy: policy, Device: device}
	if !key.Valid() {
		return Key{}, 0, ErrSubject
	}
	return key, partition, nil
}

// StatusSubject returns a report's subject in the form that devices publish to,
// whichever form it has, and also where the ids in it are wrong.
func StatusSubject(subject string) string {
	rest, ok := strings.CutPrefix(subject, PartitionPrefix)
	if !ok {
		return subject
	}
	_, ids, _ := strings.Cut(rest, ".")
	return StatusPrefix + ids
}

// ValidID reports whether s is a policy or device id: 1 to 128 characters of
// A-Z a-z 0-9 _ -.
func ValidID(s string) bool {
	return len(s) >= 1 && len(s) <= MaxIDLength && validToken(s)
}

// inToken says which bytes a token may have. Looking them up takes half as long as
// comparing them, and each report has two ids.
var inToken = func() (in [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") {
		in[c] = true
	}
	return in
}()

func validToken(s string) bool {
	for i := range len(s) {
		if !inToken[s[i]] {
			return false
		}
	}
	return s != ""
}

// MaxReplyLength is the greatest length of a Compliance-Reply, in characters,
// dots included. The token becomes part of a subject, and a server closes the
// connection on which a line of more than 4,096 bytes comes.
const MaxReplyLength = 128

// validReply reports whether s is one to three subject tokens of
// A-Z a-z 0-9 _ -, of at most MaxReplyLength characters: the form of the header
// Compliance-Reply.
func validReply(s string) bool {
	if len(s) > MaxReplyLength {
		return false
	}
	n := 0
	for token := range strings.SplitSeq(s, ".") {
		if n++; n > 3 || !validToken(token) {
			return false
		}
	}
	return true
}

// MaxBuckets is the greatest number of buckets; two hex digits name a bucket.
const MaxBuckets = 256

// ErrLayout says that the numbers of partitions and buckets do not fit.
var ErrLayout = errors.New("the number of partitions must divide the number of buckets, which is 1 to 256")

// Bucket is one share of the devices in the sink: a number from 0 up to the
// layout's number of buckets.
type Bucket int

// LayoutVersion is the version of the keys and fields of the sink. The streams name it
// too, so that a program of another version does not take up a sink that was emptied.
const LayoutVersion = 3

// Layout is how devices are shared out: P partitions, which are streams, and B
// buckets, which are hash tags in the sink. P divides B, so that a partition
// owns whole buckets. Provisioning fixes both.
type Layout struct {
	Partitions int
	Buckets    int
}

// Validate returns [ErrLayout] unless 1 ≤ P, 1 ≤ B ≤ 256 and P divides B.
func (l Layout) Validate() error {
	if l.Partitions < 1 || l.Buckets < 1 || l.Buckets > MaxBuckets || l.Buckets%l.Partitions != 0 {
		return ErrLayout
	}
	return nil
}

// BucketOf returns the bucket of a device: FNV-1a 32 of the id mod B.
func (l Layout) BucketOf(device string) Bucket { return Bucket(share(device, l.Buckets)) }

// PartitionOf returns the partition of a device: FNV-1a 32 of the id mod P,
// which is what the subject mapping {{partition(P,2)}} of NATS computes.
func (l Layout) PartitionOf(device string) int { return share(device, l.Partitions) }

// BucketsOf returns the buckets that a partition owns, in ascending order.
func (l Layout) BucketsOf(partition int) []Bucket {
	var buckets []Bucket
	for b := partition; b < l.Buckets; b += l.Partitions {
		buckets = append(buckets, Bucket(b))
	}
	return buckets
}

func share(device string, n int) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(device))
	return int(h.Sum32() % uint32(n))
}
