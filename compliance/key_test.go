package compliance_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"pgregory.net/rapid"

	"github.com/complianced/complianced/compliance"
)

// ids are right policy and device ids.
var ids = rapid.StringMatching(`[A-Za-z0-9_-]{1,128}`)

func TestSubjectsGoRound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := compliance.Key{Policy: ids.Draw(t, "policy"), Device: ids.Draw(t, "device")}
		n := rapid.IntRange(0, compliance.MaxBuckets-1).Draw(t, "partition")
		if !key.Valid() {
			t.Fatalf("%+v is not valid", key)
		}
		if got, partition, err := compliance.ParseSubject(key.Subject()); got != key || partition != compliance.Unpartitioned || err != nil {
			t.Fatalf("%s reads as %+v, %d, %v", key.Subject(), got, partition, err)
		}
		if got, partition, err := compliance.ParseSubject(key.PartitionSubject(n)); got != key || partition != n || err != nil {
			t.Fatalf("%s reads as %+v, %d, %v", key.PartitionSubject(n), got, partition, err)
		}
		if got := compliance.StatusSubject(key.PartitionSubject(n)); got != key.Subject() {
			t.Fatalf("%s becomes %s, want %s", key.PartitionSubject(n), got, key.Subject())
		}
	})
}

func TestAWrongSubjectIsNoKey(t *testing.T) {
	for _, subject := range []string{"", "compliance.status.p", "compliance.p.x.p.d", "compliance.p.256.p.d", "compliance.status.p.d.e"} {
		if key, _, err := compliance.ParseSubject(subject); !errors.Is(err, compliance.ErrSubject) || key != (compliance.Key{}) {
			t.Errorf("%q reads as %+v, %v", subject, key, err)
		}
	}
}

func TestStatusSubject(t *testing.T) {
	for subject, want := range map[string]string{
		"compliance.p.3.p.d":      "compliance.status.p.d",
		"compliance.p.3.p.d.e":    "compliance.status.p.d.e",
		"compliance.p.03.p q.d":   "compliance.status.p q.d",
		"compliance.p.3":          "compliance.status.",
		"compliance.status.p.d":   "compliance.status.p.d",
		"compliance.status.p.d.e": "compliance.status.p.d.e",
	} {
		if got := compliance.StatusSubject(subject); got != want {
			t.Errorf("%s becomes %s, want %s", subject, got, want)
		}
	}
}

func TestValidID(t *testing.T) {
	for c := range 256 {
		id := string([]byte{byte(c)})
		want := strings.Contains("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-", id)
		if got := compliance.ValidID(id); got != want {
			t.Errorf("%q is an id: %t, want %t", id, got, want)
		}
		if got := compliance.ValidID("x" + id + "x"); got != want {
			t.Errorf("x%qx is an id: %t, want %t", id, got, want)
		}
	}
	for n, want := range map[int]bool{0: false, 1: true, 127: true, 128: true, 129: false} {
		if got := compliance.ValidID(strings.Repeat("x", n)); got != want {
			t.Errorf("%d characters are an id: %t, want %t", n, got, want)
		}
	}
}

// A device is in the partition that the server's own subject mapping puts it in.
func TestPartitionsAreThoseOfTheServer(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for _, n := range []int{2, 3, 4, 16, 256} {
		mapping, err := server.NewSubjectTransform("compliance.status.*.*", fmt.Sprintf("compliance.p.{{partition(%d,2)}}.{{wildcard(1)}}.{{wildcard(2)}}", n))
		if err != nil {
			t.Fatal(err)
		}
		layout := compliance.Layout{Partitions: n, Buckets: n}
		for range 1000 {
			key := compliance.Key{Policy: randomID(random), Device: randomID(random)}
			got := key.PartitionSubject(layout.PartitionOf(key.Device))
			if want := mapping.TransformSubject(key.Subject()); got != want {
				t.Fatalf("of %d partitions %s is in %s, want %s", n, key.Subject(), got, want)
			}
		}
	}
}

func randomID(random *rand.Rand) string {
	const characters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
	id := make([]byte, 1+random.IntN(compliance.MaxIDLength))
	for i := range id {
		id[i] = characters[random.IntN(len(characters))]
	}
	return string(id)
}

