package storetest

import (
	"encoding/json"

	diff "github.com/google/go-cmp/cmp"

	"github.com/complianced/complianced/compliance"
)

// values are those of a record of the device with these besides its id.
func values(set map[compliance.Property]compliance.Value) [compliance.NumProperties]compliance.Value {
	all := [compliance.NumProperties]compliance.Value{compliance.ID: compliance.TextValue(key().Device)}
	for p, v := range set {
		all[p] = v
	}
	return all
}

func firstReport(h *hand) {
	h.wantCounts(table{})
	if record := h.get(key()); !record.Empty() {
		h.t.Errorf("an empty store holds %v", record)
	}
	if floor := h.floorThere(); !floor.Absent() {
		h.t.Errorf("an empty store has the floor %v", floor)
	}
	r := h.report(1, key(), `{"status":"error","platform":-0}`, older, "1")
	effects := h.apply(1, r)
	want := []compliance.Effect{{Outcome: compliance.Applied, After: compliance.Standing{Exists: true, Status: compliance.StatusError}}}
	if d := diff.Diff(want, effects); d != "" {
		h.t.Errorf("effects (-want +have):\n%s", d)
	}
	h.wantValues(key(), values(map[compliance.Property]compliance.Value{
		compliance.StatusProperty: compliance.TextValue("5"),
		compliance.Platform:       compliance.TextValue("0"),
	}))
	if have := h.get(key()); have.Newest() != r.Version {
		h.t.Errorf("the newest version is %v, not %v", have.Newest(), r.Version)
	}
	h.wantCounts(table{key().Policy: {compliance.StatusError: 1}})
	if have := h.floorThere(); !have.Equal(h.at) {
		h.t.Errorf("the floor is %v, not %v", have, h.at)
	}
}

func threeStates(h *hand) {
	h.apply(1, h.report(1, key(), `{"userName":"ann","deviceModel":"","deviceDisplayName":null}`, older, "1"))
	want := map[compliance.Property]compliance.Value{
		compliance.UserName:          compliance.TextValue("ann"),
		compliance.DeviceModel:       compliance.TextValue(""),
		compliance.DeviceDisplayName: {Kind: compliance.Null},
	}
	h.wantValues(key(), values(want))
	h.apply(2, h.report(2, key(), `{}`, newer, "2"))
	h.wantValues(key(), values(want)) // Absent never alters.
	h.apply(3, h.report(3, key(), `{"userName":null,"deviceModel":null,"deviceDisplayName":""}`, newer, "3"))
	h.wantValues(key(), values(map[compliance.Property]compliance.Value{
		compliance.UserName:          {Kind: compliance.Null},
		compliance.DeviceModel:       {Kind: compliance.Null},
		compliance.DeviceDisplayName: compliance.TextValue(""),
	}))
}

func countsFollow(h *hand) {
	h.apply(1, h.report(1, key(), `{"userName":"ann"}`, older, "1"))
	h.wantCounts(table{key().Policy: {compliance.StatusUnknown: 1}}) // Never set reads as unknown.
	h.apply(2, h.report(2, key(), `{"status":"compliant"}`, older, "2"))
	h.wantCounts(table{key().Policy: {compliance.StatusCompliant: 1}})
	h.apply(4, h.report(3, key(), `{"status":"error"}`, newer, "3"), h.report(4, key(), `{"status":"conflict"}`, newer, "4"))
	// Both have one time; which id is the greater is up to the hash.
	record := h.get(key())
	want := table{key().Policy: {}}
	counts := want[key().Policy]
	counts[record.Status()] = 1
	want[key().Policy] = counts
	h.wantCounts(want)
}

func countsAddUp(h *hand) {
	h.apply(2, h.report(1, key(), `{"status":"error"}`, older, "1"), h.report(2, sibling(), `{"status":"error"}`, older, "1"))
	far := compliance.Key{Policy: key().Policy, Device: "device-of-another-bucket"}
	h.must(compliance.Transaction{
		Bucket: Layout().BucketOf(far.Device), To: h.floor(3),
		Reports: []*compliance.Report{h.report(3, far, `{"status":"error"}`, older, "1")},
	})
	h.wantCounts(table{key().Policy: {compliance.StatusError: 2}, sibling().Policy: {compliance.StatusError: 1}})
}

func removal(h *hand) {
	h.apply(1, h.report(1, key(), `{"status":"error"}`, older, "1"))
	effects := h.apply(2, h.report(2, key(), `{"@removed":{"reason":"deleted"}}`, newer, "2"))
	want := []compliance.Effect{{Outcome: compliance.Applied, Before: compliance.Standing{Exists: true, Status: compliance.StatusError}}}
	if d := diff.Diff(want, effects); d != "" {
		h.t.Errorf("effects (-want +have):\n%s", d)
	}
	h.wantTombstone(2)
	h.wantCounts(table{})
}

// wantTombstone expects a tombstone with the store time of a sequence.
func (h *hand) wantTombstone(sequence uint64) {
	h.t.Helper()
	record := h.get(key())
	if record.Exists() || !record.Tombstone() || record.StoredMillis != storedAt(sequence).UnixMilli() {
		h.t.Errorf("want the tombstone of %d, have %v", sequence, record)
	}
}

func removalFirst(h *hand) {
	h.wantOutcomes(h.apply(1, h.report(1, key(), `{"@removed":{}}`, newer, "2")), compliance.Applied)
	h.wantTombstone(1)
	h.wantOutcomes(h.apply(2, h.report(2, key(), `{"status":"error"}`, older, "1")), compliance.Stale)
	h.wantTombstone(2) // It has the greatest of the store times.
	h.wantCounts(table{})
}

