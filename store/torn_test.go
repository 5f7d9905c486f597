package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/internal/rig"
	"github.com/complianced/complianced/store"
)

// kept is a server that keeps an append-only file, which a test cuts.
type kept struct {
	*testing.T
	*rig.Redis

	file string
}

func startKept(t *testing.T) *kept {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Fatal(err)
	}
	server, err := rig.Programs{Redis: path}.NewRedis(t.Context(), t.TempDir(),
		"--appendonly", "yes", "--appendfsync", "always", "--aof-load-truncated", "yes", "--auto-aof-rewrite-percentage", "0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Kill() })
	k := &kept{T: t, Redis: server, file: filepath.Join(server.Dir(), "appendonlydir", "appendonly.aof.1.incr.aof")}
	k.must(server.Start(t.Context()))
	return k
}

func (k *kept) must(errs ...error) {
	k.Helper()
	if err := errors.Join(errs...); err != nil {
		k.Fatal(err)
	}
}

func (k *kept) size() int {
	k.Helper()
	info, err := os.Stat(k.file)
	k.must(err)
	return int(info.Size())
}

// restart kills the server and starts it with this file.
func (k *kept) restart(file []byte) {
	k.Helper()
	k.must(k.Kill(), os.WriteFile(k.file, file, 0o600), k.Start(k.Context()))
}

// restartAgain kills the server and starts it with the file that it has.
func (k *kept) restartAgain() {
	k.Helper()
	k.must(k.Kill(), k.Start(k.Context()))
}

func (k *kept) server() *server { return &server{url: k.URL(), raw: k.client()} }

func (k *kept) client() *redis.Client {
	client := k.Client()
	k.Cleanup(func() { _ = client.Close() })
	return client
}

// tornRecords are reports that were merged, reports of which the transaction is cut, and
// later ones that take much of it back: every way in which a record is written.
func tornRecords(t *testing.T) (merged, cut, later []*compliance.Report) {
	t.Helper()
	sequence := uint64(0)
	add := func(to *[]*compliance.Report, policy, id, at, body string) {
		sequence++
		key := compliance.Key{Policy: policy, Device: device.Device}
		*to = append(*to, report(t, sequence, key, body, "ce-id", id, "ce-time", "2026-03-04T05:06:"+at+"Z"))
	}
	const grace = `"complianceGracePeriodExpirationDateTime"`
	full := func(n int) string {
		return fmt.Sprintf(`{"status":"nonCompliant",%s:"2027-01-16T0%d:00Z","platform":%d,"userName":"u%d","deviceModel":"m%d"}`, grace, n, n, n, n)
	}
	removed := `{"@removed":{}}`
	for n, policy := range []string{"changes", "goes", "goes-and-returns", "gone", "gone-stays", "returns", "stays-returned", "late-removal", "many"} {
		add(&merged, policy, "a", fmt.Sprintf("1%d", n), full(1))
	}
	for _, policy := range []string{"gone", "gone-stays", "returns", "stays-returned"} {
		add(&merged, policy, "b", "20", removed)
	}
	for n, body := range []string{`{"userName":"x"}`, `{"deviceModel":"x"}`, `{"platform":7}`, `{"userPrincipalName":"x"}`, `{"deviceDisplayName":"x"}`, `{"lastReportedDateTime":"2026-01-01T00:00Z"}`, `{"status":"error"}`} {
		add(&merged, "many", "b", fmt.Sprintf("2%d", n), body)
	}
	add(&merged, "changes", "b", "25", `{"deviceDisplayName":"kept"}`)
	add(&merged, "sparse", "a", "10", `{"platform":1}`)
	add(&merged, "late-removal", "b", "40", `{"status":"nonCompliant","userName":"later"}`)

	add(&cut, "gone-stays", "stale", "15", full(3))
	add(&cut, "changes", "c", "30", `{"status":"nonCompliant","platform":5}`)
	add(&cut, "changes", "d", "31", full(4))
	add(&cut, "new", "c", "30", full(4))
	add(&cut, "goes", "c", "30", removed)
	add(&cut, "goes-and-returns", "c", "30", removed)
	add(&cut, "returns", "c", "30", full(4))
	add(&cut, "stays-returned", "c", "30", full(4))
	add(&cut, "sparse", "b", "30", full(4))
	add(&cut, "gone", "c", "21", full(4))
	add(&cut, "gone", "d", "22", removed)
	add(&cut, "late-removal", "c", "35", removed)
	add(&cut, "many", "c", "40", full(4))
	add(&cut, "many", "d", "41", `{"userName":"y"}`)

	add(&later, "changes", "e", "41", full(1))
	add(&later, "new", "d", "31", removed)
	add(&later, "new", "e", "32", `{"status":"compliant"}`)
	add(&later, "returns", "d", "31", removed)
	add(&later, "sparse", "c", "31", removed)
	add(&later, "sparse", "d", "32", `{"status":"compliant"}`)
	add(&later, "goes-and-returns", "e", "42", full(1))
	for n, body := range []string{`{"userName":"z"}`, `{"deviceModel":"z"}`, `{"platform":9}`, `{"deviceDisplayName":"z"}`, `{"lastReportedDateTime":"2026-01-02T00:00Z"}`, `{"status":"error"}`} {
		add(&later, "many", "f", fmt.Sprintf("5%d", n), body)
	}
	return merged, cut, later
}

