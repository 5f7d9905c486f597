package store

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/complianced/complianced/compliance"
)

// Memory is the store in a process's memory, for tests: the plainest thing that
// keeps the contract of [Redis.Apply]. It merges by [compliance.Record.Merge], takes
// expired tombstones away, and counts its records when asked. It is safe for concurrent use.
type Memory struct {
	tombstones time.Duration

	mu      sync.Mutex
	buckets map[compliance.Bucket]*memoryBucket
}

type memoryBucket struct {
	floor   compliance.Floor
	records map[compliance.Key]*compliance.Record
	gaps    map[string]compliance.Gap
}

// NewMemory returns an empty store that keeps tombstones as [Options.Tombstones]
// says.
func NewMemory(tombstones time.Duration) *Memory {
	return &Memory{tombstones: tombstones, buckets: map[compliance.Bucket]*memoryBucket{}}
}

func (m *Memory) bucket(b compliance.Bucket) *memoryBucket {
	if m.buckets[b] == nil {
		m.buckets[b] = &memoryBucket{
			records: map[compliance.Key]*compliance.Record{},
			gaps:    map[string]compliance.Gap{},
		}
	}
	return m.buckets[b]
}

// Apply has the contract of [Redis.Apply].
func (m *Memory) Apply(_ context.Context, tx compliance.Transaction) ([]compliance.Effect, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.bucket(tx.Bucket)
	switch {
	case b.floor.Equal(tx.To):
		return nil, nil
	case !b.floor.Equal(tx.From):
		return nil, &compliance.FloorError{Bucket: tx.Bucket, Want: tx.From, Have: b.floor}
	}
	effects := make([]compliance.Effect, len(tx.Reports))
	for i, report := range tx.Reports {
		record := b.records[report.Key]
		if record == nil {
			record = &compliance.Record{}
			b.records[report.Key] = record
		}
		effects[i], _ = mergeOne(record, report, m.tombstones)
	}
	b.expire(tx.To.Stored, m.tombstones)
	if tx.Accept {
		clear(b.gaps)
	}
	for _, gap := range tx.Gaps {
		b.gaps[gapField(gap)] = gap
	}
	b.floor = tx.To
	return effects, nil
}

// expire takes the oldest expired tombstones away, as many as one transaction takes.
func (b *memoryBucket) expire(stored time.Time, keep time.Duration) {
	var expired []compliance.Key
	for key, record := range b.records {
		if record.Expired(stored, keep) {
			expired = append(expired, key)
		}
	}
	slices.SortFunc(expired, func(x, y compliance.Key) int {
		return cmp.Or(cmp.Compare(b.records[x].StoredMillis, b.records[y].StoredMillis), cmp.Compare(member(x), member(y)))
	})
	for _, key := range expired[:min(len(expired), maxExpired)] {
		delete(b.records, key)
	}
}

// Get has the contract of [Redis.Get].
func (m *Memory) Get(_ context.Context, key compliance.Key) (compliance.Record, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range m.buckets {
		if record := b.records[key]; record != nil {
			return *record, nil
		}
	}
	return compliance.Record{}, nil
}

// Counts has the contract of [Redis.Counts].
func (m *Memory) Counts(context.Context) (map[string][compliance.NumStatuses]int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	totals := map[string][compliance.NumStatuses]int{}
	for _, b := range m.buckets {
		for key, record := range b.records {
			if record.Exists() {
				of := totals[key.Policy]
				of[record.Status()]++
				totals[key.Policy] = of
			}
		}
	}
	return totals, nil
}

// Floors has the contract of [Redis.Floors].
func (m *Memory) Floors(_ context.Context, buckets []compliance.Bucket) ([]compliance.Floor, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	floors := make([]compliance.Floor, len(buckets))
	for i, b := range buckets {
		floors[i] = m.bucket(b).floor
	}
	return floors, nil
}

// Gaps has the contract of [Redis.Gaps].
func (m *Memory) Gaps(_ context.Context, buckets []compliance.Bucket) ([][]compliance.Gap, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	gaps := make([][]compliance.Gap, len(buckets))
	for i, b := range buckets {
		gaps[i] = slices.Collect(maps.Values(m.bucket(b).gaps))
	}
	return gaps, nil
}

// Lose forgets all that the store holds, as a server that lost its disk.
func (m *Memory) Lose() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.buckets)
}

// Snapshot returns a function that puts back what the store holds now, as a
// server does that starts from an old copy.
func (m *Memory) Snapshot() (restore func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	saved := m.copyBuckets(m.buckets)
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.buckets = m.copyBuckets(saved)
	}
}

func (m *Memory) copyBuckets(buckets map[compliance.Bucket]*memoryBucket) map[compliance.Bucket]*memoryBucket {
	twins := map[compliance.Bucket]*memoryBucket{}
	for n, b := range buckets {
		twin := &memoryBucket{floor: b.floor, records: map[compliance.Key]*compliance.Record{}, gaps: maps.Clone(b.gaps)}
		for key, record := range b.records {
			twin.records[key] = new(*record)
		}
		twins[n] = twin
	}
	return twins
}

// Totals has the contract of [Redis.Totals].
func (m *Memory) Totals(_ context.Context, now time.Time, validity int) (Totals, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	totals := newTotals()
	for _, b := range m.buckets {
		for _, of := range b.derive().rollups {
			if worst, ok := of.worst(); ok {
				totals.Devices[worst]++
			}
		}
		for key, record := range b.records {
			f := record.Facts()
			if !f.Exists {
				continue
			}
			p := totals.policy(key.Policy)
			p.Statuses[f.Status]++
			if f.InGrace(now) {
				p.InGrace++
			}
			if f.Stale(now, validity) {
				p.Stale++
			}
		}
	}
	return totals, nil
}

// derive returns all that follows from the records.
func (b *memoryBucket) derive() *derived {
	d := newDerived()
	for key, record := range b.records {
		d.add(key, record)
	}
	return d
}

// Dump returns every record and tombstone as Redis would have it: the hashes by key.
func (m *Memory) Dump() map[string]map[string]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	dump := map[string]map[string]string{}
	for n, b := range m.buckets {
		for key, record := range b.records {
			hash := map[string]string{}
			for pair := range slices.Chunk(encode(record), 2) {
				hash[pair[0]] = pair[1]
			}
			dump[recordKey(n, key)] = hash
		}
	}
	return dump
}
