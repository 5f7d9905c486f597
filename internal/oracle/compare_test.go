package oracle_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/internal/oracle"
)

// deployment is a broker, a sink and the loops between them, at rest.
type deployment struct {
	*broker
	*sink
	config oracle.Config
	state  oracle.State
}

// publishMix publishes reports of all kinds: full and partial ones, deletions,
// duplicates, late ones, and all that is refused.
func (b *broker) publishMix() {
	b.Helper()
	for n := range 60 {
		policy, device := fmt.Sprint("policy-", n%3), fmt.Sprint("device", n%20)
		at := time.Now().UTC().Add(time.Duration(n*7%20) * -time.Minute).Format(time.RFC3339Nano)
		body := fmt.Sprintf(`{"status":%q,"platform":%d,"deviceModel":null,"userName":"u%d"}`, compliance.Status(n%8), n, n)
		switch n % 6 {
		case 1:
			body = `{"@removed":{"reason":"deleted"}}`
		case 2:
			body = fmt.Sprintf(`{"userPrincipalName":"","lastReportedDateTime":%q}`, at)
		case 3:
			body = `{}`
		}
		b.publish(b.subject(policy, device), body, "ce-id", fmt.Sprint("event", n%17), "CE-Time", at)
		b.publish(b.subject(policy, device), body)
	}
	b.publishGrace()
	b.publish(b.subject("gone", "device1"), `{"status":"error"}`, "ce-time", "2026-01-01T00:00:00Z")
	b.publish(b.subject("gone", "device1"), `{"@removed":{}}`, "ce-time", "2026-01-02T00:00:00Z")
	b.publish(b.subject("gone", "device1"), `{"platform":8}`, "ce-time", "2025-01-01T00:00:00Z")
	b.publish(b.subject("uniform", "device1"), "{"+strings.NewReplacer("{", "", "}", "").Replace(strings.Join(eightBodies, ","))+"}")
	for n, body := range append(eightBodies, `{}`) {
		b.publish(b.subject("all", "device1"), body, "ce-time", fmt.Sprintf("2026-01-%02dT00:00:00Z", n+1))
		if n < 8 {
			b.publish(b.subject("eight", "device1"), body, "ce-time", fmt.Sprintf("2026-01-%02dT00:00:00Z", n+1))
		}
		if n > 0 && n < 8 {
			b.publish(b.subject("seven", "device1"), body, "ce-time", fmt.Sprintf("2026-01-%02dT00:00:00Z", n+1))
		}
	}
	b.publishBad()
}

// uuids are policies as they mostly are, of which one is no UUID in lower case.
var uuids = []string{
	"00000000-0000-0000-0000-000000000000", "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "6BA7B810-9dad-11d1-80b4-00c04fd430c8",
}

// publishGrace publishes grace periods: running ones, some that ended and yet count,
// some that do not, and the ends that mean none. All devices have several policies.
func (b *broker) publishGrace() {
	b.Helper()
	now := time.Now().UTC().Truncate(time.Second)
	ends := []string{
		now.Add(time.Hour).Format(time.RFC3339), now.Add(30 * 24 * time.Hour).Format("2006-01-02T15:04:05.0000001Z"),
		now.In(time.FixedZone("", -9000)).Format(time.RFC3339Nano), now.Add(-9 * time.Minute).Format(time.RFC3339),
		now.Add(-11 * time.Minute).Format(time.RFC3339), "9999-12-31T23:59:59.9999999Z", "0001-01-01T00:00:00Z", "9998-12-31T00:00Z",
	}
	for n, end := range ends {
		body := fmt.Sprintf(`{"status":"nonCompliant","complianceGracePeriodExpirationDateTime":%q}`, end)
		for days, policy := range uuids {
			at := now.Add(time.Duration(-days) * 24 * time.Hour).Format(time.RFC3339)
			b.publish(b.subject(policy, fmt.Sprint("device", n)), body, "ce-time", at)
		}
	}
	b.publish(b.subject(uuids[0], "device1"), `{"status":"compliant"}`)
	b.publish(b.subject(uuids[1], "device0"), `{"@removed":{}}`)
	b.publish(b.subject(uuids[2], "device2"), `{"complianceGracePeriodExpirationDateTime":"2001-01-01T00:00Z"}`)
	b.publish(b.subject(uuids[0], "ready"), `{"status":"notAssigned"}`)
}