func TestAPartOfATransactionThatRedisTakesInIsRecounted(t *testing.T) {
	t.Run("of heads", func(t *testing.T) { recountsParts(t, "") })
	// Where answers are asked for, the values are read too.
	t.Run("of whole records", func(t *testing.T) { recountsParts(t, "token") })
}

func recountsParts(t *testing.T, reply string) {
	t.Helper()
	k := startKept(t)
	merged, cut, later := tornRecords(t)
	for _, reports := range [][]*compliance.Report{cut, later} {
		for _, r := range reports {
			r.Reply = reply
		}
	}
	all := append(append(append([]*compliance.Report(nil), merged...), cut...), later...)
	last := func(reports []*compliance.Report) uint64 { return reports[len(reports)-1].Sequence }
	base := floor(last(merged), "merged")
	s := k.server()
	r := s.open(t, store.Options{})
	apply(t, r, compliance.Floor{}, base, merged...)
	began := k.size()
	apply(t, r, base, floor(last(cut), "cut"), cut...)
	apply(t, r, floor(last(cut), "cut"), floor(last(later), "later"), later...)
	apply(t, r, floor(last(later), "later"), floor(last(later), "end"))
	want := s.dump(t)
	file, err := os.ReadFile(k.file)
	k.must(err)
	block := file[:began+bytes.Index(file[began:], []byte("EXEC\r\n"))]

	for _, way := range []struct {
		name string
		// again are those that are merged again before the part is taken in.
		again []*compliance.Report
	}{
		{"before anything is merged again", nil},
		{"after some were merged again", cut[:2]},
		{"after all were merged again", cut},
		{"after all and later ones were merged again at once", all[len(merged):]},
	} {
		t.Run(way.name, func(t *testing.T) {
			torn := 0
			for at := began; at < len(block); {
				next := at + 1 + strings.Index(string(block[at+1:])+"\r\n*", "\r\n*") + 2
				at = next
				if at >= len(block) {
					break
				}
				if mendTorn(t, k, file[:at+2], base, way.again, all, want) {
					torn++
				}
			}
			t.Logf("torn after %d cuts", torn)
			if torn == 0 {
				t.Error("no cut left a part of the transaction")
			}
		})
	}
}

