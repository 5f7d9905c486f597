package store_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/store"
)

// records draws a record as the law makes them: its id has the greatest version,
// and few versions are shared by many properties.
func records(t *rapid.T) compliance.Record {
	versions := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) compliance.Version {
		return compliance.Version{
			Time: compliance.Ticks(rapid.Uint64Range(0, 3_155_378_975_999_999_999).Draw(t, "time")),
			ID:   rapid.Uint64().Draw(t, "id"),
		}
	}), 1, 10).Draw(t, "versions")
	texts := []*rapid.Generator[string]{rapid.Just(""), rapid.String(), rapid.StringN(256, 256, -1)}
	var r compliance.Record
	for p := range r.Values {
		r.Versions[p] = rapid.SampledFrom(versions).Draw(t, "version")
		switch rapid.IntRange(0, 4).Draw(t, "kind") {
		case 0:
			r.Versions[p] = compliance.Version{}
		case 1:
			r.Values[p] = compliance.Value{Kind: compliance.Null}
		case 2:
			r.Values[p] = compliance.Value{Kind: compliance.Cleared}
		default:
			r.Values[p] = compliance.TextValue(rapid.OneOf(texts...).Draw(t, "text"))
		}
	}
	if status := &r.Values[compliance.StatusProperty]; status.Kind == compliance.Text || status.Kind == compliance.Null {
		*status = compliance.TextValue(rapid.StringMatching("[0-7]").Draw(t, "status"))
	}
	newest := append(r.Versions[:], rapid.SampledFrom(versions).Draw(t, "newest"))
	r.Versions[compliance.ID] = slices.MaxFunc(newest, compliance.Version.Compare)
	if rapid.IntRange(0, 5).Draw(t, "tombstone") > 0 {
		r.Values[compliance.ID] = compliance.TextValue("device")
		return r
	}
	for p := range r.Values {
		r.Values[p], r.Versions[p] = compliance.Value{Kind: compliance.Cleared}, r.Newest()
	}
	r.StoredMillis = rapid.Int64().Draw(t, "stored")
	return r
}

// reply is what HMGET of all fields answers from a hash.
func reply(hash map[string]string) []any {
	list := make([]any, len(store.FullFields))
	for i, field := range store.FullFields {
		if text, ok := hash[field]; ok {
			list[i] = text
		}
	}
	return list
}

func TestARecordReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := records(t)
		hash := store.Encode(&want)
		for field, text := range hash {
			if field == "v" && len(text) > 175 {
				t.Errorf("the head takes %d bytes", len(text))
			}
			if field == "v" && strings.HasSuffix(text, "00000000") && len(text) == 33+8 {
				t.Error("a uniform record has marks")
			}
		}
		have, err := store.Decode(reply(hash))
		if err != nil {
			t.Fatal(err)
		}
		if want.Exists() {
			have.Values[compliance.ID] = compliance.TextValue("device") // It is in the key.
		}
		if have != want {
			t.Errorf("%v reads back as %v", want, have)
		}
		var light compliance.Record
		if _, err := store.DecodeHead(&light, hash["v"]); err != nil {
			t.Fatal(err)
		}
		if light.Standing() != want.Standing() || light.StoredMillis != want.StoredMillis || light.Versions != want.Versions {
			t.Errorf("%v reads from its head as %v", want, light)
		}
		for p, v := range light.Values {
			if v != want.Values[p] && (v.Kind != compliance.Unread || want.Values[p].Kind == compliance.Unset) {
				t.Errorf("property %d is %v and reads from the head as %v", p, want.Values[p], v)
			}
		}
	})
}

func TestAFloorReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringMatching(`[!->@-~]{1,40}`)
		want := compliance.Floor{
			Stream: word.Draw(t, "stream"), Created: time.Unix(0, rapid.Int64().Draw(t, "created")).UTC(),
			Sequence: rapid.Uint64Range(0, 1<<63-1).Draw(t, "sequence"),
			Layout:   compliance.Layout{Partitions: rapid.IntRange(1, 256).Draw(t, "P"), Buckets: rapid.IntRange(1, 256).Draw(t, "B")},
			Write:    word.Draw(t, "write"), Repair: rapid.Bool().Draw(t, "repair"),
		}
		if stored := rapid.Int64().Draw(t, "stored"); stored != 0 {
			want.Stored = time.Unix(0, stored).UTC()
		}
		line := store.FormatFloor(want)
		if have := store.ParseFloor(line); !have.Equal(want) || have.Absent() {
			t.Errorf("%v is written %q and reads back as %v", want, line, have)
		}
	})
}

func TestWhatIsNoFloorIsOneOfAnotherStream(t *testing.T) {
	right := store.FormatFloor(floor(7, "write"))
	lines := []string{
		"", " ", "x", right + " ", " " + right, right + " again", right + " repair repair", "\xff" + right[3:] + "\n x",
		strings.TrimSuffix(right, " write"),
		strings.Replace(right, " 7 ", " -7 ", 1), // It would be ahead of everything.
		strings.Replace(right, " 7 ", " +7 ", 1),
		strings.Replace(right, " 7 ", " 07 ", 1),
		strings.Replace(right, " 7 ", " 7.0 ", 1),
		strings.Replace(right, " 7 ", " 9223372036854775808 ", 1),
		strings.TrimPrefix(right, "COMPLIANCE_STATUS"), // It would be absent.
	}
	for _, line := range lines {
		have := store.ParseFloor(line)
		if have.Absent() || have.SameStream(floor(0, "")) || have.Stream != "?" {
			t.Errorf("%q reads as the floor %+v", line, have)
		}
		if again := store.ParseFloor(line); !again.Equal(have) {
			t.Errorf("%q reads as %v, then as %v", line, have, again)
		}
	}
}

func TestKeysReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.StringMatching(`[A-Za-z0-9_-]{1,128}`)
		want := compliance.Key{Policy: id.Draw(t, "policy"), Device: id.Draw(t, "device")}
		name, have, ok := store.Keys(compliance.Bucket(rapid.IntRange(0, 255).Draw(t, "bucket")), want)
		if !ok || have != want {
			t.Errorf("%v has the key %s, which reads back as %v", want, name, have)
		}
	})
}
