package ingest_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/ingest"
)

func TestTouchedNamesTheRecordsOfTheReportsBetweenTwoFloors(t *testing.T) {
	layout := compliance.Layout{Partitions: 2, Buckets: 4}
	b := startBroker(t, layout)
	touched := ingest.NewTouched(b.js, layout)
	defer touched.Close()
	of := map[compliance.Bucket][]compliance.Key{}
	last := map[compliance.Bucket]uint64{}
	publish := func(n int) {
		t.Helper()
		key := compliance.Key{Policy: "p", Device: fmt.Sprint("d", n)}
		ack := b.publish(key.Subject(), `{}`)
		bucket := layout.BucketOf(key.Device)
		of[bucket] = append(of[bucket], key)
		for other := bucket % 2; other < 4; other += 2 {
			last[other] = ack.Sequence
		}
	}
	for n := range 50 {
		publish(n)
	}
	at := func(n uint64) compliance.Floor { return compliance.Floor{Sequence: n} }
	for bucket := range compliance.Bucket(4) {
		have, err := touched.Between(t.Context(), bucket, at(0), at(last[bucket]))
		if diff := cmp.Diff(of[bucket], have); diff != "" || err != nil {
			t.Fatalf("bucket %d: %v %s", bucket, err, diff)
		}
		// It goes on from there, also where reports come in between.
		before, from := len(of[bucket]), last[bucket]
		for n := range 20 {
			publish(1000 + 20*int(bucket) + n)
		}
		have, err = touched.Between(t.Context(), bucket, at(from), at(last[bucket]))
		if diff := cmp.Diff(of[bucket][before:], have); diff != "" || err != nil {
			t.Fatalf("bucket %d: %v %s", bucket, err, diff)
		}
	}
}

func TestTouchedSaysThatTheStreamHasLostReports(t *testing.T) {
	layout := compliance.Layout{Partitions: 1, Buckets: 1}
	b := startBroker(t, layout)
	for range 10 {
		b.publish("compliance.status.p.d", `{}`)
	}
	stream, err := b.js.Stream(t.Context(), "COMPLIANCE_STATUS")
	if err != nil {
		t.Fatal(err)
	}
	limited := stream.CachedInfo().Config
	limited.MaxMsgs = 5
	if _, err := b.js.UpdateStream(t.Context(), limited); err != nil {
		t.Fatal(err)
	}
	touched := ingest.NewTouched(b.js, layout)
	defer touched.Close()
	if _, err := touched.Between(t.Context(), 0, compliance.Floor{Sequence: 2}, compliance.Floor{Sequence: 9}); !errors.Is(err, ingest.ErrTouched) {
		t.Error(err)
	}
	keys, err := touched.Between(t.Context(), 0, compliance.Floor{Sequence: 5}, compliance.Floor{Sequence: 10})
	if err != nil || len(keys) != 5 {
		t.Errorf("%d records, %v", len(keys), err)
	}
}
