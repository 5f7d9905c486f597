package fleet

import (
	"math/bits"
	"math/rand/v2"
	"time"

	"github.com/complianced/complianced/compliance"
)

// Kind says what a report does.
type Kind uint8

// The kinds.
const (
	// Full reports set every property.
	Full Kind = iota
	// Partial reports set some properties, or none.
	Partial
	// Removal reports delete the record.
	Removal
	// Bad reports break a rule.
	Bad
)

// Report is one report to publish.
type Report struct {
	// Index is the report's number among those made, from 0. A duplicate has that
	// of the report that it repeats.
	Index uint64
	// Key is zero where Subject is not a report's.
	Key     compliance.Key
	Subject string
	EventID string
	// Time is the event time, in ticks of 100 ns, in UTC.
	Time time.Time
	Body []byte
	Kind Kind
	// Code is what a bad report is refused with; empty for all others.
	Code compliance.Code
	// Late, Reordered and Duplicate say what happened on the way.
	Late      bool
	Reordered bool
	Duplicate bool

	record uint64
	// wait is after how many reports this one is sent, again after how many its
	// duplicate is; 0 is at once and never.
	wait, again int
}

// Fleet makes reports. It is not safe for concurrent use.
type Fleet struct {
	options Options
	records uint64
	times   timeline
	rounds  permutation
	// first is the share of introductions, in parts of firstUnit.
	first  uint64
	source rand.PCG
	random *rand.Rand
	// made is the index of the next report.
	made  uint64
	queue queue
}

// New returns a fleet. The options are those that [Options.Validate] takes.
func New(options Options) *Fleet {
	options = options.withDefaults()
	f := &Fleet{options: options, records: uint64(options.Devices) * uint64(options.Policies), first: introductions(options)}
	f.random = rand.New(&f.source)
	f.times = newTimeline(options, f.number(forLate, 0))
	f.rounds = newPermutation(f.records, f.number(forRounds, 0))
	return f
}

// Records returns how many records there are: devices times policies. In the mixes
// Worst and Steady it is the length of a round.
func (f *Fleet) Records() uint64 { return f.records }

// Seek makes the report with this index the next one. What is still to be sent
// from before is dropped.
func (f *Fleet) Seek(i uint64) { f.made, f.queue = i, queue{} }

// Next returns the next report to send.
func (f *Fleet) Next() Report {
	for {
		if r, due := f.queue.due(); due {
			return r
		}
		r := f.At(f.made)
		f.made++
		if r.again > 0 {
			duplicate := r
			duplicate.Duplicate = true
			f.queue.put(duplicate, r.again)
		}
		if r.wait > 0 {
			delayed := r
			delayed.Reordered = true
			if f.queue.put(delayed, r.wait) {
				continue
			}
		}
		f.queue.pass()
		return r
	}
}

// Held returns how many reports wait to be sent later.
func (f *Fleet) Held() int { return f.queue.n }

// Drain returns the next of the reports that wait, out of turn, and false where
// none does. It is for the end of a load.
func (f *Fleet) Drain() (Report, bool) {
	if f.queue.n == 0 {
		return Report{}, false
	}
	for {
		if r, due := f.queue.due(); due {
			return r, true
		}
		f.queue.pass()
	}
}

// At returns the report with a certain index, whatever was asked for before.
func (f *Fleet) At(i uint64) Report {
	f.source.Seed(f.number(forDraws, i), i)
	var r Report
	switch f.options.Mix {
	case Worst:
		r = f.worst(i)
	case Steady:
		r = f.steady(i)
	case Default:
		r = f.mixed(i)
	}
	if f.chance(f.options.Reorder) {
		r.wait = 1 + f.random.IntN(queueLength-1)
	}
	if f.chance(f.options.Duplicates) {
		r.again = 1 + f.random.IntN(maxAgain)
	}
	return r
}

func (f *Fleet) chance(share float64) bool { return share > 0 && f.random.Float64() < share }

// mixed is a report of the mix Default.
func (f *Fleet) mixed(i uint64) Report {
	record, rest := f.random.Uint64N(f.records), 1.
	late := f.chance(f.options.Late)
	if n, is := f.introduction(i); n < f.records {
		// While devices introduce themselves, the rest of the reports makes up for the
		// kinds that an introduction is not.
		if rest = 1 - float64(f.first)/firstUnit; is {
			return f.full(f.report(i, n, late))
		}
	}
	r := f.report(i, record, late)
	of := f.random.Float64() * rest
	if of -= f.options.Bad; of < 0 {
		return f.bad(r)
	}
	if of -= f.options.Removed; of < 0 {
		return f.removal(r)
	}
	if of -= f.options.Partial; of < 0 {
		return f.partial(r)
	}
	return f.full(r)
}

// firstUnit is a share of 1 in the unit of Fleet.first.
const firstUnit = 1 << 20

// introductions returns the share of introductions while there are any: half of the
// reports, or what the other kinds leave.
func introductions(o Options) uint64 {
	return uint64(min(0.5, 1-o.others()) * firstUnit)
}

// introduction returns how many introductions come before report i, and whether it is
// one itself, as long as there are any.
func (f *Fleet) introduction(i uint64) (n uint64, is bool) {
	before := func(i uint64) uint64 {
		high, low := bits.Mul64(i, f.first)
		low, carry := bits.Add64(low, firstUnit-1, 0)
		return (high+carry)<<(64-20) | low>>20
	}
	n = before(i)
	return n, before(i+1) > n
}

// report returns report i, of a record, without its body.
func (f *Fleet) report(i, record uint64, late bool) Report {
	policy, device := f.split(record)
	r := Report{
		Index:  i,
		Time:   f.times.at(i, f.clock(device), late),
		Late:   late,
		record: record,
	}
	text := make([]byte, 0, 36)
	r.EventID = string(f.appendUUID(text, forEvents, i))
	r.Subject, r.Key = f.subject(policy, device)
	return r
}

// split returns the numbers of policy and device of a record.
func (f *Fleet) split(record uint64) (policy, device uint64) {
	devices := uint64(f.options.Devices)
	return record / devices, record % devices
}

func (f *Fleet) clock(device uint64) int { return int(f.number(forClocks, device) % clocks) }

// Key returns the ids of a device and a policy by their numbers, from 0.
func (f *Fleet) Key(device, policy int) compliance.Key {
	_, key := f.subject(uint64(policy), uint64(device))
	return key
}

// subject returns a report's subject, and the key as parts of it.
func (f *Fleet) subject(policy, device uint64) (string, compliance.Key) {
	const prefix, id = len(compliance.StatusPrefix), 36
	text := append(make([]byte, 0, prefix+2*id+1), compliance.StatusPrefix...)
	text = f.appendUUID(text, forPolicies, policy)
	text = f.appendUUID(append(text, '.'), forDevices, device)
	subject := string(text)
	return subject, compliance.Key{Policy: subject[prefix : prefix+id], Device: subject[prefix+id+1:]}
}
