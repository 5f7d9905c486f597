package store_test

import (
	"testing"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/store"
)

func FuzzParseFloor(f *testing.F) {
	f.Add(store.FormatFloor(floor(7, "write-1")))
	f.Add(store.FormatFloor(compliance.Floor{Stream: "S", Created: began, Layout: layout, Write: "w", Repair: true}))
	f.Add("")
	f.Fuzz(func(t *testing.T, line string) {
		have := store.ParseFloor(line)
		if have.Stream == "?" {
			return
		}
		if again := store.ParseFloor(store.FormatFloor(have)); !again.Equal(have) {
			t.Errorf("%q reads as %v, which reads back as %v", line, have, again)
		}
	})
}

func FuzzDecodeRecord(f *testing.F) {
	f.Add("", "", "", "", "")
	f.Add("00000000000000010000000000000002", "0.......", "", "4", "name")
	f.Add("00000000000000010000000000000002", "", "12", "", "")
	f.Fuzz(func(t *testing.T, newest, others, stored, status, name string) {
		field := func(text string) any {
			if text == "" {
				return nil
			}
			return text
		}
		full := []any{field(newest), field(others), field(stored), field(name), nil, nil, nil, nil, field(status), nil, nil}
		record, err := store.Decode(full)
		if err != nil || !record.Exists() {
			return
		}
		hash := store.Encode(&record)
		again, err := store.Decode([]any{
			hash["v"], field(hash["w"]), nil, field(hash["n"]), nil, nil, nil, nil, field(hash["s"]), nil, nil,
		})
		if err != nil || again != record {
			t.Errorf("%v: %v reads back as %v", err, record, again)
		}
	})
}

func TestARecordKeyReadsBackAndNoOtherKeyIsOne(t *testing.T) {
	name, back, ok := store.Keys(10, compliance.Key{Policy: "p-1", Device: "d_2"})
	if name != "cs:{0a}:p-1:d_2" || !ok || back != (compliance.Key{Policy: "p-1", Device: "d_2"}) {
		t.Error(name, back, ok)
	}
	for _, other := range []compliance.Key{{Policy: "|counts"}, {Policy: "a|b", Device: "c"}, {Policy: "a"}} {
		if name, _, ok := store.Keys(0, other); ok {
			t.Errorf("%s reads as the key of a record", name)
		}
	}
}