// eightBodies set one property each, so that a record has as many versions.
var eightBodies = []string{
	`{"deviceDisplayName":"a"}`, `{"userName":"b"}`, `{"deviceModel":"c"}`, `{"platform":-2147483648}`,
	`{"complianceGracePeriodExpirationDateTime":"2026-01-01T00:00Z"}`, `{"status":"notAssigned"}`,
	`{"lastReportedDateTime":"2026-01-01T00:00:00.123456789012+14:00"}`, `{"userPrincipalName":"d"}`,
}

func (b *broker) publishBad() {
	b.Helper()
	good := b.subject("policy-1", "device7")
	b.publish(good, `{"status":"no","platform":1.5,"x":{"a":1,"a":2}}`, "ce-id", "e", "ce-source", "agent", "traceparent", "00-1", "Secret", "no")
	b.publish(good, `{"status":null}`, "Nats-Msg-Id", "m", "compliance-retry-of", "S.1", "Nats-Stream", "mine", "Nats-Sequence", "5", "Status", "204")
	b.publish(good, "{\"userName\":\"\xff\"}")
	b.publish(good, strings.Repeat(" ", 17000))
	b.publish(good, `{"lastReportedDateTime":"9000-01-01T00:00:00Z"}`)
	b.publish(good, `{}`, "Ce-Time", "yesterday", "Compliance-Stored", "before")
	b.publish(good+".more", `{}`)
	b.publish(good, `[]`, "ce-id", "\xff\x00", "ce-spaced", "  a b  ", "CE-Two", "1", "CE-Two", "2", "TraceParent", "", "ce-", "no")
	b.publishRaw(good, "NATS/1.0\r\nno header at all\r\n\r\n", "{}")
	b.publishRaw(good, "NATS/1.0\r\nce-time yesterday\r\n\r\n", `{"status":null}`)
	b.publishRaw(good, "NATS/1.0 204 EOB\r\nce-y: 1\r\n\r\n", `{"status":null}`)
	var many []string
	for n := range 40 {
		many = append(many, fmt.Sprintf(`"%s%d":1`, strings.Repeat("😀", 70-n), n))
	}
	b.publish(good, "{"+strings.Join(many, ",")+"}")
	b.publish("compliance.status.only-a-policy", `{}`)
}

// deploy brings a mix of reports through real servers, and waits until all of it
// is merged.
func deploy(t *testing.T, layout compliance.Layout) *deployment {
	t.Helper()
	d := &deployment{broker: startBroker(t, layout), sink: startSink(t, layout)}
	d.config = oracle.Config{Partitions: layout.Partitions, Buckets: layout.Buckets, InSequence: true}
	d.publishMix()
	stop := d.run(d.broker)
	defer stop()
	d.state = oracle.Fold(d.history(), d.config)
	eventually(t, "every floor at the end of its stream", func() bool {
		return floorsAt(oracle.Compare(d.state, d.snapshot(t)))
	})
	return d
}

func TestTheStateThatTheLoopsMakeIsRight(t *testing.T) {
	for _, layout := range []compliance.Layout{single, {Partitions: 2, Buckets: 8}} {
		t.Run(fmt.Sprint(layout.Partitions, " of ", layout.Buckets), func(t *testing.T) {
			d := deploy(t, layout)
			if found := oracle.Compare(d.state, d.snapshot(t)); len(found) > 0 {
				t.Errorf("Redis:\n%s", strings.Join(found, "\n"))
			}
			if found := oracle.CompareDeadLetters(d.state, d.letters()); len(found) > 0 {
				t.Errorf("dead letters:\n%s", strings.Join(found, "\n"))
			}
			if len(d.state.Rejected) < 9 || len(d.state.Records) < 50 {
				t.Errorf("%d rejected messages and %d records are too few to show anything", len(d.state.Rejected), len(d.state.Records))
			}
		})
	}
}