func revival(h *hand) {
	h.apply(2, h.report(1, key(), `{"status":"error","userName":"ann"}`, older, "1"), h.report(2, key(), `{"@removed":{}}`, older, "1"))
	h.apply(3, h.report(3, key(), `{"status":"compliant"}`, newer, "2"))
	cleared := compliance.Value{Kind: compliance.Cleared}
	want := values(nil)
	for p := range want {
		want[p] = cleared
	}
	want[compliance.ID], want[compliance.StatusProperty] = compliance.TextValue(key().Device), compliance.TextValue("2")
	h.wantValues(key(), want)
	h.wantCounts(table{key().Policy: {compliance.StatusCompliant: 1}})
}

func sequence(h *hand) {
	effects := h.apply(5,
		h.report(1, key(), `{"status":"error"}`, older, "1"),
		h.report(2, sibling(), `{}`, older, "1"),
		h.report(3, key(), `{"status":"compliant"}`, newer, "2"),
		h.report(4, key(), `{"@removed":{}}`, newer, "2"),
		h.report(5, key(), `{"status":"conflict"}`, older, "1"),
	)
	standing := func(s compliance.Status) compliance.Standing { return compliance.Standing{Exists: true, Status: s} }
	want := []compliance.Effect{
		{Outcome: compliance.Applied, After: standing(compliance.StatusError)},
		{Outcome: compliance.Applied, After: standing(compliance.StatusUnknown)},
		{Outcome: compliance.Applied, Before: standing(compliance.StatusError), After: standing(compliance.StatusCompliant)},
		{Outcome: compliance.Applied, Before: standing(compliance.StatusCompliant)},
		{Outcome: compliance.Stale},
	}
	if d := diff.Diff(want, effects); d != "" {
		h.t.Errorf("effects (-want +have):\n%s", d)
	}
	h.wantTombstone(5)
	h.wantCounts(table{sibling().Policy: {compliance.StatusUnknown: 1}})
}

func ties(h *hand) {
	h.apply(1, h.report(1, key(), `{"userName":"m","deviceModel":"m","userPrincipalName":"m","status":"remediated"}`, older, "1"))
	h.apply(2, h.report(2, key(), `{"userName":"n","deviceModel":"l","userPrincipalName":null,"status":"compliant"}`, older, "1"))
	h.wantValues(key(), values(map[compliance.Property]compliance.Value{
		compliance.UserName:          compliance.TextValue("n"),
		compliance.DeviceModel:       compliance.TextValue("m"),
		compliance.UserPrincipalName: compliance.TextValue("m"), // Null is lower than any text.
		compliance.StatusProperty:    compliance.TextValue("3"), // By the number, not by the name.
	}))
	h.wantOutcomes(h.apply(3, h.report(3, key(), `{"@removed":{}}`, older, "1")), compliance.Applied)
	h.wantTombstone(3) // Cleared is greater than any text.
}

func reply(h *hand) {
	h.apply(1, h.report(1, key(), `{"status":"error","userName":"ann"}`, older, "1"))
	asks := func(sequence uint64, body string) *compliance.Report {
		return h.decode(sequence, key(), body, map[string][]string{compliance.HeaderReply: {"token"}, compliance.HeaderEventTime: {newer}})
	}
	effects := h.apply(4,
		h.report(2, key(), `{"platform":1}`, newer, "2"), asks(3, `{"deviceModel":"x"}`), h.report(4, key(), `{"platform":2}`, newer, "2"))
	if effects[0].Record != nil || effects[2].Record != nil {
		h.t.Error("who did not ask got the record")
	}
	want := map[string]any{
		"@odata.type": compliance.ODataType, "id": key().Device, "status": "error", "userName": "ann", "deviceModel": "x",
		"platform": 1.0, "deviceDisplayName": nil, "userPrincipalName": nil,
		"complianceGracePeriodExpirationDateTime": compliance.NoGracePeriod, "lastReportedDateTime": compliance.NeverReported,
	}
	var have map[string]any
	if err := json.Unmarshal(effects[1].Record, &have); err != nil {
		h.t.Fatalf("the record is no JSON: %v", err)
	}
	if d := diff.Diff(want, have); d != "" {
		h.t.Errorf("record (-want +have):\n%s", d)
	}
}

func outcomes(h *hand) {
	first := `{"status":"error","userName":"ann"}`
	h.wantOutcomes(h.apply(1, h.report(1, key(), first, older, "1")), compliance.Applied)
	h.wantOutcomes(h.apply(2, h.report(2, key(), first, older, "1")), compliance.Unchanged)
	h.wantOutcomes(h.apply(3, h.report(3, key(), `{"userName":"bob"}`, newer, "2")), compliance.Applied)
	h.wantOutcomes(h.apply(4, h.report(4, key(), first, older, "1")), compliance.Unchanged) // Its status is still there.
	h.wantOutcomes(h.apply(5, h.report(5, key(), `{"status":"error"}`, newer, "2")), compliance.Applied)
	h.wantOutcomes(h.apply(6, h.report(6, key(), first, older, "1")), compliance.Stale)
	h.wantOutcomes(h.apply(7, h.report(7, key(), `{"deviceModel":"x"}`, older, "1")), compliance.Applied) // Older, but nothing newer set it.
}