// mendTorn starts Redis with a file that was cut, merges some reports again on what is
// left, and starts Redis once more. Then it does what a worker does.
func mendTorn(t *testing.T, k *kept, file []byte, base compliance.Floor, again, all []*compliance.Report, want map[string]any) (torn bool) {
	t.Helper()
	k.restart(file)
	s := &server{url: k.URL(), raw: k.Client()}
	defer s.raw.Close()
	r, err := store.New(layout, store.Options{URLs: []string{s.url}})
	k.must(err)
	defer r.Close()
	if have := floorNow(t, r); !have.Equal(base) {
		t.Fatalf("after a cut the floor is %+v", have)
	}
	if _, err := r.Apply(t.Context(), compliance.Transaction{Bucket: 1, To: floor(1, "other")}); err != nil {
		t.Fatal(err)
	}
	if len(again) > 0 {
		applyWhole(t, r, base, floor(again[len(again)-1].Sequence, "again"), again...)
	}
	k.restartAgain()
	at := floorNow(t, r)
	if torn = at.Torn; torn {
		to := floor(at.Sequence, "recounted")
		_, err := r.Apply(t.Context(), compliance.Transaction{From: at, To: to, Recount: true})
		if _, corrupt := errors.AsType[*compliance.CorruptError](err); corrupt {
			to = floor(0, "again")
			to.Stored, to.Repair = time.Time{}, true
			_, err = r.Apply(t.Context(), compliance.Transaction{From: at, To: to, Recount: true})
		}
		if err != nil {
			t.Fatal(err)
		}
		at = to
		wantNoDifference(t, r)
	}
	var rest []*compliance.Report
	for _, report := range all {
		if report.Sequence > at.Sequence {
			rest = append(rest, report)
		}
	}
	end := floor(all[len(all)-1].Sequence, "end")
	applyWhole(t, r, at, end, rest...)
	have := s.dump(t)
	for name := range have {
		if strings.HasPrefix(name, "cs:{01}") || name == "cs:|meta" {
			delete(have, name)
		}
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Errorf("cut at %d of %q, torn: %t (-never cut +redis):\n%s", len(file), file[len(file)-40:], torn, diff)
	}
	return torn
}

// applyWhole merges the first reports after a floor that is not the one that was left.
func applyWhole(t *testing.T, r *store.Redis, from, to compliance.Floor, reports ...*compliance.Report) {
	t.Helper()
	if _, err := r.Apply(t.Context(), compliance.Transaction{From: from, To: to, Reports: reports, Whole: true}); err != nil {
		t.Fatal(err)
	}
}

func floorNow(t *testing.T, r *store.Redis) compliance.Floor {
	t.Helper()
	floors, err := r.ReadFloors(t.Context(), []compliance.Bucket{0})
	if err != nil {
		t.Fatal(err)
	}
	return floors[0]
}

// wantNoDifference checks that all that follows from the records is what does.
func wantNoDifference(t *testing.T, r *store.Redis) {
	t.Helper()
	_, err := r.Verify(t.Context(), store.VerifyOptions{Found: func(d store.Difference) { t.Errorf("after the recount: %+v", d) }})
	if err != nil {
		t.Fatal(err)
	}
}

