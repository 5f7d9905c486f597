package store_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/internal/embedded"
	"github.com/complianced/complianced/store"
	"github.com/complianced/complianced/store/storetest"
)

var layout = compliance.Layout{Partitions: 1, Buckets: 4}

// server is a real Redis server, and a client that looks at it from outside.
type server struct {
	url string
	raw *redis.Client
}

func startServer(tb testing.TB) *server {
	tb.Helper()
	own, err := embedded.StartRedis(tb.Context(), embedded.RedisOptions{DataDir: tb.TempDir()})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = own.Close() })
	if own.StandIn() {
		tb.Fatal("the tests need redis-server or valkey-server in PATH: run make deps")
	}
	options, err := redis.ParseURL(own.URL())
	if err != nil {
		tb.Fatal(err)
	}
	raw := redis.NewClient(options)
	tb.Cleanup(func() { _ = raw.Close() })
	return &server{url: own.URL(), raw: raw}
}

func (s *server) open(tb testing.TB, options store.Options) *store.Redis {
	tb.Helper()
	options.URLs = []string{s.url}
	r, err := store.New(layout, options)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = r.Close() })
	return r
}

// dump returns every key as text.
func (s *server) dump(tb testing.TB) map[string]any {
	tb.Helper()
	all := map[string]any{}
	scan := s.raw.Scan(tb.Context(), 0, "*", 1000).Iterator()
	for scan.Next(tb.Context()) {
		name := scan.Val()
		switch kind := s.raw.Type(tb.Context(), name).Val(); kind {
		case "hash":
			all[name] = s.raw.HGetAll(tb.Context(), name).Val()
		case "string":
			all[name] = s.raw.Get(tb.Context(), name).Val()
		case "zset":
			scores := map[string]float64{}
			for _, z := range s.raw.ZRangeWithScores(tb.Context(), name, 0, -1).Val() {
				scores[fmt.Sprint(z.Member)] = z.Score
			}
			all[name] = scores
		default:
			tb.Fatalf("key of type %s", kind)
		}
	}
	if err := scan.Err(); err != nil {
		tb.Fatal(err)
	}
	return all
}

var began = time.Unix(1_800_000_000, 0).UTC()

// floor returns a floor of the tests' stream.
func floor(sequence uint64, write string) compliance.Floor {
	return compliance.Floor{
		Stream: "COMPLIANCE_STATUS", Created: began, Sequence: sequence,
		Stored: began.Add(time.Duration(sequence) * time.Second), Layout: layout, Write: write,
	}
}

// report decodes a report that must be right.
func report(tb testing.TB, sequence uint64, key compliance.Key, body string, headers ...string) *compliance.Report {
	tb.Helper()
	e := compliance.Envelope{
		Subject: key.Subject(), Body: []byte(body), Sequence: sequence,
		Stored: began.Add(time.Duration(sequence) * time.Second), Header: map[string][]string{},
	}
	for i := 0; i+1 < len(headers); i += 2 {
		e.Header[headers[i]] = []string{headers[i+1]}
	}
	r, rejection := compliance.Decode(&e)
	if rejection != nil {
		tb.Fatal(rejection.Violations)
	}
	return &r
}

const keepTombstones = storetest.Tombstones

var device = compliance.Key{Policy: "policy", Device: devicesOfBucket0()[0]}

func apply(t *testing.T, s storetest.Store, from, to compliance.Floor, reports ...*compliance.Report) []compliance.Outcome {
	t.Helper()
	effects, err := s.Apply(t.Context(), compliance.Transaction{From: from, To: to, Reports: reports})
	if err != nil {
		t.Fatal(err)
	}
	var outcomes []compliance.Outcome
	for _, effect := range effects {
		outcomes = append(outcomes, effect.Outcome)
	}
	return outcomes
}

func wantCounts(t *testing.T, s storetest.Store, want map[string][compliance.NumStatuses]int) {
	t.Helper()
	have, err := s.Counts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Error(diff)
	}
}

func zMember(name string) redis.Z { return redis.Z{Member: name} }
