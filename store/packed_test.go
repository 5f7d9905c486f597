package store_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/store"
)

func TestAPackedKeyReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := compliance.Key{Policy: anyID().Draw(t, "policy"), Device: anyID().Draw(t, "device")}
		have := store.PackKey(key)
		if want, member := packed(key), store.MemberOf(key)(); have != want || member != want {
			t.Fatalf("%q, in a transaction %q, not %q", have, member, want)
		}
		if back, ok := store.UnpackKey(have); !ok || back != key {
			t.Fatalf("%q reads back as %v, %t", have, back, ok)
		}
	})
}

func TestAPackedKeyIsTheDocumentedOne(t *testing.T) {
	const upper = "A72b2760-2760-a72b-6027-2ba760272ba7"
	long := strings.Repeat("x", compliance.MaxIDLength)
	for _, test := range []struct {
		key  compliance.Key
		want string
	}{
		{compliance.Key{Policy: documented, Device: documented}, packedDocumented + packedDocumented},
		{compliance.Key{Policy: "p", Device: documented}, "\x01p" + packedDocumented},
		{compliance.Key{Policy: documented, Device: "d-1"}, packedDocumented + "\x03d-1"},
		{compliance.Key{Policy: upper, Device: long}, "\x24" + upper + "\x80" + long},
	} {
		if have := store.PackKey(test.key); have != test.want {
			t.Errorf("%v is %q", test.key, have)
		}
	}
}

func TestWhatIsNoPackedKeyIsRefused(t *testing.T) {
	for _, text := range []string{
		"", "\x01p", packedDocumented, "\x01", "\x01p\x01", "\x01p\x02d", packedDocumented[:16], "\x01p" + packedDocumented[:16],
		"\x01p\x01d\x01e", "\x01p\x01d ", packedDocumented + packedDocumented + "\x00", "\x01p\x01:", "\x01 \x01d", "p:d",
		"\x24" + documented + "\x01d", "\x01p\x24" + documented, // A UUID is stored as such.
		"\x81" + strings.Repeat("x", 129) + "\x01d", "\x01p\x81" + strings.Repeat("x", 129),
	} {
		if key, ok := store.UnpackKey(text); ok {
			t.Errorf("%q is read as %v", text, key)
		}
	}
}

func TestAMemberOfATransactionTakesNoAllocationOfItsOwn(t *testing.T) {
	member := store.MemberOf(compliance.Key{Policy: documented, Device: documented})
	hundred := func() {
		for range 100 {
			member()
		}
	}
	if n := testing.AllocsPerRun(100, hundred); n > 1 { // Of the memory that they share.
		t.Errorf("100 members take %v allocations", n)
	}
}

func FuzzPackedKey(f *testing.F) {
	f.Add(packedDocumented + "\x01d")
	f.Add("\x24" + documented + "\x01d")
	f.Add("\x01p\x01d")
	f.Fuzz(func(t *testing.T, text string) {
		key, ok := store.UnpackKey(text)
		if !ok {
			return
		}
		if again := store.PackKey(key); !key.Valid() || again != text {
			t.Fatalf("%q is read as %v and written as %q", text, key, again)
		}
	})
}