// Published values of FNV-1a 32: "" 811c9dc5, "a" e40c292c, "foobar" bf9cf968.
func TestBucketsAreFNV1a(t *testing.T) {
	layout := compliance.Layout{Partitions: 1, Buckets: 256}
	for id, want := range map[string]compliance.Bucket{"": 0xc5, "a": 0x2c, "foobar": 0x68} {
		if got := layout.BucketOf(id); got != want {
			t.Errorf("%q is in bucket %x, want %x", id, int(got), int(want))
		}
	}
}

func TestAPartitionOwnsWholeBuckets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.IntRange(1, compliance.MaxBuckets).Draw(t, "buckets")
		p := rapid.IntRange(1, b).Filter(func(p int) bool { return b%p == 0 }).Draw(t, "partitions")
		layout := compliance.Layout{Partitions: p, Buckets: b}
		if err := layout.Validate(); err != nil {
			t.Fatal(err)
		}
		device := ids.Draw(t, "device")
		owned := layout.BucketsOf(layout.PartitionOf(device))
		if !slices.Contains(owned, layout.BucketOf(device)) || !slices.IsSorted(owned) {
			t.Fatalf("the device is in partition %d with buckets %v and in bucket %d", layout.PartitionOf(device), owned, layout.BucketOf(device))
		}
		owners := map[compliance.Bucket]int{}
		for n := range p {
			for _, bucket := range layout.BucketsOf(n) {
				owners[bucket]++
			}
		}
		for bucket := range b {
			if owners[compliance.Bucket(bucket)] != 1 {
				t.Fatalf("bucket %d has %d owners", bucket, owners[compliance.Bucket(bucket)])
			}
		}
	})
}

func TestALayoutThatDoesNotFitIsRefused(t *testing.T) {
	for _, layout := range []compliance.Layout{{0, 0}, {0, 16}, {1, 0}, {-1, 16}, {1, -16}, {1, 257}, {3, 16}, {32, 16}, {257, 257}} {
		if err := layout.Validate(); !errors.Is(err, compliance.ErrLayout) {
			t.Errorf("%+v: %v", layout, err)
		}
	}
	for _, layout := range []compliance.Layout{{1, 1}, {1, 16}, {16, 16}, {4, 256}, {256, 256}, {3, 9}} {
		if err := layout.Validate(); err != nil {
			t.Errorf("%+v: %v", layout, err)
		}
	}
}

func TestResultSubject(t *testing.T) {
	if got := compliance.ResultSubject("device", "a.b"); got != "compliance.result.device.a.b" {
		t.Errorf("the result goes to %s", got)
	}
}

func TestFloors(t *testing.T) {
	floor := compliance.Floor{
		Stream: "COMPLIANCE_STATUS", Created: stored, Sequence: 5, Stored: stored,
		Layout: compliance.Layout{Partitions: 1, Buckets: 16}, Write: "w",
	}
	if floor.Absent() || !(compliance.Floor{}).Absent() {
		t.Error("the zero floor, and no other, is absent")
	}
	same := floor
	same.Created, same.Stored = stored.Local(), stored.Local()
	if !floor.Equal(same) {
		t.Error("the zone of a time makes another floor")
	}
	for i, change := range []func(*compliance.Floor){
		func(f *compliance.Floor) { f.Stream = "S" },
		func(f *compliance.Floor) { f.Created = f.Created.Add(1) },
		func(f *compliance.Floor) { f.Sequence++ },
		func(f *compliance.Floor) { f.Stored = f.Stored.Add(1) },
		func(f *compliance.Floor) { f.Layout.Buckets = 32 },
		func(f *compliance.Floor) { f.Write = "x" },
		func(f *compliance.Floor) { f.Repair = true },
	} {
		other := floor
		change(&other)
		if floor.Equal(other) {
			t.Errorf("floor %s is equal to %+v", strconv.Itoa(i), other)
		}
		if got, want := floor.SameStream(other), i > 1; got != want {
			t.Errorf("floor %d is of the same stream: %t, want %t", i, got, want)
		}
	}
	other := same
	other.Sequence = 3
	if got, want := (&compliance.FloorError{Bucket: 10, Want: floor, Have: other}).Error(), "bucket 0a: the floor is at 3, not at 5 as expected"; got != want {
		t.Errorf("the error says %q, want %q", got, want)
	}
	if got, want := (&compliance.CorruptError{Bucket: 10, What: "a record"}).Error(), "bucket 0a: a record is corrupt"; got != want {
		t.Errorf("the error says %q, want %q", got, want)
	}
}