// key returns the first key of a snapshot of which the name and the fields are
// as wanted.
func key(t *testing.T, s oracle.Snapshot, part string, fields ...string) string {
	t.Helper()
	var found []string
	for name, e := range s {
		missing := slices.ContainsFunc(fields, func(field string) bool { _, there := e.Fields[field]; return !there })
		if strings.Contains(name, part) && !missing {
			found = append(found, name)
		}
	}
	if len(found) == 0 {
		t.Fatalf("no key has %s and %v", part, fields)
	}
	return slices.Min(found)
}

// fault is something wrong in Redis, and part of what is said of it.
type fault struct {
	name string
	make func(pipe redis.Pipeliner)
	want string
}

func TestEveryFaultInRedisIsNamed(t *testing.T) {
	d := deploy(t, single)
	right := d.snapshot(t)
	record := key(t, right, "policy-", "u")
	tombstone := key(t, right, "gone:")
	head := right[tombstone].Fields["v"]
	tombs := record[:len("cs:{00}:")] + "|tombs"
	floor, seal := key(t, right, "|floor"), key(t, right, "|seal")
	grace, graceHead := graceRecord(t, right)
	floorWith := func(n int, word string) string {
		words := strings.Split(right[floor].Text, " ")
		words[n] = word
		return strings.Join(words, " ")
	}
	index := tombstone[:len("cs:{00}:")] + "|tombs"
	member := tombstone[len("cs:{00}:"):]
	faults := []fault{
		{"a value that is another", func(p redis.Pipeliner) { p.HSet(t.Context(), record, "u", "9") }, record + ` field "u" is "9", want`},
		{"a version that is another", func(p redis.Pipeliner) { p.HSet(t.Context(), record, "v", "0") }, record + ` field "v" is "0", want`},
		{"a field that is missing", func(p redis.Pipeliner) { p.HDel(t.Context(), record, "u") }, record + ` field "u" is missing`},
		{"a field that is too many", func(p redis.Pipeliner) { p.HSet(t.Context(), record, "z", "") }, record + ` field "z" is too many`},
		{"a record that is missing", func(p redis.Pipeliner) { p.Del(t.Context(), record) }, record + " is missing"},
		{"a record that expires", func(p redis.Pipeliner) { p.Expire(t.Context(), record, time.Hour) }, record + " expires: true"},
		{"a record of another type", func(p redis.Pipeliner) { p.Del(t.Context(), record); p.RPush(t.Context(), record, "x") }, record + " is a list, want a hash"},
		{"a grace period that ends later", func(p redis.Pipeliner) { p.HSet(t.Context(), grace, "v", graceHead.with()) }, grace + ` field "v" is`},
		{"a grace period that is not in the head", func(p redis.Pipeliner) { p.HSet(t.Context(), grace, "v", graceHead.without()) }, grace + ` field "v" is`},
		{"a key that is too many", func(p redis.Pipeliner) { p.HSet(t.Context(), record+"x", "v", "0") }, record + "x is too many"},
		{"a key of somebody else", func(p redis.Pipeliner) { p.Set(t.Context(), "other", "x", 0) }, "other is too many"},
		{"a self-test that stays", func(p redis.Pipeliner) { p.Set(t.Context(), "cs:{00}:|selftest:1", "x", 0) }, "|selftest:1 is too many"},
		{"a gap", func(p redis.Pipeliner) {
			p.HSet(t.Context(), "cs:{02}:|gaps", "3-4", "2026-01-01T00:00:00Z")
		}, "cs:{02}:|gaps is too many"},
		{"a tombstone that is missing", func(p redis.Pipeliner) { p.Del(t.Context(), tombstone) }, tombstone + " is missing"},
		{"a tombstone of another time", func(p redis.Pipeliner) { p.HSet(t.Context(), tombstone, "v", head[:len(head)-1]+"\x00") }, tombstone + ` field "v" is`},
		{"a tombstone of another time in the index", func(p redis.Pipeliner) { p.ZIncrBy(t.Context(), index, 1, member) }, index + ` score of "` + member + `" is`},
		{"a tombstone that is not in the index", func(p redis.Pipeliner) { p.ZRem(t.Context(), index, member) }, member + `" is missing`},
		{"a tombstone that is in the index alone", func(p redis.Pipeliner) { p.ZAdd(t.Context(), tombs, redis.Z{Score: 1, Member: "p:d"}) }, "|tombs"},
		{"a floor that is missing", func(p redis.Pipeliner) { p.Del(t.Context(), floor) }, floor + " is missing"},
		{"a seal that is that of another floor", func(p redis.Pipeliner) { p.Incr(t.Context(), seal) }, seal + " is"},
		{"a seal that is missing", func(p redis.Pipeliner) { p.Del(t.Context(), seal) }, seal + " is missing"},
		{"a floor of another stream", func(p redis.Pipeliner) { p.Set(t.Context(), floor, floorWith(0, "X"), 0) }, floor + ` is "X `},
		{"a floor of another creation", func(p redis.Pipeliner) { p.Set(t.Context(), floor, floorWith(1, "1"), 0) }, floor + " is"},
		{"a floor that is behind", func(p redis.Pipeliner) { p.Set(t.Context(), floor, floorWith(2, "1"), 0) }, floor + " is"},
		{"a floor of another store time", func(p redis.Pipeliner) { p.Set(t.Context(), floor, floorWith(3, "1"), 0) }, floor + " is"},
		{"a floor of another layout", func(p redis.Pipeliner) { p.Set(t.Context(), floor, floorWith(5, "8"), 0) }, floor + " is"},
		{"a floor without a write id", func(p redis.Pipeliner) { p.Set(t.Context(), floor, floorWith(6, ""), 0) }, floor + " is"},
		{"a floor with a mark", func(p redis.Pipeliner) { p.Append(t.Context(), floor, " repair") }, floor + " is"},
		{"a layout that is another", func(p redis.Pipeliner) { p.HSet(t.Context(), "cs:|meta", "buckets", 8) }, `cs:|meta field "buckets" is "8"`},
		{"the layout of before", func(p redis.Pipeliner) { p.HSet(t.Context(), "cs:|meta", "layout", 1) }, `cs:|meta field "layout" is "1", want "3"`},
		{"no layout", func(p redis.Pipeliner) { p.Del(t.Context(), "cs:|meta") }, "cs:|meta is missing"},
	}
	for _, fault := range slices.Concat(faults, derivedFaults(t, right), rollupFaults(t, right)) {
		t.Run(fault.name, func(t *testing.T) {
			d.restore(t, right)
			if _, err := d.raw.Pipelined(t.Context(), func(p redis.Pipeliner) error { fault.make(p); return nil }); err != nil {
				t.Fatal(err)
			}
			found := oracle.Compare(d.state, d.snapshot(t))
			if len(found) != 1 || !strings.Contains(found[0], fault.want) {
				t.Errorf("found %q, want one difference with %q", found, fault.want)
			}
		})
	}
	d.restore(t, right)
	d.raw.Set(t.Context(), "cs:{00}:|selftest:1", "x", time.Minute)
	if found := oracle.Compare(d.state, d.snapshot(t)); len(found) > 0 {
		t.Error(found)
	}
}

// restore writes a snapshot back.
func (s *sink) restore(t *testing.T, all oracle.Snapshot) {
	t.Helper()
	s.raw.FlushAll(t.Context())
	_, err := s.raw.Pipelined(t.Context(), func(p redis.Pipeliner) error {
		for name, e := range all {
			for field, value := range e.Fields {
				p.HSet(t.Context(), name, field, value)
			}
			for member, score := range e.Scores {
				p.ZAdd(t.Context(), name, redis.Z{Score: score, Member: member})
			}
			if e.Type == "string" {
				p.Set(t.Context(), name, e.Text, 0)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
