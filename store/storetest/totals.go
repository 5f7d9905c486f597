package storetest

import (
	"time"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/store"
)

// Validity is how many days a newest event is fresh in these tests.
const Validity = 30

// day returns the UTC day so many days after that of the beginning.
func day(n int) compliance.Day { return compliance.DayOf(began) + compliance.Day(n) }

func graceEnds(h *hand) {
	end := storedAt(100)
	grace := `{"status":"nonCompliant","complianceGracePeriodExpirationDateTime":"` + end.Format(time.RFC3339Nano) + `"}`
	later := `{"status":"nonCompliant","complianceGracePeriodExpirationDateTime":"` + end.AddDate(0, 0, 3).Format(time.RFC3339Nano) + `"}`
	another := compliance.Key{Policy: "6ba7b810-9dad-11d1-80b4-00c04fd430c8", Device: key().Device}
	h.apply(3, h.report(1, key(), grace, "", "1"), h.report(2, sibling(), later, "", "1"), h.report(3, another, grace, "", "1"))
	want := func(own, others int) store.Totals {
		return store.Totals{
			Policies: map[string]*store.PolicyTotals{
				key().Policy: {
					Statuses: [compliance.NumStatuses]int{compliance.StatusNonCompliant: 1}, InGrace: own,
				},
				another.Policy: {
					Statuses: [compliance.NumStatuses]int{compliance.StatusNonCompliant: 1}, InGrace: own,
				},
				sibling().Policy: {
					Statuses: [compliance.NumStatuses]int{compliance.StatusNonCompliant: 1}, InGrace: others,
				},
			},
			Devices: [compliance.NumStatuses]int{compliance.StatusNonCompliant: 1},
		}
	}
	h.wantTotals(end.Add(-time.Millisecond), want(1, 1))
	h.wantTotals(end, want(0, 1))
	h.wantTotals(end.AddDate(0, 0, 3).Add(-time.Millisecond), want(0, 1))
	h.wantTotals(end.AddDate(0, 0, 3), want(0, 0))
}

func graceSurvivesOtherReports(h *hand) {
	end := storedAt(0).AddDate(0, 0, 3)
	h.apply(1, h.report(1, key(), `{"complianceGracePeriodExpirationDateTime":"`+end.Format(time.RFC3339Nano)+`"}`, "", "1"))
	inGrace := func(n int) {
		h.t.Helper()
		totals, err := h.store.Totals(h.t.Context(), end.Add(-time.Hour), Validity)
		if err != nil || totals.Policies[key().Policy].InGrace != n {
			h.t.Errorf("want %d in grace, have %+v, %v", n, totals.Policies[key().Policy], err)
		}
	}
	inGrace(0) // The status is unknown.
	h.apply(2, h.report(2, key(), `{"status":"nonCompliant"}`, "", "1"))
	inGrace(1)
	h.apply(3, h.report(3, key(), `{"platform":1}`, "", "1"))
	inGrace(1)
	h.apply(5, h.report(4, key(), `{"status":"compliant"}`, "", "1"), h.report(5, key(), `{"status":"nonCompliant"}`, "", "1"))
	inGrace(1)
	h.apply(6, h.report(6, key(), `{"complianceGracePeriodExpirationDateTime":"9999-12-31T23:59:59.9999999Z"}`, "", "1"))
	inGrace(0)
}

func daysGoBy(h *hand) {
	old := storedAt(0).AddDate(0, 0, -40).Format(time.RFC3339)
	h.apply(2, h.report(1, key(), `{"status":"compliant"}`, old, "1"), h.report(2, sibling(), `{"status":"error"}`, "", "1"))
	want := func(own, others int) store.Totals {
		return store.Totals{
			Policies: map[string]*store.PolicyTotals{
				key().Policy: {
					Statuses: [compliance.NumStatuses]int{compliance.StatusCompliant: 1}, Stale: own,
				},
				sibling().Policy: {
					Statuses: [compliance.NumStatuses]int{compliance.StatusError: 1}, Stale: others,
				},
			},
			Devices: [compliance.NumStatuses]int{compliance.StatusError: 1},
		}
	}
	at := day(0).Start()
	h.wantTotals(at.AddDate(0, 0, -9).Add(-1), want(0, 0)) // On its 30th day it is fresh.
	h.wantTotals(at.AddDate(0, 0, -9), want(1, 0))
	h.wantTotals(at.AddDate(0, 0, 31).Add(-1), want(1, 0))
	h.wantTotals(at.AddDate(0, 0, 31), want(1, 1))
}

func worstOfADevice(h *hand) {
	var order []compliance.Status
	for _, name := range []string{"notAssigned", "unknown", "notApplicable", "compliant", "remediated", "nonCompliant", "conflict", "error"} {
		s, _ := compliance.ParseStatus(name)
		order = append(order, s)
	}
	wantDevice := func(want compliance.Status, n int) {
		h.t.Helper()
		totals, err := h.store.Totals(h.t.Context(), storedAt(0), Validity)
		if err != nil || totals.Devices[want] != n {
			h.t.Errorf("want %d devices with %s, have %v, %v", n, want, totals.Devices, err)
		}
		for s, have := range totals.Devices {
			if have != 0 && compliance.Status(s) != want {
				h.t.Errorf("%d devices are counted as %s", have, compliance.Status(s))
			}
		}
	}
	sequence := uint64(0)
	next := func(k compliance.Key, body string) {
		h.t.Helper()
		sequence++
		h.apply(sequence, h.report(sequence, k, body, "", "1"))
	}
	for i, worse := range order {
		next(key(), `{"status":"`+worse.String()+`"}`)
		for _, better := range order[:i+1] {
			next(sibling(), `{"status":"`+better.String()+`"}`)
			wantDevice(worse, 1)
		}
	}
	next(key(), `{"@removed":{}}`)
	wantDevice(compliance.StatusError, 1)
	next(sibling(), `{"@removed":{}}`)
	wantDevice(compliance.StatusError, 0)
}
