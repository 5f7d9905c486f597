package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/complianced/complianced/compliance"
	"github.com/complianced/complianced/internal/fleet"
)

// LoadOptions describe the reports of a deployment. The same options give the same
// reports.
type LoadOptions struct {
	Mix      fleet.Mix `json:"mix"`
	Devices  int       `json:"devices"`
	Policies int       `json:"policies"`
	Seed     uint64    `json:"seed"`
	Start    time.Time `json:"start"`
}

func (o LoadOptions) fleet() (*fleet.Fleet, error) {
	options := fleet.Options{Mix: o.Mix, Devices: o.Devices, Policies: o.Policies, Seed: o.Seed, Start: o.Start}
	if err := options.Validate(); err != nil {
		return nil, usagef("%w", err)
	}
	return fleet.New(options), nil
}

// samples is how many records are compared value by value.
const samples = 500

// values are those of the nine properties, in their documented order, as they are stored.
type values [compliance.NumProperties]string

// expected is what the records must be, after all that was published.
type expected struct {
	numbers  map[compliance.Key]int
	statuses []compliance.Status
	counts   map[string][compliance.NumStatuses]int
	// every is how many records there are for each that is compared value by value.
	every   int
	samples map[compliance.Key]*values
}

func newExpected(records int) *expected {
	return &expected{
		numbers:  make(map[compliance.Key]int, records),
		statuses: make([]compliance.Status, 0, records),
		counts:   map[string][compliance.NumStatuses]int{},
		every:    max(1, records/samples),
		samples:  map[compliance.Key]*values{},
	}
}

var errReport = errors.New("a report is not as expected")

// take applies a report that is newer than all before.
func (e *expected) take(r *fleet.Report) error {
	n, known := e.numbers[r.Key]
	if !known {
		n = len(e.statuses)
		e.numbers[r.Key], e.statuses = n, append(e.statuses, compliance.StatusUnknown)
		if n%e.every == 0 {
			e.samples[r.Key] = &values{}
		}
	}
	status, set, err := statusOf(r.Body)
	if err != nil {
		return err
	}
	if !set {
		status = e.statuses[n]
	}
	of := e.counts[r.Key.Policy]
	if known {
		of[e.statuses[n]]--
	}
	of[status]++
	e.statuses[n], e.counts[r.Key.Policy] = status, of
	if sample := e.samples[r.Key]; sample != nil {
		return sample.take(r)
	}
	return nil
}

// devices returns the devices by the worst status of their records.
func (e *expected) devices() [compliance.NumStatuses]int {
	worst := map[string]compliance.Status{}
	for key, n := range e.numbers {
		if status, known := worst[key.Device]; !known || e.statuses[n].Severity() > status.Severity() {
			worst[key.Device] = e.statuses[n]
		}
	}
	var devices [compliance.NumStatuses]int
	for _, status := range worst {
		devices[status]++
	}
	return devices
}

// statusOf reads the status alone: every report is looked at, while it is published.
func statusOf(body []byte) (status compliance.Status, set bool, err error) {
	_, rest, set := bytes.Cut(body, []byte(`"status":"`))
	if !set {
		return 0, false, nil
	}
	name, _, _ := bytes.Cut(rest, []byte(`"`))
	status, valid := compliance.ParseStatus(string(name))
	if !valid {
		return 0, false, fmt.Errorf("%w: status %q", errReport, name)
	}
	return status, true, nil
}

// take sets what the report sets.
func (v *values) take(r *fleet.Report) error {
	var body map[string]json.RawMessage
	if err := json.Unmarshal(r.Body, &body); err != nil {
		return fmt.Errorf("%w: %w", errReport, err)
	}
	v[compliance.ID] = r.Key.Device
	for _, p := range compliance.Properties() {
		value, set := body[p.String()]
		if !set {
			continue
		}
		v[p] = strings.Trim(string(value), `"`)
		if status, valid := compliance.ParseStatus(v[p]); p == compliance.StatusProperty && valid {
			v[p] = string('0' + byte(status))
		}
	}
	return nil
}