// TestAPartOfATransactionWhoseReportNeverComesAgain has the part of a transaction run
// before another report of the record: of a stream that lost the report of the part, and
// of a worker that does not know that there was a part.
func TestAPartOfATransactionWhoseReportNeverComesAgain(t *testing.T) {
	full := func(user string) string {
		return fmt.Sprintf(`{"status":"compliant","userName":%q,"deviceModel":"m"}`, user)
	}
	for _, c := range []struct {
		name, body string
		whole      bool
	}{
		{"a part of its values", `{"status":"error"}`, true},
		{"the values of before", full("before"), true},
		{"by a store that has connected again", full("before"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := startKept(t)
			s := k.server()
			r := s.open(t, store.Options{})
			add := func(sequence uint64, body string) *compliance.Report {
				id := fmt.Sprint(sequence)
				return report(t, sequence, device, body, "ce-id", id, "ce-time", "2026-03-04T05:06:0"+id+"Z")
			}
			apply(t, r, compliance.Floor{}, floor(1, "base"), add(1, full("before")))
			began := k.size()
			apply(t, r, floor(1, "base"), floor(2, "cut"), add(2, full("lost")))
			file, err := os.ReadFile(k.file)
			k.must(err)
			k.restart(file[:began+bytes.Index(file[began:], []byte("EXEC\r\n"))+2])
			tx := compliance.Transaction{From: floor(1, "base"), To: floor(3, "next"), Reports: []*compliance.Report{add(3, c.body)}, Whole: c.whole}
			if _, err := r.Apply(t.Context(), tx); err != nil {
				t.Fatal(err)
			}
			name, _, _ := store.Keys(0, device)
			want := s.raw.HGetAll(t.Context(), name).Val()
			k.restartAgain()
			at := floorNow(t, r)
			if !at.Torn {
				t.Fatal("the bucket is not torn: the part was not run")
			}
			if _, err := r.Apply(t.Context(), compliance.Transaction{From: at, To: floor(3, "recounted"), Recount: true}); err != nil {
				t.Fatal(err)
			}
			wantNoDifference(t, r)
			if diff := cmp.Diff(want, s.raw.HGetAll(t.Context(), name).Val()); diff != "" {
				t.Errorf("(-before +after the part was run):\n%s", diff)
			}
		})
	}
}

// TestASealThatIsNoneIsReplaced has seals that no transaction leaves.
func TestASealThatIsNoneIsReplaced(t *testing.T) {
	for _, text := range []string{"-9223372036854775808", "9223372036854775807", "x", ""} {
		s := startServer(t)
		r := s.open(t, store.Options{})
		apply(t, r, compliance.Floor{}, floor(1, "a"), report(t, 1, device, `{"status":"error"}`))
		if err := s.raw.Set(t.Context(), "cs:{00}:|seal", text, 0).Err(); err != nil {
			t.Fatal(err)
		}
		at := floorNow(t, r)
		if !at.Torn {
			t.Errorf("with the seal %q nothing is torn", text)
		}
		if _, err := r.Apply(t.Context(), compliance.Transaction{From: at, To: floor(1, "b"), Recount: true}); err != nil {
			t.Errorf("with the seal %q: %v", text, err)
		}
		if at := floorNow(t, r); at.Torn {
			t.Errorf("after the seal %q the bucket stays torn", text)
		}
	}
}

func TestARepairLeavesATornBucketTornAndNoOther(t *testing.T) {
	for name, c := range map[string]struct {
		harm func(context.Context, *redis.Client) error
		torn bool
	}{
		"no seal":             {func(ctx context.Context, c *redis.Client) error { return c.Del(ctx, "cs:{00}:|seal").Err() }, false},
		"a seal that is none": {func(ctx context.Context, c *redis.Client) error { return c.Set(ctx, "cs:{00}:|seal", "x", 0).Err() }, false},
		"a seal of another type": {func(ctx context.Context, c *redis.Client) error {
			return errors.Join(c.Del(ctx, "cs:{00}:|seal").Err(), c.LPush(ctx, "cs:{00}:|seal", 1).Err())
		}, false},
		"the seal of other floor": {func(ctx context.Context, c *redis.Client) error { return c.IncrBy(ctx, "cs:{00}:|seal", 7).Err() }, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := startServer(t)
			r := s.open(t, store.Options{})
			apply(t, r, compliance.Floor{}, floor(1, "a"), report(t, 1, device, `{"status":"error"}`))
			if err := errors.Join(c.harm(t.Context(), s.raw), s.raw.HSet(t.Context(), "cs:{00}:|counts", "policy|error", 5).Err()); err != nil {
				t.Fatal(err)
			}
			if found, _ := verify(t, r, &journal{}, true); len(found) != 1 {
				t.Errorf("found %v", found)
			}
			if at := floorNow(t, r); at.Torn != c.torn {
				t.Errorf("after the repair the bucket is torn: %t", at.Torn)
			}
		})
	}
}
