package heal_test

import (
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/complianced/complianced/internal/fleet"
	"github.com/complianced/complianced/internal/oracle"
)

// inSequence judges a case in which no bucket had reports merged again on top of
// the records that they had made.
var inSequence = oracle.Config{InSequence: true}

// settle waits until the copy has all that the stream holds, no more comes, and every
// floor is at the end, and returns how long that took.
func (d *deployment) settle() time.Duration {
	d.Helper()
	var before map[string]oracle.End
	var behind []string
	defer func() {
		if d.Failed() {
			d.Log("behind:", strings.Join(behind, "\n"))
		}
	}()
	return eventually(d.T, "every floor at the end of the stream", func() bool {
		must(d.T, d.copy.CatchUp(d.Context()))
		ends := d.ends()
		same := maps.Equal(ends, before)
		before = ends
		floors, ok := d.floors()
		behind = slices.DeleteFunc(oracle.Compare(oracle.State{Ends: ends}, floors), isNoFloor)
		return ok && same && len(behind) == 0
	})
}

// ends returns where the streams end, as far as they were copied.
func (d *deployment) ends() map[string]oracle.End {
	ends := map[string]oracle.End{}
	for _, end := range d.copy.History().Ends {
		ends[end.Stream] = end
	}
	return ends
}

func isNoFloor(difference string) bool { return !strings.Contains(difference, ":|floor ") }

// floors reads the floors alone.
func (d *deployment) floors() (oracle.Snapshot, bool) {
	floors := oracle.Snapshot{}
	for bucket := range buckets {
		key := floorKey(bucket)
		text, err := d.client.Get(d.Context(), key).Result()
		if err != nil {
			return nil, false
		}
		floors[key] = oracle.Entry{Type: "string", Text: text}
	}
	return floors, true
}

// judge ends the load, waits until nothing is behind, and holds everything against
// the oracle.
func (d *deployment) judge(config oracle.Config) oracle.State {
	d.Helper()
	d.stop()
	took := d.settle()
	state := d.compare(config)
	accepted := d.readJournal()
	d.Logf("%d reports accepted, %d records, %d dead letters; level %s after the load", accepted, len(state.Records), len(state.Rejected), took.Round(time.Millisecond))
	return state
}

// compare holds Redis and the dead letters against the copy, at rest.
func (d *deployment) compare(config oracle.Config) oracle.State {
	d.Helper()
	state := oracle.Fold(d.copy.History(), config)
	d.compareRedis(state)
	letters, err := oracle.ReadDeadLetters(d.Context(), d.nc)
	must(d.T, err)
	d.wantNone("dead letters", oracle.CompareDeadLetters(state, letters))
	return state
}

func (d *deployment) compareRedis(state oracle.State) {
	d.Helper()
	d.wantNone("Redis", oracle.Compare(state, d.snapshot()))
}

func (d *deployment) snapshot() oracle.Snapshot {
	d.Helper()
	have, err := oracle.ReadRedis(d.Context(), d.client)
	must(d.T, err)
	return have
}

// wantNone fails with the first of the differences.
func (d *deployment) wantNone(what string, differences []string) {
	d.Helper()
	if n := len(differences); n > 0 {
		d.Errorf("%s: %d differences from the oracle:\n%s", what, n, strings.Join(differences[:min(n, 12)], "\n"))
	}
}

// readJournal checks that the copy has every accepted report under its sequence, and
// returns how many there are.
func (d *deployment) readJournal() int {
	d.Helper()
	type place struct {
		sequence uint64
		id       string
	}
	copied := map[place]bool{}
	for _, m := range d.copy.History().Messages {
		for _, id := range m.Header["ce-id"] {
			copied[place{m.Sequence, id}] = true
		}
	}
	file, err := os.Open(d.load.Journal)
	must(d.T, err)
	defer file.Close()
	accepted := 0
	var lost []string
	for entry, err := range fleet.ReadJournal(file) {
		must(d.T, err)
		accepted++
		if !copied[place{entry.Sequence, entry.ID}] {
			lost = append(lost, itoa(int(entry.Sequence))+" "+entry.ID)
		}
	}
	d.wantNone("the copy lacks accepted reports", lost)
	if least := int(length.seconds * float64(length.rate)); accepted < least {
		d.Errorf("only %d reports were accepted, want %d", accepted, least)
	}
	return accepted
}
