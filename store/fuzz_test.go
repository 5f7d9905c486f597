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

// FuzzDecodeRecord gives every field any text, or none.
func FuzzDecodeRecord(f *testing.F) {
	f.Add(head(".", v0, nil, ""), "", uint16(1))
	f.Add(head("4", v0, nil, ""), "name", uint16(0xffff))
	f.Add(head("4", v0, nil, "12345670", v1, v2, v3, v4, v5, v6, v7), "name", uint16(0xffff))
	f.Add(head("4", v0, nil, "0.100000", v1), "8", uint16(5))
	f.Add(tombstone(v0, 12), "", uint16(1))
	f.Fuzz(func(t *testing.T, head, value string, there uint16) {
		hash := map[string]string{}
		for i, field := range store.FullFields {
			if there>>i&1 != 0 {
				hash[field] = value
			}
		}
		if _, ok := hash["v"]; ok {
			hash["v"] = head
		}
		record, err := store.Decode(reply(hash))
		if err != nil || record.Empty() {
			return
		}
		_ = record.JSON("device")
		again, err := store.Decode(reply(store.Encode(&record)))
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
