package compliance_test

import (
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/complianced/complianced/compliance"
)

// orders are the ways in which three reports can come.
var orders = [6][3]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}}

// world returns every report over three properties, each absent, null, "a" or
// "b", at three event times with two event ids, and every deletion of these
// times and ids.
func world() []compliance.Report {
	var reports []compliance.Report
	values := []compliance.Value{{}, {Kind: compliance.Null}, compliance.TextValue("a"), compliance.TextValue("b")}
	for time := range compliance.Ticks(3) {
		for id := range uint64(2) {
			version := compliance.Version{Time: time + 1, ID: id + 1}
			for n := range len(values) * len(values) * len(values) {
				r := compliance.Report{Version: version}
				r.Values[compliance.ID] = compliance.TextValue("d")
				r.Values[compliance.UserName] = values[n%4]
				r.Values[compliance.DeviceModel] = values[n/4%4]
				r.Values[compliance.UserPrincipalName] = values[n/16]
				reports = append(reports, r)
			}
			r := compliance.Report{Version: version, Removed: true}
			for p := range r.Values {
				r.Values[p] = compliance.Value{Kind: compliance.Cleared}
			}
			reports = append(reports, r)
		}
	}
	return reports
}

// renamings returns, for each of the six renamings of the three properties, which
// report of the world each report becomes.
func renamings(reports []compliance.Report) [6][]int {
	index := map[compliance.Report]int{}
	for i, r := range reports {
		index[r] = i
	}
	var renamings [6][]int
	for n, order := range orders {
		for _, r := range reports {
			renamed := r
			for from, to := range order {
				renamed.Values[triplet[to]] = r.Values[triplet[from]]
			}
			renamings[n] = append(renamings[n], index[renamed])
		}
	}
	return renamings
}

// standsFor returns how many triples of reports the renamings of the three
// properties make of one, and 0 unless this one is the first among them.
func standsFor(renamings *[6][]int, triple [3]int) int {
	same := 0
	for _, renaming := range renamings {
		other := [3]int{renaming[triple[0]], renaming[triple[1]], renaming[triple[2]]}
		slices.Sort(other[:])
		switch slices.Compare(other[:], triple[:]) {
		case -1:
			return 0
		case 0:
			same++
		}
	}
	return len(renamings) / same
}

// All triples of reports of the world in all six orders, each with its first
// report delivered a second time at the end. The reports are the 64 patches of
// three properties that are absent, null, a or b, and a deletion, at each of
// three event times with each of two event ids; a triple may have equal reports.
//
// The law has no preference among the three properties, so of all triples that
// renaming them makes of one, the first stands for all. That none is forgotten
// is checked: those that are stood for are as many as there are triples.
//
// That the enumeration can fail is checked too: three rules that look right are
// wrong in many of the cases, counted on every 16th triple.
func TestAllTriplesOfReportsInAllOrders(t *testing.T) {
	const naive = 16
	reports := world()
	all := renamings(reports)
	tallies := make([]tally, runtime.GOMAXPROCS(0))
	var workers sync.WaitGroup
	for w := range tallies {
		workers.Go(func() {
			n := &tallies[w]
			for i := w; i < len(reports); i += len(tallies) {
				for j := i; j < len(reports); j++ {
					for k := j; k < len(reports); k++ {
						weight := standsFor(&all, [3]int{i, j, k})
						if n.triples += weight; weight == 0 {
							continue
						}
						if n.firsts++; n.firsts%thinning != 0 {
							continue
						}
						triple := [3]*compliance.Report{&reports[i], &reports[j], &reports[k]}
						want := lawOfTriple(&triple)
						n.law(t, &triple, &want)
						if n.firsts%naive == 0 {
							n.naive(&triple, &want, weight)
						}
					}
				}
			}
		})
	}
	workers.Wait()
	var sum tally
	for _, n := range tallies {
		sum.add(n)
	}
	if want := len(reports) * (len(reports) + 1) * (len(reports) + 2) / 6; sum.triples != want {
		t.Errorf("the triples looked at stand for %d, want %d", sum.triples, want)
	}
	if sum.wrong > 0 {
		t.Errorf("the law is wrong in %d cases", sum.wrong)
	}
	share := func(n int) float64 { return 100 * float64(n) / float64(sum.sampled) }
	t.Logf("%d reports make %d triples; %d stand for all; %d cases merged, the law is wrong in %d", len(reports), sum.triples, sum.firsts, sum.cases, sum.wrong)
	t.Logf("arrival order is wrong in %.0f %%, newest record wins in %.0f %%, newest per property that forgets cleared values in %.0f %%",
		share(sum.arrival), share(sum.record), share(sum.forgetting))
	if share(sum.arrival) < 10 || share(sum.record) < 10 || share(sum.forgetting) < 10 {
		t.Error("a naive rule is right in nearly all cases: the enumeration shows nothing")
	}
}

// triplet are the properties that the reports of the world set.
var triplet = [3]compliance.Property{compliance.UserName, compliance.DeviceModel, compliance.UserPrincipalName}

// tally counts triples and cases. A case is a triple in one order.
type tally struct {
	// triples are those stood for, firsts those that stand for them.
	triples, firsts int
	// cases are those merged, wrong those in which the law was wrong.
	cases, wrong int
	// sampled are the cases in which the naive rules were tried, the others those
	// in which each was wrong.
	sampled, arrival, record, forgetting int
}

func (n *tally) add(m tally) {
	n.triples += m.triples
	n.firsts += m.firsts
	n.cases += m.cases
	n.wrong += m.wrong
	n.sampled += m.sampled
	n.arrival += m.arrival
	n.record += m.record
	n.forgetting += m.forgetting
}

func (n *tally) law(t *testing.T, triple *[3]*compliance.Report, want *compliance.Record) {
	t.Helper()
	for _, order := range orders {
		var record compliance.Record
		for _, i := range [4]int{order[0], order[1], order[2], order[0]} {
			record.Merge(triple[i])
		}
		n.cases++
		record.StoredMillis = 0
		if record != *want {
			if n.wrong++; n.wrong == 1 {
				t.Errorf("in order %v the record is\n%+v, want\n%+v, of\n%+v\n%+v\n%+v", order, record, *want, *triple[0], *triple[1], *triple[2])
			}
		}
	}
}

func (n *tally) naive(triple *[3]*compliance.Report, want *compliance.Record, weight int) {
	for _, order := range orders {
		come := []*compliance.Report{triple[order[0]], triple[order[1]], triple[order[2]]}
		n.sampled += weight
		if visible(arrivalOrder(come)) != visible(*want) {
			n.arrival += weight
		}
		if visible(newestRecord(come)) != visible(*want) {
			n.record += weight
		}
		if visible(forgetting(come)) != visible(*want) {
			n.forgetting += weight
		}
	}
}

// lawOfTriple is lawOf without its allocations. TestTheFastOracle holds the two
// against each other.
func lawOfTriple(triple *[3]*compliance.Report) compliance.Record {
	var record compliance.Record
	for p := range record.Values {
		var best write
		for _, r := range triple {
			if w, sets := writeOf(r, compliance.Property(p)); sets && (best.rank == 0 || compareWrites(w, best) > 0) {
				best = w
				record.Values[p] = r.Values[p]
			}
		}
		record.Versions[p] = compliance.Version{Time: compliance.Ticks(best.time), ID: best.id}
	}
	return record
}

func TestTheFastOracle(t *testing.T) {
	reports := world()
	for i := range reports {
		j, k := (i*7+3)%len(reports), (i*31+11)%len(reports)
		fast := lawOfTriple(&[3]*compliance.Report{&reports[i], &reports[j], &reports[k]})
		if slow := lawOf([]compliance.Report{reports[i], reports[j], reports[k]}); fast != slow {
			t.Fatalf("fast %+v, slow %+v", fast, slow)
		}
	}
}

// seen is what a reader sees of a record of the world.
type seen struct {
	exists bool
	values [3]compliance.Value
}

func visible(r compliance.Record) seen {
	s := seen{exists: r.Values[compliance.ID].Kind == compliance.Text}
	for i, p := range triplet {
		if v := r.Values[p]; v.Kind == compliance.Text {
			s.values[i] = v // Null, cleared and unset read alike: as null.
		}
	}
	return s
}

// The naive rules. Each is what a program does that does not have the law.

func set(record *compliance.Record, report *compliance.Report, p int) {
	record.Values[p], record.Versions[p] = report.Values[p], report.Version
}

// arrivalOrder applies every report as it comes.
func arrivalOrder(reports []*compliance.Report) compliance.Record {
	var record compliance.Record
	for _, report := range reports {
		for p, v := range report.Values {
			if v.Kind != compliance.Unset {
				set(&record, report, p)
			}
		}
	}
	return record
}

// newestRecord applies a report unless the record has seen a newer one.
func newestRecord(reports []*compliance.Report) compliance.Record {
	var record compliance.Record
	var newest compliance.Version
	for _, report := range reports {
		if report.Version.Compare(newest) < 0 {
			continue
		}
		newest = report.Version
		for p, v := range report.Values {
			if v.Kind != compliance.Unset {
				set(&record, report, p)
			}
		}
	}
	return record
}

// forgetting takes the newest of each property, the value as the last tie-break,
// but takes null and deletions as reasons to drop the property with its version.
func forgetting(reports []*compliance.Report) compliance.Record {
	var record compliance.Record
	for _, report := range reports {
		for p, v := range report.Values {
			if v.Kind == compliance.Unset {
				continue
			}
			w, _ := writeOf(report, compliance.Property(p))
			old := write{time: uint64(record.Versions[p].Time), id: record.Versions[p].ID, rank: rankText, text: record.Values[p].Text}
			if record.Values[p].Kind == compliance.Text && compareWrites(w, old) <= 0 {
				continue
			}
			set(&record, report, p)
			if v.Kind != compliance.Text {
				record.Values[p], record.Versions[p] = compliance.Value{}, compliance.Version{}
			}
		}
	}
	return record
}

func TestTheOrdersAreAllOrders(t *testing.T) {
	distinct := map[[3]int]bool{}
	for _, order := range orders {
		sorted := order
		slices.Sort(sorted[:])
		if sorted != [3]int{0, 1, 2} {
			t.Errorf("%v is no order", order)
		}
		distinct[order] = true
	}
	if len(distinct) != 6 {
		t.Errorf("there are %d orders, want 6", len(distinct))
	}
}
